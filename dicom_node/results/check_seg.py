"""What a Segmentation must be to be shown right: PS3.3 C.8.20, and what viewers were seen to need."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.results.reading import code_of, first, text_of

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"


def faults(dataset: Dataset) -> Iterator[str]:
    """What is wrong with a SEG, one sentence each."""
    if dataset.get("Modality") != "SEG":
        yield "Modality is not SEG"
    wanted = "LABELMAP" if _is_label_map(dataset) else "BINARY"
    if dataset.get("SegmentationType") != wanted:
        yield f"SegmentationType is not {wanted}: viewers refuse or misplace the others"
    for keyword in ("FrameOfReferenceUID", "ContentCreatorName"):
        if not text_of(dataset, keyword):
            yield f"{keyword} is missing or empty"
    if not re.fullmatch(r"[A-Z0-9_ ]{1,16}", text_of(dataset, "ContentLabel")):
        yield "ContentLabel is no code string of 16 characters"
    yield from _segments(dataset)
    yield from _series(dataset)
    yield from _shared(dataset)
    yield from _frames(dataset)
    yield from _pixels(dataset)


def _is_label_map(dataset: Dataset) -> bool:
    return bool(dataset.get("SOPClassUID") == LABEL_MAP)


def _segments(dataset: Dataset) -> Iterator[str]:
    segments = dataset.get("SegmentSequence", [])
    numbers = [segment.get("SegmentNumber") for segment in segments]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        yield f"segments are numbered {numbers}, not from 1 in order: viewers take colours by position"
    uids = [text_of(segment, "TrackingUID") for segment in segments]
    if len(set(uids)) < len(uids) or not all(UID(uid).is_valid for uid in uids):
        yield "segments lack distinct, valid tracking UIDs"
    for segment in segments:
        yield from _segment(segment)


def _segment(segment: Dataset) -> Iterator[str]:
    who = f"segment {segment.get('SegmentNumber')}"
    if not 0 < len(text_of(segment, "SegmentLabel")) <= 64:
        yield f"{who}: SegmentLabel must have 1 to 64 characters"
    if not text_of(segment, "TrackingID"):
        yield f"{who}: TrackingID is missing"
    for keyword in ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence"):
        if not all(code_of(first(segment, keyword))):
            yield f"{who}: {keyword} is missing"
    if segment.get("SegmentAlgorithmType") != "AUTOMATIC":
        yield f"{who}: SegmentAlgorithmType is not AUTOMATIC"
    if not text_of(segment, "SegmentAlgorithmName"):
        yield f"{who}: SegmentAlgorithmName is missing (1C for AUTOMATIC)"
    algorithm = first(segment, "SegmentationAlgorithmIdentificationSequence")
    if not (text_of(algorithm, "AlgorithmName") and text_of(algorithm, "AlgorithmVersion")):
        yield f"{who}: SegmentationAlgorithmIdentificationSequence lacks name or version"
    if len(segment.get("RecommendedDisplayCIELabValue") or []) != 3:
        yield f"{who}: RecommendedDisplayCIELabValue is missing"


def _series(dataset: Dataset) -> Iterator[str]:
    series = dataset.get("ReferencedSeriesSequence", [])
    if len(series) != 1 or not text_of(series[0], "SeriesInstanceUID"):
        yield "ReferencedSeriesSequence does not name exactly one series"
    elif not series[0].get("ReferencedInstanceSequence"):
        yield "ReferencedSeriesSequence lists no instances"


def _shared(dataset: Dataset) -> Iterator[str]:
    shared = first(dataset, "SharedFunctionalGroupsSequence")
    measures = first(shared, "PixelMeasuresSequence")
    if len(measures.get("PixelSpacing") or []) != 2 or not measures.get("SliceThickness"):
        yield "shared Pixel Measures lack PixelSpacing or SliceThickness"
    if len(first(shared, "PlaneOrientationSequence").get("ImageOrientationPatient") or []) != 6:
        yield "shared Plane Orientation is missing"


def _frames(dataset: Dataset) -> Iterator[str]:
    frames = dataset.get("PerFrameFunctionalGroupsSequence", [])
    if not frames or dataset.get("NumberOfFrames") != len(frames):
        yield f"NumberOfFrames is {dataset.get('NumberOfFrames')}, but {len(frames)} frames are described"
    segments = len(dataset.get("SegmentSequence", []))
    dimensions = dataset.get("DimensionIndexSequence", [])
    organizations = {text_of(o, "DimensionOrganizationUID") for o in dataset.get("DimensionOrganizationSequence", [])}
    if not dimensions or {text_of(d, "DimensionOrganizationUID") for d in dimensions} != organizations:
        yield "DimensionIndexSequence and DimensionOrganizationSequence do not fit together"
    instances = first(dataset, "ReferencedSeriesSequence").get("ReferencedInstanceSequence", [])
    known = {text_of(instance, "ReferencedSOPInstanceUID") for instance in instances}
    places: set[tuple[str, ...]] = set()
    shared = first(dataset, "SharedFunctionalGroupsSequence")
    for index, frame in enumerate(frames, 1):
        # With one segment its number may be shared by all frames (PS3.3 C.8.20.3.1).
        holder = frame if "SegmentIdentificationSequence" in frame else shared
        number = first(holder, "SegmentIdentificationSequence").get("ReferencedSegmentNumber")
        if not _is_label_map(dataset) and (number is None or not 1 <= int(number) <= segments):
            yield f"frame {index}: ReferencedSegmentNumber {number} is not in SegmentSequence"
        yield from (f"frame {index}: {fault}" for fault in _frame(frame, len(dimensions), known))
        position = first(frame, "PlanePositionSequence").get("ImagePositionPatient") or []
        place = (str(number), *map(str, position))
        if place in places:
            yield f"frame {index}: an earlier frame shows segment {number} at the same place"
        places.add(place)


def _frame(frame: Dataset, dimensions: int, known: set[str]) -> Iterator[str]:
    if len(first(frame, "PlanePositionSequence").get("ImagePositionPatient") or []) != 3:
        yield "its plane position is missing"
    values = first(frame, "FrameContentSequence").get("DimensionIndexValues") or []
    if len(values if isinstance(values, list) or hasattr(values, "append") else [values]) != dimensions:
        yield "DimensionIndexValues does not have a value for each dimension"
    source = first(first(frame, "DerivationImageSequence"), "SourceImageSequence")
    if text_of(source, "ReferencedSOPInstanceUID") not in known:
        yield "its source image is not in ReferencedSeriesSequence"


def _pixels(dataset: Dataset) -> Iterator[str]:
    if _is_label_map(dataset):
        if dataset.get("BitsAllocated") not in (8, 16) or dataset.get("PhotometricInterpretation") != "MONOCHROME2":
            yield "a label map must have grey values of 8 or 16 bits, as viewers do not follow palettes"
        return
    if dataset.get("BitsAllocated") != 1 or dataset.get("SamplesPerPixel") != 1:
        yield "a BINARY segmentation must have one sample of one bit a pixel"
    bits = int(dataset.get("NumberOfFrames") or 0) * int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0)
    wanted = (bits + 7) // 8
    found = len(dataset.get("PixelData") or b"")
    if not bits or found != wanted + wanted % 2:
        yield f"PixelData has {found} bytes, {wanted + wanted % 2} are needed for its frames"
