"""Says images that a model made of a series as a new series on the same grid (PS3.3 C.7.6.1.1.3, C.12.4.1).

CT and MR stay CT and MR; what else there is, or has no place in the patient, becomes Secondary Capture of the same
modality. The source is never touched: new UIDs, DERIVED, and each image names the one that it was made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from dicom_node.results.capture import SOURCE_IMAGE, say_laterality
from dicom_node.results.coding import item
from dicom_node.results.drawing import Read
from dicom_node.results.filing import Filing, begin
from dicom_node.results.frames import Frames
from dicom_node.results.identity import Naming, sign, stamp
from dicom_node.results.normal import as_code, as_text, plain, value
from dicom_node.results.planes import numbers, per_frame
from dicom_node.results.seg import Written
from dicom_node.results.source import Source
from storage.facts.errors import Rejected
from storage.facts.prediction import DerivedImage, Frame

KIND = "image"
_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_REPRESENTATION = {"int16": 1, "uint16": 0}
_PLACE = (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))

Pixels = npt.NDArray[Any]


def derived_images(naming: Naming, source: Source, read: Read) -> Iterator[Written]:
    """Every image of every derived series, one after the other; only the values of one series are in memory.

    Raises Rejected for stored values that are not 16-bit integers.
    """
    flat = cache(lambda uid: per_frame(source.image(uid)))  # once an object: it may have a thousand frames
    for series, image in enumerate(naming.prediction.images):
        if image.array.dtype not in _REPRESENTATION:
            raise Rejected(
                f"images made by prediction {naming.prediction.key} are {image.array.dtype}: "
                "they must be stored as int16 or uint16 with slope and intercept"
            )
        values = np.asarray(read(image.array))
        for index, frame in enumerate(naming.prediction.frames):
            header = _header(naming, source, image, (series, index), (frame, _geometry(flat, frame)))
            pixels = np.ascontiguousarray(values[index], "<i2" if header.PixelRepresentation else "<u2")
            length = pixels.nbytes + pixels.nbytes % 2
            lazily = partial(_encoded, pixels)
            yield Written(
                header=header,
                frames=Frames(items=(), pixels=lazily, length=length, bits=16, element=(0x0010, b"OW")),
            )


def _encoded(pixels: Pixels) -> Iterator[bytes]:
    yield pixels.tobytes()


def _geometry(flat: Callable[[str], list[Dataset]], frame: Frame) -> Dataset | None:
    """How a frame lies; None where its object has no such frame."""
    frames = flat(frame.sop_instance_uid)
    index = 0 if frame.number is None or len(frames) == 1 else frame.number - 1
    return frames[index] if 0 <= index < len(frames) else None


def _header(
    naming: Naming, source: Source, image: DerivedImage, at: tuple[int, int], lies: tuple[Frame, Dataset | None]
) -> Dataset:
    """Everything but the pixels of one image."""
    (series, index), (frame, geometry) = at, lies
    placed = source.image(frame.sop_instance_uid)
    placed_in_patient = _place(geometry) if geometry is not None and "FrameOfReferenceUID" in placed else None
    kind = _CLASSES.get(source.modality, _CAPTURE) if placed_in_patient is not None else _CAPTURE
    dataset = begin(naming, source, Filing(sop_class_uid=kind, modality=source.modality or "OT", kind=KIND))
    sign(dataset, naming, KIND, series, index + 1)
    dataset.SeriesDescription = _description(naming, image)
    dataset.BodyPartExamined = source.header.get("BodyPartExamined", "")
    say_laterality(dataset, source)
    _derive(dataset, image, frame)
    if placed_in_patient is not None:
        dataset.update(placed_in_patient)
        dataset.FrameOfReferenceUID = placed.FrameOfReferenceUID
        dataset.PositionReferenceIndicator = as_text(64)(plain(placed.get("PositionReferenceIndicator")))
        dataset.SliceThickness = _decimal(geometry, "SliceThickness")
    _FORMS.get(kind, _captured)(dataset, placed, image)
    _represent(dataset, image, placed)
    stamp(dataset)
    return dataset


def _description(naming: Naming, image: DerivedImage) -> str:
    tail = " (research, not for diagnosis)" if naming.prediction.algorithm.research else ""
    return f"AI {as_text(64)(image.label)}"[: 64 - len(tail)] + tail


def _derive(dataset: Dataset, image: DerivedImage, frame: Frame) -> None:
    """What it was made of, and how."""
    dataset.DerivationDescription = as_text(1024)(image.text)
    dataset.DerivationCodeSequence = [item(image.method)]
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = frame.sop_class_uid, frame.sop_instance_uid
    if frame.number is not None:
        source.ReferencedFrameNumber = frame.number
    source.PurposeOfReferenceCodeSequence = [item(SOURCE_IMAGE)]
    dataset.SourceImageSequence = [source]


def _represent(dataset: Dataset, image: DerivedImage, placed: Dataset) -> None:
    """Stored values, what they mean, and the windows of the source."""
    _, dataset.Rows, dataset.Columns = image.array.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    if placed.get("PhotometricInterpretation") == "MONOCHROME1":
        dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, _REPRESENTATION[image.array.dtype]
    if dataset.SOPClassUID == _CLASSES["CT"] or (image.slope, image.intercept) != (1.0, 0.0):
        dataset.RescaleSlope = format_number_as_ds(float(image.slope))
        dataset.RescaleIntercept = format_number_as_ds(float(image.intercept))
        dataset.RescaleType = as_code(plain(placed.get("RescaleType"))) or "US"
    windows = [_numbers(placed, keyword) for keyword in ("WindowCenter", "WindowWidth")]
    if windows[0] and len(windows[0]) == len(windows[1]) and min(windows[1]) > 0:
        dataset.WindowCenter, dataset.WindowWidth = ([format_number_as_ds(v) for v in one] for one in windows)
    lossy = str(placed.get("LossyImageCompression", "")) == "01"
    dataset.LossyImageCompression = "01" if lossy else "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if lossy and keyword in placed:
            setattr(dataset, keyword, placed[keyword].value)


def _place(geometry: Dataset) -> Dataset | None:
    """Image Plane (PS3.3 C.7.6.2) in decimal strings that fit; None where it is not all there."""
    made = Dataset()
    for keyword, count in _PLACE:
        found = numbers(geometry, keyword, count)
        if found is None:
            return None
        setattr(made, keyword, [format_number_as_ds(float(v)) for v in found])
    return made


def _of_ct(dataset: Dataset, placed: Dataset, _image: DerivedImage) -> None:
    """CT Image module (PS3.3 C.8.2.1)."""
    dataset.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    dataset.KVP = _decimal(placed, "KVP")
    dataset.AcquisitionNumber = _whole(placed, "AcquisitionNumber")
    dataset.PatientPosition = as_code(plain(value(placed, "PatientPosition")))
    dataset.ConvolutionKernel = as_text(16)(plain(value(placed, "ConvolutionKernel")))


def _of_mr(dataset: Dataset, placed: Dataset, _image: DerivedImage) -> None:
    """MR Image module (PS3.3 C.8.3.1); what the source does not say of its sequence is research mode, no variant."""
    dataset.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
    dataset.PatientPosition = as_code(plain(value(placed, "PatientPosition")))
    dataset.ScanningSequence = _codes(placed, "ScanningSequence") or ["RM"]
    dataset.SequenceVariant = _codes(placed, "SequenceVariant") or ["NONE"]
    dataset.ScanOptions = _codes(placed, "ScanOptions")
    dataset.MRAcquisitionType = as_code(plain(value(placed, "MRAcquisitionType")))
    inverted = ("InversionTime",) if "IR" in dataset.ScanningSequence else ()  # no other may have one
    for keyword in ("RepetitionTime", "EchoTime", *inverted):
        setattr(dataset, keyword, _decimal(placed, keyword))
    dataset.EchoTrainLength = _whole(placed, "EchoTrainLength")


def _captured(dataset: Dataset, placed: Dataset, image: DerivedImage) -> None:
    """SC Equipment and SC Image modules (PS3.3 C.8.6)."""
    del image
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.ConversionType = "WSD"
    dataset.BurnedInAnnotation = "NO"
    dataset.PatientOrientation = placed.get("PatientOrientation") or []


_FORMS: dict[str, Callable[[Dataset, Dataset, DerivedImage], None]] = {_CLASSES["CT"]: _of_ct, _CLASSES["MR"]: _of_mr}


def _decimal(dataset: Dataset | None, keyword: str) -> str:
    """One decimal string; empty where the source does not say it, or says something else."""
    found = _numbers(dataset, keyword) if dataset is not None else []
    return str(format_number_as_ds(found[0])) if len(found) == 1 else ""


def _whole(dataset: Dataset, keyword: str) -> str:
    found = _numbers(dataset, keyword)
    return str(int(found[0])) if len(found) == 1 and abs(found[0]) < 2**31 else ""


def _numbers(dataset: Dataset, keyword: str) -> list[float]:
    found = value(dataset, keyword)
    if found is None:
        return []
    many = found if hasattr(found, "__len__") and not isinstance(found, str) else [found]
    try:
        values = [float(v) for v in many]
    except (TypeError, ValueError):
        return []
    return values if all(np.isfinite(values)) else []


def _codes(dataset: Dataset, keyword: str) -> list[str]:
    return [code for part in plain(value(dataset, keyword)).split("\\") if (code := as_code(part))]
