"""Says a mask as a Segmentation (PS3.3 A.51) on the very planes of its source.

BINARY is what every viewer that shows segmentations shows rightly; a label map is a fraction of its size, where the
destination takes it. One object a series, segments numbered from 1 in order, because viewers take colours by position
and show only the last object of a series. highdicom writes an exemplar of two frames, so that modules, macros and codes
are its own; the frames are written by columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation as HighdicomSegmentation
from highdicom.seg import SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from pydicom.valuerep import DS, format_number_as_ds

from dicom_node.config import MODEL_NAME
from dicom_node.results import packing, region
from dicom_node.results.border import highdicom
from dicom_node.results.coding import concept
from dicom_node.results.frames import Frames, Items
from dicom_node.results.grid import Grid, grid
from dicom_node.results.identity import Naming, sign, stamp
from dicom_node.results.normal import as_text, line
from dicom_node.results.planes import frame_of
from dicom_node.results.region import Labels
from dicom_node.results.source import Source
from storage.facts.errors import Rejected
from storage.facts.prediction import Segment

Counts = npt.NDArray[np.int64]

BINARY, LABELMAP = "seg", "seg-labelmap"  #: kinds of object
CONTENT_LABEL = "AI_SEGMENTATION"
CREATOR = "AI^Model"
SHOWN = 2  #: frames of the exemplar


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A segmentation: everything but its frames as a data set, and the frames."""

    header: Dataset
    frames: Frames


def segmentation(naming: Naming, source: Source, labels: Labels, counts: Counts, kind: str = BINARY) -> Written:
    """The SEG of a mask that is not empty, BINARY or a label map compressed by runs; BINARY where segments overlap.

    ``counts`` are ``region.areas`` of the labels. Raises grid.NoSegmentation where the source has no grid in the
    patient to lie on, Rejected where mask and sources do not fit together.
    """
    mask = naming.prediction.mask
    if mask is None or not naming.prediction.segments:
        raise Rejected(f"prediction {naming.prediction.key} has no mask with segments: there is nothing to segment")
    found = grid(source, mask.frames, labels)
    form = BINARY if region.overlap(labels) else kind
    shown = _shown(found, counts, form)
    made = _exemplar(naming, source, found, (kind, form))
    item = made.PerFrameFunctionalGroupsSequence[0]
    _complete(made, naming, found, (kind, form), shown)
    items = Items(item, found.planes)
    return Written(
        header=made,
        frames=Frames(
            items=[items.item(plane, index, segment) for plane, segment, index in shown],
            pixels=_pixels(found.labels, shown, form, made.BitsAllocated),
            length=packing.packed_length(found.labels, len(shown)) if form == BINARY else None,
        ),
    )


_Shown = list[tuple[int, int, tuple[int, ...]]]  #: plane, segment, Dimension Index Values


def _shown(found: Grid, counts: Counts, form: str) -> _Shown:
    """The frames that show anything, in their order: by segment, then by place."""
    planes = [int(plane) for plane in found.order if counts[plane, 1:].any()]
    if form == LABELMAP:
        return [(plane, 0, (rank,)) for rank, plane in enumerate(planes, 1)]
    segments = range(1, counts.shape[1])
    return [(p, s, (s, rank)) for s in segments for rank, p in enumerate(planes, 1) if counts[p, s]]


def _pixels(labels: Labels, shown: _Shown, form: str, bits: int) -> Callable[[], Iterator[bytes]]:
    """``bits`` of a pixel are those the header says: it counts segments, whatever the labels are kept in."""
    if form == BINARY:
        return partial(packing.packed, labels, [(plane, segment) for plane, segment, _ in shown])
    return partial(packing.encapsulated, labels, [plane for plane, _, _ in shown], bits)


def _complete(made: Dataset, naming: Naming, found: Grid, what: tuple[str, str], shown: _Shown) -> None:
    """Say of all images and frames what the exemplar says of its own; ``what`` is the kind of object and its form."""
    kind, form = what
    one_dimension = len(made.DimensionIndexSequence) == 1 or len(naming.prediction.segments) == 1
    spread(made, found, [plane for plane, _, _ in shown], stacked=one_dimension)
    if form == LABELMAP:  # an item for the background shifts all colours in a widespread viewer
        made.SegmentSequence = [s for s in made.SegmentSequence if s.SegmentNumber != 0]
    sign(made, naming, kind)
    organize(made, naming.uid("dimensions" if kind == BINARY else f"{kind} dimensions"))
    stamp(made, ExplicitVRLittleEndian if form == BINARY else RLELossless)


def spread(made: Dataset, found: Grid, planes: Sequence[int], *, stacked: bool) -> None:
    """Say of all images and of the planes of all frames what an exemplar says of its own.

    ``stacked``: a frame follows the other along the normal, so that they are a volume if their distances are the same.
    """
    del made.PerFrameFunctionalGroupsSequence
    for keyword in ("PixelData", "FloatPixelData"):
        if keyword in made:
            delattr(made, keyword)
    made.NumberOfFrames = len(planes)
    if len(found.images) > 1:
        made.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [_named(image) for image in found.images]
        made.SourceImageSequence = [_named(image) for image in found.images]
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if "SpacingBetweenSlices" in measures:
        del measures.SpacingBetweenSlices
    spacing = found.spacing()
    if spacing is not None:
        measures.SpacingBetweenSlices = format_number_as_ds(spacing)
    if "DimensionOrganizationType" in made:
        del made.DimensionOrganizationType
    used = sorted(set(planes))
    if stacked and len(used) > 1 and found.spacing(used, ordered=True):
        made.DimensionOrganizationType = "3D"


