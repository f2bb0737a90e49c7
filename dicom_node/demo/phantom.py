"""Writes a chest CT of nobody, whose lung volume and densities are known, to show and to check the node with.

The truth comes from the shapes themselves: the density field after the scanner's blur, before noise. Noise moves the
density indices (%LAA-950 above all), so the truth is given twice: without noise, and as expected under normal noise of
the stated standard deviation, from the mixture of normal distribution functions over the field's histogram.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from dicom_node.demo import chest, header
from dicom_node.demo.shapes import Capsule, Floats, Pile, Plane, Shape, paint

LOWEST = -1024  #: HU of a stored zero
AERATED = -400  #: HU; denser voxels are not measured (as in densitometry of the aerated lung)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """How the phantom is scanned; lengths in mm."""

    matrix: int = 384
    field: float = 360.0
    step: float = 1.5  #: between slices, and their thickness
    bottom: float = -171.0  #: z of the lowest slice
    slices: int = 200
    noise_hu: float = 15.0  #: standard deviation
    emphysema_percent: float = 8.0  #: of the lungs
    part: str = "CHEST"  #: in the patient's name and ID
    description: str = "CHEST 1.5 mm STANDARD"
    priority: str = ""  #: of the order: STAT, HIGH, ROUTINE …; empty: not stated

    @property
    def pixel(self) -> float:
        return self.field / self.matrix


WHOLE = Scan(emphysema_percent=14.0, priority="STAT")  # enough that every reading of the numbers calls it emphysema
SLAB = Scan(  # the apices are cut off
    step=5.0, bottom=-168.0, slices=34, noise_hu=10.0, part="LOWER CHEST", description="LOWER CHEST 5 mm STANDARD"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomTruth:
    """What is so about the phantom as it was scanned. Lungs: aerated parenchyma, without airways, vessels, nodules."""

    study_uid: str
    series_uid: str
    patient_id: str
    instances: int
    volume_ml: float
    right_ml: float
    left_ml: float
    mean_hu: float
    laa950_percent: float  #: without noise
    perc15_hu: float  #: without noise
    noisy_laa950_percent: float  #: as expected under the noise
    noisy_perc15_hu: float  #: as expected under the noise
    noise_hu: float
    emphysema_ml: float  #: of the balls, by their radii


def write(folder: Path, *, seed: int = 1, slab: bool = False, scan: Scan | None = None) -> PhantomTruth:
    """Writes the series into ``folder`` as one file a slice, and tells its truth; the same for the same arguments.

    ``slab`` scans the lower chest only, in 5 mm slices: lung densitometry must refuse it.
    """
    scan = scan or (SLAB if slab else WHOLE)
    folder.mkdir(parents=True, exist_ok=True)
    plane = _plane(scan)
    disease = chest.disease(seed, scan.emphysema_percent)
    chance = np.random.default_rng([seed, 1])
    filter_ = _noise_filter(scan)
    names = ("chest phantom", seed, scan)
    ds = _header(scan, names, seed)
    base = chest.background(plane)
    light, dense = Pile(disease.emphysema), Pile((*chest.HEART, *disease.vessels, *disease.nodules))
    counts = np.zeros((2, -LOWEST + AERATED), np.int64)
    noise: list[Floats] = []
    for k in range(scan.slices):
        z = scan.bottom + k * scan.step
        hu, lungs = _slice(base, plane, z, light, dense)
        _count(hu, lungs, counts)
        noise = noise or _noise(filter_, scan.noise_hu, chance)
        _write_slice(ds, hu + noise.pop(), k, z, scan, folder, names)
    return _truth(ds, scan, counts, disease.emphysema_ml)


def _plane(scan: Scan) -> Plane:
    at = ((np.arange(scan.matrix) + 0.5) * scan.pixel - scan.field / 2).astype(np.float32)
    return Plane(x=at[np.newaxis, :], y=at[:, np.newaxis], blur=1.6 * scan.pixel)


def _slice(base: Floats, plane: Plane, z: float, light: Pile, dense: Pile) -> tuple[Floats, NDArray[np.uint8]]:
    """One slice in HU without noise, and where its parenchyma is: 1 right, 2 left."""
    hu = base.copy()
    lungs = np.zeros(hu.shape, np.uint8)
    hu += chest.ribs(plane, z) * (np.float32(chest.BONE) - hu)
    paint(hu, plane, z, chest.STERNUM, chest.BONE)
    tissue = (chest.LUNG_MIDDLE + chest.LUNG_SLOPE * plane.y).astype(np.float32)
    for side, lung in enumerate(chest.LUNGS, start=1):
        touched = paint(hu, plane, z, lung, tissue)
        if touched is not None:
            lungs[touched[0]][touched[1]] = side
    for ball in light.at(z, plane.blur):
        paint(hu, plane, z, ball, chest.EMPHYSEMA)
    for dome in (*chest.DOMES, *chest.LIVER_BELOW):
        _displace(hu, lungs, plane, z, dome, chest.LIVER)
    for shape in dense.at(z, plane.blur):
        _displace(hu, lungs, plane, z, shape, chest.BLOOD)
    paint(hu, plane, z, chest.STOMACH, np.where(plane.y < chest.FLUID_LEVEL, chest.AIR, 10.0).astype(np.float32))
    for tube in chest.AIRWAYS:
        wall = Capsule(start=tube.start, end=tube.end, radius=tube.radius + chest.WALL)
        _displace(hu, lungs, plane, z, wall, chest.MUSCLE)
    for tube in chest.AIRWAYS:
        paint(hu, plane, z, tube, chest.LUMEN)
    return hu, lungs


def _displace(hu: Floats, lungs: NDArray[np.uint8], plane: Plane, z: float, shape: Shape, value: float) -> None:
    """Paints what is not parenchyma."""
    touched = paint(hu, plane, z, shape, value)
    if touched is not None:
        lungs[touched[0]][touched[1]] = 0


def _count(hu: Floats, lungs: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
    """Adds the slice's aerated parenchyma to the histograms of right and left, 1 HU a bin."""
    for side in (1, 2):
        values = np.rint(hu[lungs == side]).astype(np.int64)
        counts[side - 1] += np.bincount(values[values < AERATED] - LOWEST, minlength=counts.shape[1])


