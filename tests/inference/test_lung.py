"""Lung densitometry against a phantom of known truth, against spoilt copies of it, and against real scans."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from dicom_node.demo import chest, phantom
from dicom_node.demo.phantom import PhantomTruth, Scan
from inference.algorithms import lung
from inference.algorithms.airways import Spacing
from inference.algorithms.lung import LEFT, RIGHT, LungResult, Refusal
from storage.facts.errors import Rejected

SMALL = Scan(matrix=192, step=2.5, slices=122, noise_hu=20.0)
Hu = NDArray[np.int16]


def read(files: list[bytes]) -> tuple[Hu, Spacing]:
    """Stored axial slices as the algorithm wants them."""
    slices = [pydicom.dcmread(io.BytesIO(data)) for data in files]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    hu = np.stack([ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in slices])
    heights = [float(ds.ImagePositionPatient[2]) for ds in slices]
    row, column = (float(v) for v in slices[0].PixelSpacing)
    return np.clip(hu, -32768, 32767).astype(np.int16), (float(np.median(np.diff(heights))), row, column)


def real(shared_data: Path, name: str) -> LungResult:
    with zipfile.ZipFile(shared_data / "studies" / f"{name}.zip") as archive:
        return lung.measure(*read([archive.read(f) for f in archive.namelist() if not f.endswith("/")]))


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Hu, Spacing, PhantomTruth]:
    folder = tmp_path_factory.mktemp("chest")
    truth = phantom.write(folder, seed=3, scan=SMALL)
    return *read([path.read_bytes() for path in folder.iterdir()]), truth


@pytest.fixture(scope="module")
def result(scanned: tuple[Hu, Spacing, PhantomTruth]) -> LungResult:
    return lung.measure(*scanned[:2])


def index(x: float, y: float, z: float) -> tuple[int, int, int]:
    """The voxel of the small phantom at a place in the patient, mm."""
    half = SMALL.field / 2
    return round((z - SMALL.bottom) / SMALL.step), int((y + half) / SMALL.pixel), int((x + half) / SMALL.pixel)


def test_the_truth_of_the_phantom_is_measured(scanned: tuple[Hu, Spacing, PhantomTruth], result: LungResult) -> None:
    truth = scanned[2]

    assert result.refusal is None
    assert result.warnings == ()
    assert result.both.volume_ml == pytest.approx(truth.volume_ml, rel=0.01)
    assert result.right.volume_ml == pytest.approx(truth.right_ml, rel=0.01)
    assert result.left.volume_ml == pytest.approx(truth.left_ml, rel=0.01)
    assert result.both.mean_hu == pytest.approx(truth.mean_hu, abs=2.0)
    assert result.both.laa950_percent == pytest.approx(truth.noisy_laa950_percent, abs=0.15)
    assert result.both.perc15_hu == pytest.approx(truth.noisy_perc15_hu, abs=1.5)


def test_the_noise_is_part_of_what_is_measured(scanned: tuple[Hu, Spacing, PhantomTruth], result: LungResult) -> None:
    truth = scanned[2]

    assert truth.perc15_hu - truth.noisy_perc15_hu > 5.0
    assert abs(result.both.perc15_hu - truth.perc15_hu) > 5.0


def test_the_numbers_are_those_of_the_voxels_under_the_mask(
    scanned: tuple[Hu, Spacing, PhantomTruth], result: LungResult
) -> None:
    hu, spacing, _ = scanned
    for side, said in ((RIGHT, result.right), (LEFT, result.left)):
        voxels = np.maximum(hu[result.mask == side], -1024)
        assert said.volume_ml == pytest.approx(voxels.size * np.prod(spacing) / 1000.0)
        assert said.mean_hu == pytest.approx(voxels.mean())
        assert said.laa950_percent == pytest.approx(100.0 * (voxels < -950).mean())
        assert said.perc15_hu == np.percentile(voxels, 15, method="inverted_cdf")
    assert result.both.volume_ml == pytest.approx(result.right.volume_ml + result.left.volume_ml)
    assert hu[result.mask > 0].max() < -400


@pytest.mark.parametrize(
    "place",
    [
        pytest.param((0.0, -2.0, 80.0), id="trachea"),
        pytest.param((-20.0, 8.5, 14.0), id="right main bronchus"),
        pytest.param((20.0, 8.0, 12.0), id="left main bronchus"),
        pytest.param((74.0, -30.0, -125.0), id="stomach gas"),
        pytest.param((0.0, -150.0, 0.0), id="room"),
        pytest.param((0.0, 132.0, 0.0), id="table foam"),
    ],
)
def test_other_air_is_left_out(
    scanned: tuple[Hu, Spacing, PhantomTruth], result: LungResult, place: tuple[float, float, float]
) -> None:
    at = index(*place)

    assert scanned[0][at] < -800
    assert result.mask[at] == 0


def test_right_and_left_follow_the_columns(scanned: tuple[Hu, Spacing, PhantomTruth], result: LungResult) -> None:
    hu, spacing, _ = scanned
    mirrored = lung.measure(np.ascontiguousarray(hu[:, :, ::-1]), spacing)

    assert result.mask[index(-75.0, -60.0, 0.0)] == RIGHT
    assert result.mask[index(100.0, 0.0, 0.0)] == LEFT
    assert mirrored.right.volume_ml == pytest.approx(result.left.volume_ml, rel=0.002)
    assert mirrored.left.volume_ml == pytest.approx(result.right.volume_ml, rel=0.002)


def test_lungs_that_touch_in_front_are_parted(scanned: tuple[Hu, Spacing, PhantomTruth], result: LungResult) -> None:
    hu, spacing, truth = scanned
    touching = hu.copy()
    low, high = index(-50.0, -40.0, 60.0), index(50.0, -32.0, 85.0)
    touching[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = -850
    parted = lung.measure(touching, spacing)

    bridge_ml = (parted.both.volume_ml - result.both.volume_ml) / 2
    assert bridge_ml > 1.0
    assert parted.right.volume_ml == pytest.approx(truth.right_ml + bridge_ml, rel=0.01)
    assert parted.left.volume_ml == pytest.approx(truth.left_ml + bridge_ml, rel=0.01)


def test_noise_lets_nothing_leak_from_the_airways(
    scanned: tuple[Hu, Spacing, PhantomTruth], result: LungResult
) -> None:
    hu, spacing, truth = scanned
    noise = np.random.default_rng(1).normal(0, 60, hu.shape).astype(np.float32)
    noisy = lung.measure(np.clip(hu + noise, -1024, 3071).astype(np.int16), spacing)

    assert noisy.refusal is None
    assert noisy.airway_ml < 1.5 * result.airway_ml
    assert noisy.both.volume_ml == pytest.approx(truth.volume_ml, rel=0.02)


def test_padding_outside_the_scanner_changes_nothing(
    scanned: tuple[Hu, Spacing, PhantomTruth], result: LungResult
) -> None:
    hu, spacing, _ = scanned
    rows, columns = np.ogrid[: hu.shape[1], : hu.shape[2]]
    padded = hu.copy()
    padded[:, np.hypot(rows - 95.5, columns - 95.5) > 95.0] = -3024

    assert np.array_equal(lung.measure(padded, spacing).mask, result.mask)


@pytest.mark.parametrize(
    ("low", "high", "refusal"),
    [
        pytest.param(-200.0, 60.0, Refusal.CUT_AT_TOP, id="apices missing"),
        pytest.param(-110.0, 200.0, Refusal.CUT_AT_BOTTOM, id="bases missing"),
        pytest.param(-200.0, -142.0, Refusal.NO_LUNGS, id="abdomen with gas"),
    ],
)
def test_lungs_that_are_not_all_there_are_refused(
    scanned: tuple[Hu, Spacing, PhantomTruth], low: float, high: float, refusal: Refusal
) -> None:
    hu, spacing, _ = scanned
    part = hu[max(0, index(0, 0, low)[0]) : index(0, 0, high)[0]]
    refused = lung.measure(part, spacing)

    assert refused.refusal == refusal
    assert not refused.mask.any()
    assert refused.both.volume_ml == 0.0


def test_the_slab_of_the_demo_is_refused(tmp_path: Path) -> None:
    phantom.write(tmp_path, slab=True)

    assert lung.measure(*read([p.read_bytes() for p in tmp_path.iterdir()])).refusal == Refusal.CUT_AT_TOP


def test_a_box_of_room_air_without_a_trachea_is_no_chest(scanned: tuple[Hu, Spacing, PhantomTruth]) -> None:
    hu, spacing, _ = scanned
    closed = hu.copy()
    trachea, half = index(0.0, 0.0, 0.0), 12
    closed[:, :, trachea[2] - half : trachea[2] + half] = 40

    assert lung.measure(closed, spacing).refusal == Refusal.NO_AIRWAY


def test_lungs_of_a_doll_are_too_small(scanned: tuple[Hu, Spacing, PhantomTruth]) -> None:
    hu, spacing, _ = scanned
    shrunk = (spacing[0] * 0.42, spacing[1] * 0.42, spacing[2] * 0.42)

    assert lung.measure(hu, shrunk).refusal in {Refusal.TOO_SMALL, Refusal.NO_AIRWAY}


def test_a_consolidated_lung_is_a_warning(scanned: tuple[Hu, Spacing, PhantomTruth], result: LungResult) -> None:
    hu, spacing, truth = scanned
    white = hu.copy()
    white[result.mask == LEFT] = 30
    one = lung.measure(white, spacing)

    assert one.refusal is None
    assert one.warnings == ("only the right lung is aerated",)
    assert one.right.volume_ml == pytest.approx(truth.right_ml, rel=0.01)


def test_emphysema_is_not_taken_for_gas(scanned: tuple[Hu, Spacing, PhantomTruth], result: LungResult) -> None:
    hu, spacing, truth = scanned
    destroyed = hu.copy()
    upper = result.mask.copy()
    upper[: index(0, 0, -20.0)[0]] = 0
    destroyed[upper > 0] = np.minimum(destroyed[upper > 0], -975)
    severe = lung.measure(destroyed, spacing)

    assert severe.both.volume_ml == pytest.approx(truth.volume_ml, rel=0.02)
    assert severe.both.laa950_percent > 35.0


def test_a_single_slice_is_no_volume() -> None:
    with pytest.raises(Rejected, match="at least 8 frames"):
        lung.measure(np.zeros((1, 64, 64), np.int16), (1.0, 1.0, 1.0))


def test_an_empty_scan_has_no_lungs() -> None:
    assert lung.measure(np.full((30, 64, 64), -1000, np.int16), (3.0, 3.0, 3.0)).refusal == Refusal.NO_LUNGS


def test_the_airways_of_the_phantom_are_found(result: LungResult) -> None:
    trachea = chest.AIRWAYS[0]
    height = SMALL.bottom + SMALL.slices * SMALL.step - trachea.end[2]
    lumen_ml = np.pi * trachea.radius**2 * height / 1000.0

    assert lumen_ml * 0.7 < result.airway_ml < lumen_ml * 1.7
    assert result.tracheal_air_hu == pytest.approx(chest.LUMEN, abs=6.0)


@pytest.mark.shared_data
def test_a_real_chest_is_measured_without_stomach_and_airways(shared_data: Path) -> None:
    found = real(shared_data, "ct_chest_full_ricord1a")

    assert found.refusal is None
    assert 2550 < found.both.volume_ml < 2720
    assert 1150 < found.right.volume_ml < 1290
    assert -775 < found.both.mean_hu < -762
    assert found.both.laa950_percent < 0.5
    assert -868 <= found.both.perc15_hu <= -858
    assert 35 < found.airway_ml < 65


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("ct_abdomen_no_lungs_acrin001", Refusal.CUT_AT_TOP),
        ("ct_chest_lower_b10f_acrin013", Refusal.CUT_AT_TOP),
        ("ct_head_tilt_varspacing_ge", Refusal.NO_LUNGS),
    ],
)
def test_real_scans_without_whole_lungs_are_refused(shared_data: Path, name: str, refusal: Refusal) -> None:
    assert real(shared_data, name).refusal == refusal