def organize(made: Dataset, uid: str) -> None:
    """Give the dimensions a UID that follows from the result."""
    made.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid
    for index in made.DimensionIndexSequence:
        index.DimensionOrganizationUID = uid


def _named(image: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return reference


def _exemplar(naming: Naming, source: Source, found: Grid, what: tuple[str, str]) -> Dataset:
    """The segmentation of the first two planes, all in the first segment."""
    planes = np.zeros((len(found.first[:SHOWN]), *found.labels.shape[-2:]), found.labels.dtype)
    planes[:, 0, 0] = 1
    made = _build(naming, samples(source, found), planes, *what)
    identify(made, source)
    return made


def samples(source: Source, found: Grid) -> list[Dataset]:
    """The first images as highdicom takes them: with patient and study, but without the name, which it may log.

    Of multi-frame images it takes one: the frames of the others are written after its own.
    """
    several = 1 if found.planes[0].frame is not None else SHOWN
    images = [_sample(image, found) for image in found.images[:several]]
    header = deepcopy(source.header)
    header.PatientName = ""
    images[0].update(header)
    return images


def identify(made: Dataset, source: Source) -> None:
    """Put back what was withheld from highdicom, and what it leaves out."""
    made.PatientName = source.header.PatientName
    if "BodyPartExamined" in source.header:
        made.BodyPartExamined = source.header.BodyPartExamined


def _sample(image: Dataset, found: Grid) -> Dataset:
    """A copy of an image that has a thickness and, of a multi-frame image, the first frames in use only."""
    made = Dataset()
    made.update(image)  # elements are shared: those that differ are put anew
    if "PerFrameFunctionalGroupsSequence" not in image:
        made.add_new("SliceThickness", "DS", found.thickness)
        return made
    numbers = [plane.frame or 1 for plane in found.first[:SHOWN]]
    groups = []
    for number in numbers:
        group = Dataset()
        group.PlanePositionSequence = image.PerFrameFunctionalGroupsSequence[number - 1].PlanePositionSequence
        groups.append(group)
    made.add_new("PerFrameFunctionalGroupsSequence", "SQ", groups)
    made.add_new("NumberOfFrames", "IS", len(groups))
    made.add_new("SharedFunctionalGroupsSequence", "SQ", deepcopy(image.SharedFunctionalGroupsSequence))
    shared, place = made.SharedFunctionalGroupsSequence[0], frame_of(image, numbers[0]) or Dataset()
    measures, orientation = shared.PixelMeasuresSequence[0], shared.PlaneOrientationSequence[0]
    measures.SliceThickness = found.thickness
    measures.PixelSpacing = [DS(v, auto_format=True) for v in place.PixelSpacing]
    orientation.ImageOrientationPatient = [DS(v, auto_format=True) for v in place.ImageOrientationPatient]
    return made


def _build(naming: Naming, images: list[Dataset], planes: Labels, kind: str, form: str = "") -> Dataset:
    """A segmentation by highdicom; ``form`` is the kind that it looks like where that is another."""
    prediction, binary = naming.prediction, (form or kind) == BINARY
    with highdicom(f"the mask of prediction {prediction.key} cannot be said as a Segmentation"):
        made: Dataset = HighdicomSegmentation(
            source_images=images,
            pixel_array=planes,
            segmentation_type=SegmentationTypeValues.BINARY if binary else SegmentationTypeValues.LABELMAP,
            segment_descriptions=[_describe(naming, segment) for segment in prediction.segments],
            series_instance_uid=naming.uid(f"{kind} series"),
            series_number=1,
            sop_instance_uid=naming.uid(kind),
            instance_number=1,
            manufacturer=as_text(64)(naming.node.manufacturer),
            manufacturer_model_name=MODEL_NAME,
            software_versions=as_text(64)(naming.node.software_version),
            device_serial_number=as_text(64)(naming.node.serial_number),
            content_label=CONTENT_LABEL,
            content_description=as_text(64)(prediction.algorithm.name),
            content_creator_name=CREATOR,
            omit_empty_frames=True,
        )
    return made


def _describe(naming: Naming, segment: Segment) -> SegmentDescription:
    algorithm = naming.prediction.algorithm
    identification = AlgorithmIdentificationSequence(
        name=as_text(64)(algorithm.name),
        version=as_text(64)(algorithm.version),
        family=concept(algorithm.family),
        source=as_text(64)(algorithm.manufacturer) or None,
        parameters={"weights": f"sha256:{algorithm.digest}"} | {line(n): line(v) for n, v in algorithm.parameters},
    )
    return SegmentDescription(
        segment_number=segment.number,
        segment_label=as_text(64)(segment.label),
        segmented_property_category=concept(segment.category),
        segmented_property_type=concept(segment.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=identification,
        tracking_uid=naming.tracking_uid(segment.number),
        tracking_id=naming.tracking_id(segment.number),
        display_color=CIELabColor.from_rgb(*segment.colour),
    )