def _noise_filter(scan: Scan) -> Floats:
    """Amplitude of the noise over spatial frequency: a ramp that a standard kernel rolls off (mean square 1)."""
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(scan.matrix, scan.pixel), np.fft.fftfreq(scan.matrix, scan.pixel)))
    shape = np.sqrt(f) * np.exp(-((f / 0.4) ** 2))
    return np.asarray(shape / np.sqrt(np.mean(shape**2)), np.float32)


def _noise(filter_: Floats, sigma: float, chance: np.random.Generator) -> list[Floats]:
    """Two independent slices of noise, the real and the imaginary part of one transform."""
    n = filter_.shape[0]
    white = chance.standard_normal((n, n, 2), np.float32).view(np.complex64)[..., 0]
    field = np.fft.ifft2(white * filter_) * (n * sigma)
    return [field.real.astype(np.float32), field.imag.astype(np.float32)]


def _header(scan: Scan, names: tuple[object, ...], seed: int) -> Dataset:
    subject = header.Subject(
        name=f"PHANTOM^{scan.part}",
        identifier=f"PHANTOM-{scan.part.replace(' ', '-')}-{seed}",
        study="CT CHEST",
        accession=f"DEMO-CT-{header.uid(*names)[-6:]}",
    )
    ds = header.series(subject, "CT", CTImageStorage, names)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesDescription, ds.ProtocolName, ds.BodyPartExamined = scan.description, "CHEST", "CHEST"
    ds.ImageComments = "Digital phantom made by computation; no patient"
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SliceThickness, ds.KVP, ds.ConvolutionKernel = scan.step, 120, "STANDARD"
    ds.ScanOptions, ds.GantryDetectorTilt, ds.TableHeight = "HELICAL MODE", 0, 150
    ds.DataCollectionDiameter, ds.ReconstructionDiameter = 500, scan.field
    ds.ExposureTime, ds.XRayTubeCurrent, ds.Exposure = 500, 200, 100
    ds.RotationDirection, ds.FilterType = "CW", "BODY"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = LOWEST, 1, "HU"
    ds.WindowCenter, ds.WindowWidth = [-600, 40], [1500, 400]
    if scan.priority:
        ds.RequestAttributesSequence = [_order(scan, subject)]
    return ds


