"""The chest phantom: valid DICOM, the same on every run, and as true as it says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from math import pi
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_node.demo import chest, phantom
from dicom_node.demo.phantom import PhantomTruth, Scan
from dicom_node.demo.shapes import Capsule, Ellipsoid, Plane, paint

SMALL = Scan(matrix=128, step=4.0, slices=76)
QUIET = Scan(matrix=256, step=2.0, slices=152, noise_hu=0.0)


def validator() -> str:
    found = shutil.which("dciodvfy", path=str(Path(sys.executable).parent)) or shutil.which("dciodvfy")
    if found is None:
        pytest.skip("dciodvfy is not installed")
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PhantomTruth]:
    folder = tmp_path_factory.mktemp("phantom")
    return folder, phantom.write(folder, seed=5, scan=SMALL)


def slices(folder: Path) -> list[pydicom.FileDataset]:
    return sorted((pydicom.dcmread(p) for p in folder.iterdir()), key=lambda ds: float(ds.ImagePositionPatient[2]))


def test_the_same_seed_gives_the_same_bytes(written: tuple[Path, PhantomTruth], tmp_path: Path) -> None:
    folder, truth = written
    again = phantom.write(tmp_path, seed=5, scan=SMALL)

    assert again == truth
    assert [p.read_bytes() for p in sorted(tmp_path.iterdir())] == [p.read_bytes() for p in sorted(folder.iterdir())]


def test_another_seed_is_another_patient(written: tuple[Path, PhantomTruth], tmp_path: Path) -> None:
    truth = written[1]
    other = phantom.write(tmp_path, seed=6, scan=SMALL)

    assert {other.study_uid, other.series_uid, other.patient_id}.isdisjoint(
        {truth.study_uid, truth.series_uid, truth.patient_id}
    )


@pytest.mark.parametrize("name", ["ct-0001.dcm", "ct-0040.dcm"])
def test_the_validator_finds_nothing(written: tuple[Path, PhantomTruth], name: str) -> None:
    done = subprocess.run([validator(), str(written[0] / name)], capture_output=True, text=True, check=False)

    assert "Error" not in done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr
    assert done.returncode == 0


def test_the_series_is_one_regular_axial_stack(written: tuple[Path, PhantomTruth]) -> None:
    folder, truth = written
    read = slices(folder)

    assert len(read) == truth.instances == SMALL.slices
    assert {ds.SOPClassUID for ds in read} == {CTImageStorage}
    assert {ds.file_meta.TransferSyntaxUID for ds in read} == {ExplicitVRLittleEndian}
    assert {str(ds.SeriesInstanceUID) for ds in read} == {truth.series_uid}
    assert len({ds.SOPInstanceUID for ds in read}) == SMALL.slices
    assert len({ds.InstanceNumber for ds in read}) == SMALL.slices
    heights = np.array([float(ds.ImagePositionPatient[2]) for ds in read])
    assert np.allclose(np.diff(heights), SMALL.step)
    assert read[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert float(read[0].PixelSpacing[0]) * SMALL.matrix == pytest.approx(SMALL.field)


def test_nobody_takes_it_for_a_patient(written: tuple[Path, PhantomTruth]) -> None:
    ds = slices(written[0])[0]

    assert str(ds.PatientName) == "PHANTOM^CHEST"
    assert "phantom" in ds.ImageComments.lower()
    assert not ds.PatientBirthDate


def test_the_slab_is_another_study_without_apices(tmp_path: Path) -> None:
    truth = phantom.write(tmp_path, slab=True)
    read = slices(tmp_path)
    top = max(lung.bounds[1][2] for lung in chest.LUNGS)

    assert float(read[-1].ImagePositionPatient[2]) < top - 50
    assert read[0].SliceThickness == 5
    assert truth.study_uid != phantom.header.uid("chest phantom", 1, phantom.WHOLE, "study")


def test_the_noise_is_as_strong_as_it_says(written: tuple[Path, PhantomTruth]) -> None:
    heart = chest.HEART[0].centre
    tissue = np.stack([ds.pixel_array[window(heart)] for ds in slices(written[0])[26:31]]) - 1024.0

    assert tissue.std() == pytest.approx(SMALL.noise_hu, rel=0.07)
    assert abs(tissue.mean() - chest.BLOOD) < 2


def window(centre: tuple[float, float, float], reach: float = 20.0) -> tuple[slice, slice]:
    """Rows and columns of the small scan around a place."""
    low, high = ([round((c + SMALL.field / 2 + side * reach) / SMALL.pixel) for c in centre[:2]] for side in (-1, 1))
    return slice(low[1], high[1]), slice(low[0], high[0])


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PhantomTruth]:
    folder = tmp_path_factory.mktemp("quiet")
    return folder, phantom.write(folder, seed=5, scan=QUIET)


def test_the_truth_does_not_depend_on_the_grid(
    written: tuple[Path, PhantomTruth], quiet: tuple[Path, PhantomTruth]
) -> None:
    coarse, fine = written[1], quiet[1]

    assert coarse.volume_ml == pytest.approx(fine.volume_ml, rel=0.01)
    assert coarse.emphysema_ml == fine.emphysema_ml
    assert fine.noisy_laa950_percent == fine.laa950_percent


def test_the_pixels_hold_as_much_emphysema_as_the_balls_radii_say(quiet: tuple[Path, PhantomTruth]) -> None:
    folder, truth = quiet
    half = QUIET.field / 2
    at = ((np.arange(QUIET.matrix) + 0.5) * QUIET.pixel - half).astype(np.float32)
    x, y = at[np.newaxis, :], at[:, np.newaxis]
    # The blurred edge of a ball is half way between its density and its surroundings' where the ball ends.
    limit = (chest.LUNG_MIDDLE + chest.LUNG_SLOPE * y + chest.EMPHYSEMA) / 2
    light = 0
    for ds in slices(folder):
        z = float(ds.ImagePositionPatient[2])
        inside = np.min([lung.distance(x, y, z) for lung in chest.LUNGS], axis=0) < -2
        other = [shape.distance(x, y, z) for shape in (*chest.AIRWAYS, *chest.DOMES, *chest.HEART)]
        clear = inside & (np.min(other, axis=0) > 2)
        light += int(np.count_nonzero((ds.pixel_array - 1024.0 < limit) & clear))
    light_ml = light * QUIET.pixel**2 * QUIET.step / 1000.0

    assert light_ml == pytest.approx(truth.emphysema_ml, rel=0.04)
    assert truth.emphysema_ml == pytest.approx(QUIET.emphysema_percent / 100.0 * chest.space_ml(), rel=0.02)


def test_the_balls_of_emphysema_keep_apart_and_inside() -> None:
    balls = chest.disease(7, 8.0).emphysema
    centres = np.array([ball.start for ball in balls])
    radii = np.array([ball.radius for ball in balls])
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=2) - radii[:, None] - radii[None]
    np.fill_diagonal(gaps, np.inf)
    x, y, z = (c.astype(np.float32) for c in centres.T)

    assert gaps.min() > 1.0
    assert all((np.min([lung.distance(x, y, z) for lung in chest.LUNGS], axis=0) < -radii).tolist())


def test_normal_noise_spreads_a_single_density_as_the_normal_law_says() -> None:
    counts = np.zeros(624, np.int64)
    counts[-950 - phantom.LOWEST] = 1000

    assert phantom.share_below(counts, -950.0, 10.0) == pytest.approx(0.5)
    assert phantom.share_below(counts, -960.0, 10.0) == pytest.approx(0.158655, abs=1e-5)
    assert phantom.percentile(counts, 0.158655, 10.0) == pytest.approx(-960.0, abs=0.1)
    assert phantom.share_below(counts, -949.5, 0.0) == 1.0
    assert phantom.share_below(counts, -950.5, 0.0) == 0.0


@pytest.mark.parametrize(
    ("shape", "volume"),
    [
        (Ellipsoid(centre=(1.0, 2.0, 3.0), semi=(20.0, 12.0, 15.0)), 4 / 3 * pi * 20 * 12 * 15),
        (Ellipsoid(centre=(0.0, 0.0, 0.0), semi=(10.0, 10.0, 8.0), lower=24.0), 2 / 3 * pi * 100 * 32),
        (Capsule(start=(0.0, 0.0, -10.0), end=(0.0, 0.0, 10.0), radius=9.0), pi * 81 * 20 + 4 / 3 * pi * 729),
    ],
)
def test_a_painted_shape_has_the_volume_of_its_formula(shape: Ellipsoid | Capsule, volume: float) -> None:
    at = np.arange(-40, 40, 0.5, np.float32) + np.float32(0.25)
    plane = Plane(x=at[np.newaxis, :], y=at[:, np.newaxis], blur=1.0)
    total = 0.0
    for z in at:
        slice_: NDArray[np.float32] = np.zeros((at.size, at.size), np.float32)
        paint(slice_, plane, float(z), shape, 1.0)
        total += float(slice_.sum())

    assert total * 0.125 == pytest.approx(volume, rel=0.01)


def test_no_room_for_emphysema_is_said() -> None:
    with pytest.raises(ValueError, match="no room left"):
        chest.disease(1, 60.0)
