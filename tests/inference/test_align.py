"""Two series of one patient on one grid: what lies at one place in the patient lies at one voxel."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from inference.imaging.align import onto, share_frame_of_reference
from inference.imaging.volume import Volume, load
from tests import builders
from tests.inference.series import write

Vector = npt.NDArray[np.float64]


def scanned(marker: Vector, chance: np.random.Generator, series: int) -> list[Dataset]:
    """A series of random orientation, spacing and place, with a bright ball of 12 mm around the marker well inside."""
    turn = Rotation.random(random_state=int(chance.integers(1 << 30))).as_matrix()
    along, down, normal = turn[:, 0], turn[:, 1], np.cross(turn[:, 0], turn[:, 1])
    step, row, column = chance.uniform(1.0, 3.5, 3)
    shape = (36, 44, 40)
    middle = chance.uniform(0.42, 0.58, 3) * shape
    origin = marker - normal * step * middle[0] - down * row * middle[1] - along * column * middle[2]
    datasets = builders.slices(*shape, step=float(step), orientation=tuple(np.round([*along, *down], 9)))
    rows, columns = np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
    for number, dataset in enumerate(datasets):
        first = origin + normal * step * number
        places = first + rows[..., None] * row * down + columns[..., None] * column * along
        distance = np.linalg.norm(places - marker, axis=-1)
        builders.pixels(dataset, (1000 * np.exp(-0.5 * (distance / 6.0) ** 2)).astype(np.int16))
        dataset.ImagePositionPatient = [f"{x:.9g}"[:16] for x in first]
        dataset.PixelSpacing = [f"{row:.9g}", f"{column:.9g}"]
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.Modality = 1, 0, "MR"
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"1.2.{series}", f"1.2.{series}.{number}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return datasets


def centre(voxels: npt.NDArray[np.float32]) -> Vector:
    bright = np.where(voxels > 400, voxels, 0.0)
    return np.array([(bright * index).sum() for index in np.indices(voxels.shape)]) / bright.sum()


def place(volume: Volume, marker: Vector) -> Vector:
    found: Vector = (np.linalg.inv(volume.affine) @ [*marker, 1.0])[:3]
    return found


@pytest.mark.parametrize("seed", range(12))
def test_a_marker_lands_on_the_same_voxel_whatever_orientation_and_spacing(seed: int, tmp_path: Path) -> None:
    chance = np.random.default_rng(seed)
    marker = chance.uniform(-200, 200, 3)
    grid, series = (load(write(tmp_path / str(n), scanned(marker, chance, n))) for n in (1, 2))

    aligned = onto(grid, series, 0)

    assert aligned.voxels.shape == grid.voxels.shape
    assert aligned.voxels.dtype == np.float32
    assert np.abs(centre(aligned.voxels) - place(grid, marker)).max() < 0.5
    assert np.abs(centre(aligned.voxels) - centre(grid.voxels.astype(np.float32))).max() < 0.5
    assert aligned.voxels.max() > 850, "the ball is there, not its rim"


def test_one_grid_is_taken_as_it_is(tmp_path: Path) -> None:
    grid = load(write(tmp_path, builders.slices(6, 20, 24)))
    other = dataclasses.replace(grid, voxels=np.arange(6 * 20 * 24, dtype=np.int16).reshape(6, 20, 24))

    aligned = onto(grid, other, 0)

    assert aligned.covered == 1.0
    assert np.array_equal(aligned.voxels, other.voxels)


def test_what_the_series_does_not_reach_is_filled_and_counted(tmp_path: Path) -> None:
    grid = load(write(tmp_path, builders.slices(10, 20, 24, step=2.0)))
    lower = dataclasses.replace(grid, voxels=np.full((4, 20, 24), 7, np.int16))

    aligned = onto(grid, lower, -1000)

    assert aligned.covered == pytest.approx(0.4)
    assert [float(frame.mean()) for frame in aligned.voxels] == [7.0] * 4 + [-1000.0] * 6


def test_the_outer_half_of_an_edge_voxel_is_inside(tmp_path: Path) -> None:
    grid = load(write(tmp_path, builders.slices(8, 20, 24, step=1.0)))
    coarse = grid.affine.copy()
    coarse[:3, 0] *= 2
    coarse[:3, 3] += grid.affine[:3, 0] * 0.5  # the same extent in half as many frames
    series = dataclasses.replace(grid, voxels=np.full((4, 20, 24), 7, np.int16), affine=coarse)

    aligned = onto(grid, series, 0)

    assert aligned.covered == 1.0
    assert np.all(aligned.voxels == 7)


def test_the_checkpoint_is_called_while_it_goes_on(tmp_path: Path) -> None:
    grid = load(write(tmp_path, builders.slices(40, 8, 8, step=1.0)))
    calls: list[int] = []

    onto(grid, dataclasses.replace(grid, voxels=grid.voxels[:20]), 0, lambda: calls.append(1))

    assert len(calls) == 3


def test_only_a_stated_and_equal_frame_of_reference_is_shared(tmp_path: Path) -> None:
    volume = load(write(tmp_path, builders.slices(4, 8, 8)))

    def stating(uid: str) -> Volume:
        header = Dataset()
        header.FrameOfReferenceUID = uid
        return dataclasses.replace(volume, header=header)

    assert share_frame_of_reference(stating("1.2"), stating("1.2"))
    assert not share_frame_of_reference(stating("1.2"), stating("1.3"))
    assert not share_frame_of_reference(stating(""), stating(""))