def _order(scan: Scan, subject: header.Subject) -> Dataset:
    """The order that the scan answers (PS3.3 10.6), with its priority as a modality worklist gives it."""
    item = Dataset()
    item.RequestedProcedureID, item.ScheduledProcedureStepID = subject.accession, "1"
    item.RequestedProcedureDescription, item.RequestedProcedurePriority = subject.study, scan.priority
    return item


def _write_slice(
    ds: Dataset, hu: Floats, k: int, z: float, scan: Scan, folder: Path, names: tuple[object, ...]
) -> None:
    ds.SOPInstanceUID = header.uid(*names, "image", k)
    ds.InstanceNumber = scan.slices - k  #: numbered from the head, as scanners do
    corner = -scan.field / 2 + scan.pixel / 2
    ds.ImagePositionPatient = [corner, corner, round(z, 3)]
    ds.SliceLocation = round(z, 3)
    header.image(ds, np.clip(np.rint(hu) - LOWEST, 0, 4095).astype(np.uint16), (scan.pixel, scan.pixel), 12)
    header.write(ds, folder / f"ct-{scan.slices - k:04d}.dcm")


def _truth(ds: Dataset, scan: Scan, counts: NDArray[np.int64], emphysema_ml: float) -> PhantomTruth:
    voxel_ml = scan.pixel**2 * scan.step / 1000.0
    both = counts.sum(axis=0)
    values = np.arange(LOWEST, AERATED)
    return PhantomTruth(
        study_uid=str(ds.StudyInstanceUID),
        series_uid=str(ds.SeriesInstanceUID),
        patient_id=str(ds.PatientID),
        instances=scan.slices,
        volume_ml=float(both.sum()) * voxel_ml,
        right_ml=float(counts[0].sum()) * voxel_ml,
        left_ml=float(counts[1].sum()) * voxel_ml,
        mean_hu=float(both @ values / max(1, both.sum())),
        laa950_percent=100.0 * share_below(both, -950.5, 0.0),
        perc15_hu=percentile(both, 0.15, 0.0),
        noisy_laa950_percent=100.0 * share_below(both, -950.5, scan.noise_hu),
        noisy_perc15_hu=percentile(both, 0.15, scan.noise_hu),
        noise_hu=scan.noise_hu,
        emphysema_ml=emphysema_ml,
    )


def share_below(counts: NDArray[np.int64], limit: float, sigma: float) -> float:
    """Share of voxels under ``limit`` HU when normal noise of ``sigma`` HU is added to a field of this histogram.

    Whole numbers are stored, so "under -950" means under -950.5 before rounding.
    """
    values = np.arange(LOWEST, LOWEST + counts.size)
    if sigma <= 0:
        below = (values < limit).astype(np.float64)
    else:
        below = np.array([0.5 * (1 + erf((limit - v) / (sigma * sqrt(2)))) for v in values])
    return float(counts @ below) / max(1, int(counts.sum()))


def percentile(counts: NDArray[np.int64], share: float, sigma: float) -> float:
    """HU under which ``share`` of the noisy voxels lie, to 0.1 HU."""
    low, high = float(LOWEST) - 6 * sigma, float(LOWEST + counts.size)
    while high - low > 0.1:
        middle = (low + high) / 2
        low, high = (middle, high) if share_below(counts, middle, sigma) < share else (low, middle)
    return (low + high) / 2
