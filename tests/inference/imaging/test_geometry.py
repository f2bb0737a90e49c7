"""Where a voxel lies, for any way in which a scanner may store it: against the standard's equation and highdicom."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from inference.imaging.volume import Volume, load
from tests.inference.imaging.making import FRAME_TYPES, Groups, Place, classic, enhanced, frames, turned
from tests.inference.series import Studies, write

ANGLES = st.tuples(*[st.one_of(st.floats(-np.pi, np.pi), st.sampled_from([0.0, np.pi / 2, np.pi, -np.pi / 2]))] * 3)
LENGTH = st.floats(0.3, 4.0)
PLACES = st.builds(
    lambda angles, origin, step, sign, rows, columns: Place(
        orientation=turned(angles), origin=origin, step=sign * step, spacing=(round(rows, 4), round(columns, 4))
    ),
    ANGLES, st.tuples(*[st.floats(-300, 300)] * 3), LENGTH, st.sampled_from([1, -1]), LENGTH, LENGTH,
)  # fmt: skip
SHAPES = st.tuples(st.integers(3, 7), st.integers(2, 6), st.integers(2, 6))
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
MARKED = 3000  #: brighter than all else


def voxels_of(shape: tuple[int, int, int], marker: Sequence[int]) -> npt.NDArray[np.int16]:
    values = np.random.default_rng(1).integers(0, 1000, shape).astype(np.int16)
    values[tuple(marker)] = MARKED
    return values


def loaded(datasets: Sequence[Dataset]) -> Volume:
    with tempfile.TemporaryDirectory() as folder:
        return load(write(Path(folder), datasets))


def in_patient(volume: Volume, index: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    return np.asarray((volume.affine @ np.r_[index, 1.0])[:3])


def require_same(volume: Volume, oracle: highdicom.Volume) -> None:
    """Every voxel has the value that highdicom has at the same place in the patient."""
    places = np.indices(volume.voxels.shape).reshape(3, -1).T
    there = oracle.map_reference_to_indices(places @ volume.affine[:3, :3].T + volume.affine[:3, 3])
    np.testing.assert_allclose(there, np.rint(there), atol=0.01)
    np.testing.assert_allclose(oracle.array[tuple(np.rint(there).astype(int).T)], volume.voxels.ravel(), rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(PLACES, SHAPES, st.randoms(use_true_random=False), st.data())
def test_a_marker_lies_where_the_standard_says_in_any_orientation_order_and_spacing(
    place: Place, shape: tuple[int, int, int], order: random.Random, data: st.DataObject
) -> None:
    marker = [data.draw(st.integers(0, size - 1)) for size in shape]
    images = frames(voxels_of(shape, marker), place)
    order.shuffle(images)
    datasets = classic(images)

    volume = loaded(datasets)

    found = np.argwhere(volume.voxels == MARKED)
    assert len(found) == 1
    half = 0.5 * min(place.spacing[0], place.spacing[1], abs(place.step))
    assert np.linalg.norm(in_patient(volume, found[0]) - place.point(*marker)) < 0.1 * half
    require_same(volume, highdicom.get_volume_from_series(datasets))


@settings(max_examples=40, deadline=None)
@given(
    PLACES, SHAPES, st.randoms(use_true_random=False), st.sampled_from(sorted(FRAME_TYPES)), st.sampled_from(SYNTAXES),
    st.data(),
)  # fmt: skip
def test_frames_of_an_enhanced_object_lie_where_the_standard_says(
    place: Place, shape: tuple[int, int, int], order: random.Random, sop_class: str, syntax: str, data: st.DataObject
) -> None:
    marker = [data.draw(st.integers(0, size - 1)) for size in shape]

    def rescaled(index: int) -> Groups:
        return {"PixelValueTransformationSequence": {"RescaleSlope": 0.5 * (index + 1), "RescaleIntercept": index}}

    images = frames(voxels_of(shape, marker), place, rescaled)
    order.shuffle(images)
    dataset = enhanced(images, sop_class)
    dataset.file_meta.TransferSyntaxUID = syntax

    volume = loaded([dataset])

    assert [images[frame.number - 1].index for frame in volume.frames if frame.number] in (
        list(range(shape[0])), list(range(shape[0]))[::-1],
    )  # fmt: skip
    [found] = np.argwhere(volume.voxels == np.float32(0.5 * MARKED * (marker[0] + 1) + marker[0]))
    assert np.linalg.norm(in_patient(volume, found) - place.point(*marker)) < 0.01
    require_same(volume, highdicom.Image.from_dataset(dataset).get_volume(apply_real_world_transform=False))


def test_a_part_of_a_stack_lies_where_it_lay_in_the_whole(tmp_path: Path) -> None:
    place = Place(orientation=turned((0.3, -0.2, 0.5)), step=-1.5)
    voxels = voxels_of((9, 6, 5), (4, 3, 2))
    images = frames(voxels, place)

    whole, part = load(write(tmp_path / "whole", classic(images))), load(write(tmp_path / "part", classic(images[3:7])))

    for volume in (whole, part):
        [found] = np.argwhere(volume.voxels == MARKED)
        assert in_patient(volume, found) == pytest.approx(place.point(4, 3, 2), abs=1e-4)


@pytest.mark.shared_data
def test_a_real_enhanced_mr_is_read_as_highdicom_reads_it(studies: Studies) -> None:
    [path] = studies("mr_t1_enhanced_xa30")
    image = highdicom.Image.from_dataset(pydicom.dcmread(path))

    require_same(load([path]), image.get_volume(apply_real_world_transform=False, apply_voi_transform=False))
