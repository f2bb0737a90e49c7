"""Says a result with geometry as the standard's own volume template does (TID 1411), for readers that follow it.

Segments are referred to where the Segmentation has them, boxes are surfaces in the patient's coordinates. Groups
without an outline on an image blank a widespread viewer: this report goes only where a profile names it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from highdicom.sr import (
    ImageRegion3D,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumeSurface,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset

from dicom_node.results.check_seg import SEGMENTATION
from dicom_node.results.coding import concept
from dicom_node.results.document import COMPREHENSIVE_3D_SR, Circumstance, document
from dicom_node.results.groups import Group, groups
from dicom_node.results.planes import frame_of, in_patient
from dicom_node.results.region import Labels
from dicom_node.results.sr import algorithm_of, complete, evaluations_of, tree
from dicom_node.results.statement import reach
from storage.facts.prediction import Detection

Points = npt.NDArray[np.float64]


def volumetric_report(
    circumstance: Circumstance, labels: Labels | None, counts: npt.NDArray[np.int64] | None
) -> Dataset | None:
    """The Comprehensive 3D SR of a prediction whose places are known in the patient; None where one is not."""
    if labels is None and not circumstance.naming.prediction.detections:
        return None
    made = groups(circumstance, labels, counts)
    templates = [_template(circumstance, group) for group in made]
    if any(template is None for template in templates):
        return None
    root = tree(circumstance, templates, [group.frame for group in made])
    return document(COMPREHENSIVE_3D_SR, root, circumstance)


def _template(circumstance: Circumstance, group: Group) -> Any:
    """A group by what it is about: a segment, something found, or the series."""
    common: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(uid=group.uid, identifier=group.identifier),
        "finding_type": concept(group.finding),
        "finding_category": concept(group.category),
        "algorithm_id": algorithm_of(circumstance.naming),
        "qualitative_evaluations": evaluations_of(group),
    }
    made: Any
    if group.segment:
        referred = _segment(circumstance, group.segment)
        if referred is None:
            return None
        made = VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=referred, **common)
    elif group.detection is not None:
        made = _surface(circumstance, group.detection, common)
    else:
        made = MeasurementsAndQualitativeEvaluations(**common)
    if made is not None:
        complete(made, group)
    return made


def _segment(circumstance: Circumstance, number: int) -> ReferencedSegment | None:
    """The segment in the Segmentation that was made before; None where none was."""
    seg = next((one for one in circumstance.made if one.SOPClassUID == SEGMENTATION), None)
    if seg is None:
        return None
    return ReferencedSegment(
        sop_class_uid=seg.SOPClassUID,
        sop_instance_uid=seg.SOPInstanceUID,
        segment_number=number,
        source_series=SourceSeriesForSegmentation(circumstance.source.series_uid),
    )


def _surface(circumstance: Circumstance, found: Detection, common: dict[str, Any]) -> Any:
    """A rectangle on each plane of a box, as one surface; a point or a box in one plane as a region (TID 1410)."""
    prediction, source = circumstance.naming.prediction, circumstance.source
    first, last = reach(found)
    rings: list[Points] = []
    reference = ""
    for index in range(first, last + 1):
        frame = prediction.frames[index]
        image = source.image(frame.sop_instance_uid)
        geometry = frame_of(image, frame.number)
        reference = str(image.get("FrameOfReferenceUID", ""))
        ring = None if geometry is None or not reference else in_patient(geometry, _corners(found))
        if ring is None:
            return None
        rings.append(ring)
    if len(rings) == 1:
        region = ImageRegion3D("POLYGON" if len(rings[0]) > 1 else "POINT", rings[0], frame_of_reference_uid=reference)
        return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **common)
    if len(rings[0]) == 1:  # a line along the normal: the middle stands for it
        middle = np.mean(rings, axis=0)
        region = ImageRegion3D("POINT", middle, frame_of_reference_uid=reference)
        return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **common)
    surface = VolumeSurface(
        "POLYGON", rings, frame_of_reference_uid=reference, source_series=SourceSeriesForSegmentation(source.series_uid)
    )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_volume_surface=surface, **common)


def _corners(found: Detection) -> Points:
    """Column and row indices of the corners, closed; one pair for a point."""
    (_, top, left), (_, bottom, right) = found.location.low, found.location.high
    if top == bottom or left == right:
        return np.array([[(left + right) / 2, (top + bottom) / 2]])
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]], np.float64)
