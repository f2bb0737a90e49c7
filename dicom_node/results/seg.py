"""Says a mask as a Segmentation (PS3.3 A.51), BINARY, on the very planes of its source.

BINARY is what every viewer that shows segmentations shows rightly; one object a series, segments numbered from 1 in
order, because viewers take colours by position and show only the last object of a series.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import numpy.typing as npt
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation as HighdicomSegmentation
from highdicom.seg import SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset

from dicom_node.config import MODEL_NAME
from dicom_node.results.coding import concept
from dicom_node.results.identity import Naming, sign, stamp
from dicom_node.results.normal import as_text
from dicom_node.results.planes import numbers, per_frame
from dicom_node.results.source import Source
from storage.facts.errors import Rejected
from storage.facts.prediction import Mask, Segment

Labels = npt.NDArray[np.uint8]

CONTENT_LABEL = "AI_SEGMENTATION"
CREATOR = "AI^Model"
_SAME_PLACE_MM = 1e-3


class NoSegmentation(Exception):
    """Why a mask is not sent as a Segmentation; a sentence for the reader."""


def segmentation(naming: Naming, source: Source, labels: Labels) -> Dataset:
    """The SEG of a mask that is not empty.

    Raises NoSegmentation where the source has no grid in the patient to lie on, Rejected where mask and sources do not
    fit together.
    """
    mask = naming.prediction.mask
    if mask is None or not naming.prediction.segments:
        raise Rejected(f"prediction {naming.prediction.key} has no mask with segments: there is nothing to segment")
    images, labels = _grid(source, mask, labels)
    _require_place(images)
    header = deepcopy(source.header)
    header.PatientName = ""  # highdicom logs names that it finds odd
    images[0].update(header)
    made = _build(naming, images, labels)
    made.PatientName = source.header.PatientName
    if "BodyPartExamined" in source.header:
        made.BodyPartExamined = source.header.BodyPartExamined
    sign(made, naming, "seg")
    made.DimensionOrganizationSequence[0].DimensionOrganizationUID = naming.uid("dimensions")
    for index in made.DimensionIndexSequence:
        index.DimensionOrganizationUID = naming.uid("dimensions")
    stamp(made)
    return made


def _build(naming: Naming, images: list[Dataset], labels: Labels) -> Dataset:
    prediction = naming.prediction
    try:
        made: Dataset = HighdicomSegmentation(
            source_images=images,
            pixel_array=labels,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[_describe(naming, segment) for segment in prediction.segments],
            series_instance_uid=naming.uid("seg series"),
            series_number=1,
            sop_instance_uid=naming.uid("seg"),
            instance_number=1,
            manufacturer=naming.node.manufacturer,
            manufacturer_model_name=MODEL_NAME,
            software_versions=naming.node.software_version,
            device_serial_number=naming.node.serial_number,
            content_label=CONTENT_LABEL,
            content_description=as_text(64)(prediction.algorithm.name),
            content_creator_name=CREATOR,
            omit_empty_frames=True,
        )
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise Rejected(
            f"the mask of prediction {prediction.key} cannot be said as a Segmentation: {type(error).__name__}: {error}"
        ) from error
    return made


def _describe(naming: Naming, segment: Segment) -> SegmentDescription:
    algorithm = naming.prediction.algorithm
    identification = AlgorithmIdentificationSequence(
        name=as_text(64)(algorithm.name),
        version=as_text(64)(algorithm.version),
        family=concept(algorithm.family),
        source=as_text(64)(algorithm.manufacturer) or None,
        parameters={"weights": f"sha256:{algorithm.digest}"} | dict(algorithm.parameters),
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


def _grid(source: Source, mask: Mask, labels: Labels) -> tuple[list[Dataset], Labels]:
    """Source images and mask frames in one common order.

    Raises NoSegmentation where several enhanced objects hold the series, Rejected for a frame that no source has.
    """
    used = list(dict.fromkeys(frame.sop_instance_uid for frame in mask.frames))
    images = [_copy(source.image(uid)) for uid in used]
    if not any("PerFrameFunctionalGroupsSequence" in image for image in images):
        if len(used) != len(mask.frames):
            raise NoSegmentation("several frames of the mask belong to one single-frame image")
        return images, labels
    if len(images) > 1:
        raise NoSegmentation("the series is spread over several multi-frame objects")
    ordered = np.zeros((int(images[0].NumberOfFrames), *labels.shape[1:]), np.uint8)
    for frame, plane in zip(mask.frames, labels, strict=True):
        if frame.number is None or not 1 <= frame.number <= len(ordered):
            raise Rejected(f"frame {frame.number} of the mask is not in image {frame.sop_instance_uid}")
        ordered[frame.number - 1] = plane
    return images, ordered


def _copy(image: Dataset) -> Dataset:
    made = Dataset()
    made.update(image)
    return made


def _require_place(images: Sequence[Dataset]) -> None:
    """Raises NoSegmentation unless every frame has a distinct place in one frame of reference."""
    if any("FrameOfReferenceUID" not in image for image in images):
        raise NoSegmentation("the source images have no frame of reference (a projection, or a capture)")
    if len({image.FrameOfReferenceUID for image in images}) > 1:
        raise NoSegmentation("the source images have different frames of reference")
    frames = [frame for image in images for frame in per_frame(image)]
    found = [numbers(frame, "ImagePositionPatient", 3) for frame in frames]
    places = [place for place in found if place is not None]
    if len(places) < len(frames):
        raise NoSegmentation("the source images do not all say their position in the patient")
    if any(numbers(f, "ImageOrientationPatient", 6) is None or numbers(f, "PixelSpacing", 2) is None for f in frames):
        raise NoSegmentation("the source images do not all say their orientation and pixel spacing")
    if len(places) > 1:
        gap = _smallest_gap(np.array(places))
        if gap < _SAME_PLACE_MM:
            raise NoSegmentation("several source images lie at the same place")
    _complete_thickness(images, np.array(places))


def _smallest_gap(places: npt.NDArray[np.float64]) -> float:
    axis = int(np.argmax(np.ptp(places, axis=0)))
    ordered = places[np.argsort(places[:, axis])]
    return float(np.linalg.norm(np.diff(ordered, axis=0), axis=1).min())


def _complete_thickness(images: Sequence[Dataset], places: npt.NDArray[np.float64]) -> None:
    """SliceThickness is required in Pixel Measures; where the source is silent, it is the step between slices."""
    step = float(np.linalg.norm(places[1] - places[0])) if len(places) > 1 else 1.0
    for image in images:
        holder = image
        if "SharedFunctionalGroupsSequence" in image:
            holder = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        if not holder.get("SliceThickness"):
            holder.SliceThickness = f"{step:.6g}"
