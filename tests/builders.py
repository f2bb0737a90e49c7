"""Synthetic sources and predictions for tests: small, complete, valid, and free of anybody's data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from storage.facts.prediction import (
    Algorithm,
    Code,
    Finding,
    Frame,
    Mask,
    Measurement,
    Prediction,
    Presence,
    Reason,
    Segment,
    Status,
)
from storage.facts.study import Urgency

Labels = npt.NDArray[np.uint8]

ROOT = "1.2.826.0.1.3680043.8.498.77"  #: of all UIDs made here
CT, MR, CR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.1"
PT, DX, MG = "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.2"
US_MULTIFRAME, CAPTURE = "1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.7"
MODALITIES = {CT: "CT", MR: "MR", PT: "PT", CR: "CR", DX: "DX", MG: "MG", US_MULTIFRAME: "US", CAPTURE: "OT"}
ENHANCED_CT, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.96, 0.0, -0.28, 0.0, 1.0, 0.0)

MADE_AT = datetime(2026, 11, 21, 8, 30, 15, 250000)
LUNG = Code(value="39607008", scheme="SCT", meaning="Lung")
LEFT_LUNG = Code(value="44029006", scheme="SCT", meaning="Left lung")
RIGHT_LUNG = Code(value="3341006", scheme="SCT", meaning="Right lung")
STRUCTURE = Code(value="91723000", scheme="SCT", meaning="Anatomical Structure")
VOLUME = Code(value="118565006", scheme="SCT", meaning="Volume")
MILLILITRE = Code(value="ml", scheme="UCUM", meaning="milliliter")
EMPHYSEMA = Code(value="87433001", scheme="SCT", meaning="Pulmonary emphysema")
INCOMPLETE = Code(value="110523", scheme="DCM", meaning="Object Set incomplete")


def source(sop_class: str = CT, modality: str = "CT", *, number: int = 1, series: int = 1) -> Dataset:
    """Patient, study, series and equipment of one source object, without geometry or pixels."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = UID(sop_class), UID(f"{ROOT}.{series}.{number}")
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID, ds.IssuerOfPatientID = "Test^Person", "T-0001", "TESTS"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19600101", "F", "066Y"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}.0", f"{ROOT}.{series}"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20261101", "101500", "S1", "A0001"
    ds.ReferringPhysicianName, ds.StudyDescription = "Refers^Doctor", "Thorax"
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber, ds.SeriesDescription = modality, 2, number, "Thin slices"
    ds.SeriesDate, ds.SeriesTime, ds.ContentDate, ds.ContentTime = "20261101", "101600", "20261101", "101601"
    ds.Manufacturer, ds.ManufacturerModelName, ds.DeviceSerialNumber = "Maker", "Scanner", "1"
    ds.ImageType, ds.BodyPartExamined, ds.PatientPosition = ["ORIGINAL", "PRIMARY", "AXIAL"], "CHEST", "HFS"
    ds.PositionReferenceIndicator = ""
    return ds


def pixels(ds: Dataset, values: npt.NDArray[np.int16]) -> Dataset:
    """Put 16-bit signed grey values in."""
    ds.Rows, ds.Columns = values.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1
    ds.PixelData = np.ascontiguousarray(values, "<i2").tobytes()
    return ds


def put(ds: Dataset, keyword: str, value: Any) -> None:
    """Write a value as it is, also one that breaks its value representation, as real archives hold."""
    with config.disable_value_validation():
        if keyword in ds:
            del ds[keyword]  # an element remembers how it is to be validated
        setattr(ds, keyword, value)


def positions(
    count: int, orientation: Sequence[float] = AXIAL, step: float = 2.5, origin: Sequence[float] = (-90.0, -80.0, 40.0)
) -> npt.NDArray[np.float64]:
    """ImagePositionPatient of each slice of a straight stack, mm."""
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(origin) + np.arange(count)[:, None] * step * normal


