"""Writes a phantom as the CT series that a scanner would send: for tests, and to see the package work over DICOM."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from inference.training.phantom import Phantom, draw, render, whole
from inference.training.solids import Point

LOWEST = -1024  #: HU of a stored zero
SPACING: Point = (2.0, 1.5, 1.5)  #: mm between slices, rows, columns
_NAMESPACE = uuid.UUID("3b0a6f5e-5f0e-5f0a-9d3c-7a4f6a1f2c11")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A series and its truth."""

    phantom: Phantom
    paths: tuple[Path, ...]  #: from the feet to the head
    study_uid: str
    series_uid: str


def write_series(folder: Path, *, seed: int, nodules: int | None = None, spacing: Point = SPACING) -> Written:
    """One file a slice; the same for the same arguments. Patient coordinates are the phantom's own."""
    phantom, grid = draw(seed, nodules), whole(spacing)
    hu = render(phantom, grid)
    stored = np.clip(np.rint(hu) - LOWEST, 0, 4095).astype("<u2")
    names = ("nodule phantom", seed, nodules, spacing)
    base = _header(names, spacing)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, pixels in enumerate(stored):
        z, y, x = (grid.origin[0] + number * spacing[0], grid.origin[1], grid.origin[2])
        base.SOPInstanceUID = UID(_uid(*names, number))
        base.InstanceNumber = len(stored) - number
        base.ImagePositionPatient = [round(x, 4), round(y, 4), round(z, 4)]
        base.Rows, base.Columns = pixels.shape
        base.PixelData = pixels.tobytes()
        paths.append(folder / f"ct-{number:04d}.dcm")
        _save(base, paths[-1])
    return Written(
        phantom=phantom,
        paths=tuple(paths),
        study_uid=str(base.StudyInstanceUID),
        series_uid=str(base.SeriesInstanceUID),
    )


def _header(names: tuple[object, ...], spacing: Point) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "PHANTOM^NODULE", "PHANTOM-NODULE", "", "O"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = UID(_uid(*names, "study")), UID(_uid(*names, "series"))
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = UID(_uid(*names, "frame of reference")), ""
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = "1", 2, 1
    ds.AccessionNumber, ds.ReferringPhysicianName = "", ""
    for level in ("Study", "Series", "Acquisition", "Content"):
        setattr(ds, f"{level}Date", "20260105")
        setattr(ds, f"{level}Time", "083000")
    ds.StudyDescription, ds.SeriesDescription, ds.BodyPartExamined = "CT PHANTOM", "NODULE PHANTOM", "PHANTOM"
    ds.ImageComments = "Digital phantom made by computation; no patient"
    ds.Modality, ds.PatientPosition = "CT", "HFS"
    ds.Manufacturer, ds.ManufacturerModelName = "Demonstration", "Computed images"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "0", "1"
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SliceThickness, ds.PixelSpacing = spacing[0], [spacing[1], spacing[2]]
    ds.KVP, ds.ConvolutionKernel = 120, "STANDARD"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = LOWEST, 1, "HU"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    return ds


def _uid(*names: object) -> str:
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(str(n) for n in names)).int}"


def _save(ds: Dataset, path: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    FileDataset(str(path), ds, file_meta=meta, preamble=b"\0" * 128).save_as(path, enforce_file_format=True)
