"""Fills the headers of the demo's series: complete, valid, and plainly no patient's.

UIDs are made from names under the root 2.25 (PS3.5 B.2), so that the same study is the same study on every run.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

NAMESPACE = uuid.UUID("8a6d8af3-41e7-5b69-8a56-b1f2eb0062f9")
IMPLEMENTATION_UID = UID(f"2.25.{uuid.uuid5(NAMESPACE, 'implementation').int}")
MAKER = "Demonstration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose study it is said to be."""

    name: str  #: PN, family^given
    identifier: str
    sex: str = "O"
    study: str = ""  #: StudyDescription
    accession: str = ""
    date: str = "20260105"  #: DA
    time: str = "083000"  #: TM


def uid(*names: object) -> str:
    """A UID that is the same for the same names."""
    return f"2.25.{uuid.uuid5(NAMESPACE, '/'.join(str(n) for n in names)).int}"


def series(subject: Subject, modality: str, sop_class: str, names: tuple[object, ...]) -> Dataset:
    """What all images of one series share: patient, study, series, frame of reference, equipment, SOP common."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = UID(sop_class)
    ds.PatientName, ds.PatientID = subject.name, subject.identifier
    ds.PatientBirthDate, ds.PatientSex = "", subject.sex
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(*names, "study"), uid(*names, "series")
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = uid(*names, "frame of reference"), ""
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = "1", 2, 1
    ds.StudyDescription, ds.AccessionNumber, ds.ReferringPhysicianName = subject.study, subject.accession, ""
    for level in ("Study", "Series", "Acquisition", "Content"):
        setattr(ds, f"{level}Date", subject.date)
        setattr(ds, f"{level}Time", subject.time)
    ds.Modality, ds.PatientPosition = modality, "HFS"
    ds.Manufacturer, ds.ManufacturerModelName = MAKER, "Computed images"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "0", "1"
    ds.InstitutionName = "Demonstration, no patient"
    return ds


def image(ds: Dataset, pixels: NDArray[Any], spacing: tuple[float, float], bits: int) -> None:
    """Image pixel module of one unsigned grey slice; ``spacing`` in mm between rows, then columns."""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.PixelSpacing = [round(float(s), 6) for s in spacing]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, bits, bits - 1, 0
    ds.PixelData = np.ascontiguousarray(pixels, "<u2").tobytes()


def write(ds: Dataset, path: Path) -> None:
    """Writes one image as a Part 10 file, Explicit VR Little Endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, IMPLEMENTATION_UID
    meta.ImplementationVersionName = "DICOM_NODE_DEMO"
    FileDataset(str(path), ds, file_meta=meta, preamble=b"\0" * 128).save_as(path, enforce_file_format=True)
