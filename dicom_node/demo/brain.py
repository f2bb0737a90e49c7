"""Writes the MNI152 average brain as the T1-weighted MR series of nobody.

The template that is taken shows the brain alone: skull and scalp were removed by those who packed it. It is an average
of 152 people, resampled to 1 mm; the acquisition parameters in the header are those of a usual MPRAGE, not of a scan.
Slices are sagittal, as an MPRAGE is acquired.

The one NIfTI-1 file that is read is simple (bytes, one volume, upright axes), so its header is read here, in a few
lines; anything else is refused. A NIfTI library would be a large dependency for one file.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from dicom_node.demo import header
from storage.facts.errors import Misconfigured

NAMES = ("MNI152 average brain", 1)
LARGEST_BYTES = 64 * 2**20
GAIN = 8  #: the template's 0..255 spread over 12 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A volume with upright axes: first towards the right, then the front, then the head."""

    voxels: NDArray[np.uint8]
    spacing: tuple[float, float, float]  #: mm
    origin: tuple[float, float, float]  #: centre of the first voxel, mm, in NIfTI's right-anterior-superior axes


@dataclass(frozen=True, slots=True, kw_only=True)
class BrainTruth:
    """What is so about the series."""

    study_uid: str
    series_uid: str
    patient_id: str
    instances: int
    brain_ml: float  #: all that the template shows


def write(nifti: Path, folder: Path) -> BrainTruth:
    """Writes one file a sagittal slice, from the patient's right to left. Raises Misconfigured for another template."""
    template = read(nifti)
    folder.mkdir(parents=True, exist_ok=True)
    ds = _header(template)
    count = template.voxels.shape[0]
    dx, dy, dz = template.spacing
    # NIfTI's x and y run against DICOM's (PS3.3 C.7.6.2.1.1): both change sign, z stays.
    front = -(template.origin[1] + (template.voxels.shape[1] - 1) * dy)
    top = template.origin[2] + (template.voxels.shape[2] - 1) * dz
    for k in range(count):
        index = count - 1 - k
        x = -(template.origin[0] + index * dx)
        ds.SOPInstanceUID, ds.InstanceNumber = header.uid(*NAMES, "image", k), k + 1
        ds.ImagePositionPatient, ds.SliceLocation = [x, front, top], x
        header.image(ds, template.voxels[index, ::-1, ::-1].T.astype(np.uint16) * GAIN, (dz, dy), 12)
        header.write(ds, folder / f"mr-{k + 1:04d}.dcm")
    return BrainTruth(
        study_uid=str(ds.StudyInstanceUID),
        series_uid=str(ds.SeriesInstanceUID),
        patient_id=str(ds.PatientID),
        instances=count,
        brain_ml=float(np.count_nonzero(template.voxels)) * dx * dy * dz / 1000.0,
    )


def read(nifti: Path) -> Template:
    """The template from a gzipped NIfTI-1 file of unsigned bytes. Raises Misconfigured for anything else."""
    try:
        with gzip.open(nifti) as file:
            data = file.read(LARGEST_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise Misconfigured(
            f"{nifti} cannot be read as a gzipped file: fetch the demo's data again ({error})"
        ) from error
    if len(data) < 352 or struct.unpack_from("<i", data)[0] != 348 or data[344:347] != b"n+1":
        raise Misconfigured(f"{nifti} is no single-file little-endian NIfTI-1: fetch the demo's data again")
    dims, kind = struct.unpack_from("<8h", data, 40), struct.unpack_from("<h", data, 70)[0]
    offset, slope, shift = struct.unpack_from("<3f", data, 108)
    affine = np.array(struct.unpack_from("<12f", data, 280)).reshape(3, 4)
    has_affine = struct.unpack_from("<h", data, 254)[0] > 0
    step = np.diag(affine[:, :3])
    simple = dims[0] == 3 and kind == 2 and slope in (0.0, 1.0) and shift == 0.0 and has_affine
    if not simple or np.any(step <= 0) or np.any(affine[:, :3] != np.diag(step)):
        raise Misconfigured(f"{nifti} is not the template that is expected: one volume of bytes with upright axes")
    size, start = int(np.prod(dims[1:4])), int(offset)
    if len(data) < start + size:
        raise Misconfigured(f"{nifti} ends too early: fetch the demo's data again")
    voxels = np.frombuffer(data, np.uint8, size, start).reshape(dims[1:4], order="F")
    return Template(
        voxels=voxels,
        spacing=(float(step[0]), float(step[1]), float(step[2])),
        origin=(float(affine[0, 3]), float(affine[1, 3]), float(affine[2, 3])),
    )


def _header(template: Template) -> Dataset:
    subject = header.Subject(
        name="MNI152^AVERAGE", identifier="MNI152-AVERAGE", study="MR HEAD", accession="DEMO-MR-152"
    )
    ds = header.series(subject, "MR", MRImageStorage, NAMES)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.SeriesDescription, ds.ProtocolName, ds.BodyPartExamined = "T1 MPRAGE SAG 1 mm", "T1 MPRAGE", "HEAD"
    ds.ImageComments = "Average of 152 brains (ICBM 2009a), skull removed; no patient; acquisition values are invented"
    ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    ds.SliceThickness = ds.SpacingBetweenSlices = template.spacing[0]
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = ["GR", "IR"], ["SK", "SP", "MP"], ""
    ds.MRAcquisitionType, ds.SequenceName = "3D", "mprage"
    ds.RepetitionTime, ds.EchoTime, ds.InversionTime, ds.FlipAngle = 2300.0, 2.98, 900.0, 9
    ds.EchoTrainLength, ds.NumberOfAverages, ds.MagneticFieldStrength = 1, 1, 3
    ds.ImagingFrequency, ds.ImagedNucleus, ds.PixelBandwidth = 123.2, "1H", 240
    ds.WindowCenter, ds.WindowWidth = 900, 1800
    return ds