def slices(
    count: int = 8,
    rows: int = 40,
    columns: int = 48,
    *,
    sop_class: str = CT,
    orientation: Sequence[float] = AXIAL,
    step: float = 2.5,
    seed: int = 0,
) -> list[Dataset]:
    """A CT or MR series of single-frame images, ordered along the slice normal."""
    random = np.random.default_rng(seed)
    made = []
    for index, position in enumerate(positions(count, orientation, step)):
        ds = source(sop_class, MODALITIES[sop_class], number=index + 1)
        ds.FrameOfReferenceUID = f"{ROOT}.9"
        ds.ImagePositionPatient = [f"{v:.6f}" for v in position]
        ds.ImageOrientationPatient = [f"{v:.6f}" for v in orientation]
        ds.PixelSpacing, ds.SliceThickness = [0.75, 0.5], step
        if sop_class == CT:
            ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
        made.append(pixels(ds, random.integers(0, 2000, (rows, columns)).astype(np.int16)))
    return made


def radiograph(rows: int = 60, columns: int = 50, *, sop_class: str = CR) -> Dataset:
    """A projection (CR, DX or MG), without a frame of reference."""
    ds = source(sop_class, MODALITIES[sop_class])
    ds.PatientOrientation, ds.ViewPosition, ds.ImagerPixelSpacing = ["L", "F"], "PA", [0.2, 0.2]
    if sop_class == MG:
        ds.BodyPartExamined, ds.ImageLaterality, ds.PatientOrientation = "BREAST", "L", ["A", "FR"]
    return pixels(ds, np.random.default_rng(2).integers(0, 4000, (rows, columns)).astype(np.int16))


def captured(rows: int = 60, columns: int = 50) -> Dataset:
    """A Secondary Capture in colour: no place, no direction."""
    ds = source(CAPTURE, "OT")
    return coloured(ds, np.random.default_rng(4).integers(0, 255, (rows, columns, 3)).astype(np.uint8))


def loop(count: int = 4, rows: int = 60, columns: int = 50) -> Dataset:
    """A multi-frame ultrasound loop in colour, without a frame of reference."""
    ds = source(US_MULTIFRAME, "US")
    ds.NumberOfFrames, ds.FrameTime, ds.FrameIncrementPointer = count, 33, 0x00181063
    ds.BodyPartExamined = "HEART"
    return coloured(ds, np.random.default_rng(5).integers(0, 255, (count, rows, columns, 3)).astype(np.uint8))


def coloured(ds: Dataset, values: npt.NDArray[np.uint8]) -> Dataset:
    """Put RGB values in."""
    ds.Rows, ds.Columns = values.shape[-3:-1]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.add_new("PixelData", "OB", values.tobytes())
    return ds


def enhanced(
    count: int = 6,
    rows: int = 40,
    columns: int = 48,
    *,
    sop_class: str = ENHANCED_CT,
    orientation: Sequence[float] = AXIAL,
    shared: bool = True,
) -> Dataset:
    """One enhanced multi-frame CT or MR; ``shared=False`` repeats the shared macros in each frame."""
    ds = source(sop_class, "MR" if sop_class == ENHANCED_MR else "CT")
    ds.FrameOfReferenceUID, ds.NumberOfFrames = f"{ROOT}.9", count
    common = {
        "PixelMeasuresSequence": _item(PixelSpacing=[0.75, 0.5], SliceThickness=2.5),
        "PlaneOrientationSequence": _item(ImageOrientationPatient=[f"{v:.6f}" for v in orientation]),
    }
    ds.SharedFunctionalGroupsSequence = [_groups(common if shared else {})]
    frames = []
    for position in positions(count, orientation):
        own = {"PlanePositionSequence": _item(ImagePositionPatient=[f"{v:.6f}" for v in position])}
        frames.append(_groups(own if shared else own | common))
    ds.PerFrameFunctionalGroupsSequence = frames
    values = np.random.default_rng(3).integers(0, 2000, (count, rows, columns)).astype(np.int16)
    return pixels(ds, values)


