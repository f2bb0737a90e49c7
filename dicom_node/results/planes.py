"""Where the images of a source lie, in the one form that a segmentation takes over (PS3.3 C.7.6.2, C.7.6.16.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.results.normal import plain, value
from storage.facts.errors import Rejected

_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_PLACE = ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
#: How stored values become grey (PS3.3 C.11.1, C.11.2): graphics must not change how an image looks.
_GREY = ("RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth", "PhotometricInterpretation")
#: What derived images take over of how their source was acquired.
_ACQUISITION = (
    "KVP", "AcquisitionNumber", "PatientPosition", "ConvolutionKernel", "ScanningSequence", "SequenceVariant",
    "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "InversionTime", "EchoTrainLength",
)  # fmt: skip
_MACROS = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PlanePositionSequence": ("ImagePositionPatient",),
}


def place(dataset: Dataset) -> Dataset:
    """Identity and geometry of an image, without pixels. Raises Rejected when it has no UID."""
    slim = Dataset()
    for keyword in _IDENTITY:
        text = plain(value(dataset, keyword))
        if not text:
            raise Rejected(f"a source object lacks {keyword}: no result can refer to it")
        setattr(slim, keyword, text)
    slim.Modality = plain(value(dataset, "Modality"))[:16]
    for keyword in ("Rows", "Columns", "NumberOfFrames"):
        found = value(dataset, keyword)
        if isinstance(found, int) and found > 0:
            setattr(slim, keyword, int(found))
    for keyword in (*_PLACE, *_LOSSY, *_GREY, *_ACQUISITION, "PositionReferenceIndicator", "PatientOrientation"):
        found = value(dataset, keyword)
        if found is not None:
            setattr(slim, keyword, found)
    if value(dataset, "PerFrameFunctionalGroupsSequence") is not None:
        _place_frames(slim, dataset)
    return slim


def _place_frames(slim: Dataset, dataset: Dataset) -> None:
    """Functional groups of an enhanced image: measures and orientation shared, a position for each frame.

    Some scanners repeat the shared macros in each frame; those that say something else are kept there.
    """
    shared = (value(dataset, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = value(dataset, "PerFrameFunctionalGroupsSequence")
    common = Dataset()
    for macro in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        found = _macro(macro, (shared, *frames))
        if found is not None:
            setattr(common, macro, [found])
    groups = []
    for frame in frames:
        position = _macro("PlanePositionSequence", (frame, shared))
        group = Dataset()
        if position is not None:
            group.PlanePositionSequence = [position]
        for macro in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            own = _macro(macro, (frame,))
            if own is not None and own != common[macro].value[0]:
                setattr(group, macro, [own])
        groups.append(group)
    slim.SharedFunctionalGroupsSequence = [common]
    slim.PerFrameFunctionalGroupsSequence = groups
    slim.NumberOfFrames = len(groups)


def _macro(name: str, groups: Sequence[Dataset]) -> Dataset | None:
    for group in groups:
        items = value(group, name)
        if items is None:
            continue
        kept = Dataset()
        for keyword in _MACROS[name]:
            found = value(items[0], keyword)
            if found is not None:
                setattr(kept, keyword, found)
        return kept
    return None


def per_frame(image: Dataset) -> list[Dataset]:
    """Position, orientation, spacing and thickness of each frame of a placed image, flat."""
    if "PerFrameFunctionalGroupsSequence" not in image:
        return [image]
    shared = image.SharedFunctionalGroupsSequence[0]
    flat = []
    for group in image.PerFrameFunctionalGroupsSequence:
        frame = Dataset()
        for holder in (shared, group):
            for name in _MACROS:
                for item in holder.get(name, []):
                    frame.update(item)
        flat.append(frame)
    return flat


def frame_of(image: Dataset, number: int | None) -> Dataset | None:
    """Geometry of one frame (1-based; None: the only one), flat; None where the image has no such frame."""
    frames = per_frame(image)
    index = 0 if number is None or "PerFrameFunctionalGroupsSequence" not in image else number - 1
    return frames[index] if 0 <= index < len(frames) else None


def has_square_pixels(images: Iterable[Dataset]) -> bool:
    """Whether columns lie as far apart as rows, within what is half a pixel over a whole image; unsaid counts as so."""
    for image in images:
        extent = max(int(image.get("Rows", 1)), int(image.get("Columns", 1)))
        for frame in per_frame(image):
            spacing = numbers(frame, "PixelSpacing", 2)
            if spacing is not None and abs(spacing[0] / spacing[1] - 1) * extent > 0.5:
                return False
    return True


def in_patient(frame: Dataset, points: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, Any] | None:
    """Where points (n, 2: column, row index; whole numbers are centres) lie in the patient (n, 3), mm.

    None where the frame does not say how it lies (PS3.3 C.7.6.2.1.1).
    """
    origin = numbers(frame, "ImagePositionPatient", 3)
    cosines = numbers(frame, "ImageOrientationPatient", 6)
    spacing = numbers(frame, "PixelSpacing", 2)
    if origin is None or cosines is None or spacing is None:
        return None
    along = points[:, :1] * spacing[1] * cosines[:3]
    return np.asarray(origin + along + points[:, 1:] * spacing[0] * cosines[3:])


def numbers(dataset: Dataset, keyword: str, count: int) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """A decimal string of ``count`` finite values; None where it is absent or something else."""
    found = value(dataset, keyword)
    try:
        array = np.array([float(v) for v in found], np.float64) if found is not None else None
    except (TypeError, ValueError):
        return None
    return array if array is not None and array.shape == (count,) and bool(np.isfinite(array).all()) else None