def _item(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, given in values.items():
        setattr(made, keyword, given)
    return made


def _groups(macros: dict[str, Dataset]) -> Dataset:
    return _item(**{name: [item] for name, item in macros.items()})


def two_blobs(shape: tuple[int, int, int] = (8, 40, 48)) -> Labels:
    """Two ellipsoids, labelled 1 and 2, of unlike size and place, clear of the border."""
    z, y, x = np.indices(shape)
    labels = np.zeros(shape, np.uint8)
    for label, centre, size in ((1, (0.45, 0.45, 0.28), (0.4, 0.3, 0.15)), (2, (0.6, 0.5, 0.7), (0.3, 0.25, 0.2))):
        spread = sum(
            ((axis - c * n) / (s * n)) ** 2 for axis, c, s, n in zip((z, y, x), centre, size, shape, strict=True)
        )
        labels[spread <= 1] = label
    return labels


def algorithm(**changes: Any) -> Algorithm:
    """A small made-up package."""
    given: dict[str, Any] = {
        "package": "ct-test-lung",
        "version": "1.2.0",
        "name": "Lung test model",
        "manufacturer": "Test makers",
        "family": Code(value="123110", scheme="DCM", meaning="Artificial Intelligence"),
        "digest": "ab" * 32,
        "parameters": (("threshold", "-950 HU"),),
        "intended_use": "Tests only",
    }
    return Algorithm(**(given | changes))


def segments() -> tuple[Segment, ...]:
    """Right and left lung, as ``two_blobs`` labels them."""
    return tuple(
        Segment(
            number=number,
            label=label,
            category=STRUCTURE,
            type=kind,
            colour=colour,
            measurements=(Measurement(name=VOLUME, value=volume, unit=MILLILITRE, digits=1, method="voxel count"),),
        )
        for number, label, kind, colour, volume in (
            (1, "Right lung", RIGHT_LUNG, (0, 151, 206), 2210.4),
            (2, "Left lung", LEFT_LUNG, (216, 101, 79), 1980.25),
        )
    )


def finding(presence: Presence = Presence.PRESENT, **changes: Any) -> Finding:
    """What is said of emphysema."""
    given: dict[str, Any] = {
        "condition": EMPHYSEMA,
        "presence": presence,
        "text": "Low-attenuation areas take up 12.3 % of the lungs.",
        "probability": 0.83,
        "threshold": 0.5,
        "threshold_source": "Youden index on the validation set of the package",
    }
    return Finding(**(given | changes))


def prediction(sources: Sequence[Dataset], labels: Labels | None = None, **changes: Any) -> Prediction:
    """A run that succeeded, with ``labels`` on the grid of ``sources`` when they are given."""
    first = sources[0]
    given: dict[str, Any] = {
        "key": f"infer:{first.SeriesInstanceUID}:0:ct-test-lung@1.2.0",
        "study_uid": str(first.StudyInstanceUID),
        "series_uid": str(first.SeriesInstanceUID),
        "revision": 0,
        "algorithm": algorithm(),
        "status": Status.SUCCEEDED,
        "findings": (finding(),),
        "urgency": Urgency.ROUTINE,
        "urgency_reason": "research packages do not raise studies",
    }
    if labels is not None:
        mask = Mask(blob="cd" * 32, shape=tuple(labels.shape), frames=frames(sources))
        total = Measurement(name=VOLUME, value=4190.65, unit=MILLILITRE)
        given |= {"segments": segments(), "mask": mask, "measurements": (total,)}
    return Prediction(**(given | changes))


def failure(sources: Sequence[Dataset], status: Status = Status.NOT_ATTEMPTED, **changes: Any) -> Prediction:
    """A run that has nothing to say but why."""
    reason = Reason(code=INCOMPLETE, text="Slices are missing: most lie 2.5 mm apart, but some 5.0 mm.")
    return prediction(sources, None, **({"status": status, "reason": reason, "findings": ()} | changes))


def frames(sources: Sequence[Dataset]) -> tuple[Frame, ...]:
    """The source of each mask frame, in the order of the sources and their frames."""
    made: list[Frame] = []
    for ds in sources:
        numbers = range(1, int(ds.NumberOfFrames) + 1) if "NumberOfFrames" in ds else [None]
        instance, kind = str(ds.SOPInstanceUID), str(ds.SOPClassUID)
        made += [Frame(sop_instance_uid=instance, sop_class_uid=kind, number=number) for number in numbers]
    return tuple(made)
