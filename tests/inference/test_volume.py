"""From files to a volume, against the very pixels that were written and against highdicom's reading of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from inference.imaging.header import number
from inference.imaging.irregular import Irregular
from inference.imaging.orient import towards
from inference.imaging.volume import AIR_HU, load
from storage.facts.errors import Transient
from tests import builders
from tests.inference.series import edited, series_of, write

OBLIQUE = (0.998, 0.0349, 0.0524, -0.0217, 0.9733, -0.2285)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def _orthonormal(orientation: tuple[float, ...]) -> list[float]:
    along, down = np.array(orientation[:3]), np.array(orientation[3:])
    along = along / np.linalg.norm(along)
    down = down - along * (along @ down)
    return [*along, *(down / np.linalg.norm(down))]


@pytest.mark.parametrize("orientation", [builders.AXIAL, SAGITTAL, OBLIQUE])
@pytest.mark.parametrize("sop_class", [builders.CT, builders.MR])
def test_a_volume_is_what_highdicom_reads(tmp_path: Path, sop_class: str, orientation: tuple[float, ...]) -> None:
    paths = write(tmp_path, builders.slices(sop_class=sop_class, orientation=_orthonormal(orientation)))
    volume = load(paths)
    oracle = highdicom.get_volume_from_series([pydicom.dcmread(p) for p in paths])
    places = np.indices(volume.voxels.shape).reshape(3, -1).T
    in_patient = places @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    there = oracle.map_reference_to_indices(in_patient)
    np.testing.assert_allclose(there, np.rint(there), atol=0.01)
    values = oracle.array[tuple(np.rint(there).astype(int).T)]
    np.testing.assert_array_equal(values, volume.voxels.ravel())


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("sop_class", [builders.ENHANCED_CT, builders.ENHANCED_MR])
def test_frames_of_an_enhanced_object_are_ordered_and_numbered(tmp_path: Path, sop_class: str, shared: bool) -> None:
    dataset = builders.enhanced(sop_class=sop_class, shared=shared)
    stored = np.frombuffer(dataset.PixelData, "<i2").reshape(6, 40, 48)
    groups = dataset.PerFrameFunctionalGroupsSequence
    groups[0], groups[4] = groups[4], groups[0]
    volume = load(write(tmp_path, [dataset]))
    assert [f.number for f in volume.frames] == [5, 2, 3, 4, 1, 6]
    slope, intercept = _rescale(dataset)
    expected = np.maximum(stored[[4, 1, 2, 3, 0, 5]] * slope + intercept, AIR_HU if "CT" in dataset.Modality else -1e9)
    np.testing.assert_allclose(volume.voxels, expected)


def _rescale(dataset: Dataset) -> tuple[float, float]:
    for groups in (dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[0]):
        if "PixelValueTransformationSequence" in groups:
            item = groups.PixelValueTransformationSequence[0]
            return float(item.RescaleSlope), float(item.RescaleIntercept)
    return 1.0, 0.0


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_lossless_compression_changes_nothing(tmp_path: Path, syntax: str) -> None:
    plain = load(write(tmp_path / "plain", builders.slices(4)))
    datasets = builders.slices(4)
    for dataset in datasets:
        dataset.compress(syntax, generate_instance_uid=False)
    packed = load(write(tmp_path / "packed", datasets))
    np.testing.assert_array_equal(packed.voxels, plain.voxels)
    assert packed.frames == plain.frames


def test_ct_is_int16_and_its_padding_is_air(tmp_path: Path) -> None:
    stored = np.full((3, 8, 8), 40, np.int16)
    stored[:, 0, 0], stored[:, 1, 1], stored[:, 2, 2] = -2000, 32767, -1990
    datasets = series_of(stored, 1.0, 1.0, sop_class=builders.CT, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1980)
    voxels = load(write(tmp_path, edited(datasets, lambda _, d: setattr(d, "RescaleIntercept", 5)))).voxels
    assert voxels.dtype == np.int16
    assert [int(voxels[1, i, i]) for i in range(4)] == [AIR_HU, 32767, AIR_HU, 45]


def test_a_fractional_slope_of_one_slice_is_kept(tmp_path: Path) -> None:
    datasets = series_of(np.full((3, 4, 4), 10, np.int16), 1.0, 1.0)
    volume = load(write(tmp_path, edited(datasets, lambda n, d: setattr(d, "RescaleSlope", [1, 0.5, 2][n]))))
    assert volume.voxels.dtype == np.float32
    assert volume.voxels[:, 0, 0].tolist() == [10, 5, 20]


def test_old_overlays_in_unused_bits_are_dropped(tmp_path: Path) -> None:
    stored = np.full((3, 4, 4), 0x0123, np.int16)
    stored[:, 1, 1] |= 0x1000

    def unsigned(_number: int, dataset: Dataset) -> None:
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 0, 12, 11

    datasets = edited(series_of(stored, 1.0, 1.0), unsigned)
    assert np.unique(load(write(tmp_path, datasets)).voxels).tolist() == [0x0123]


def _drop(number: int) -> Callable[[list[Dataset]], list[Dataset]]:
    return lambda datasets: datasets[:number] + datasets[number + 1 :]


def _with(number: int, keyword: str, value: object) -> Callable[[list[Dataset]], list[Dataset]]:
    def change(datasets: list[Dataset]) -> list[Dataset]:
        setattr(datasets[number], keyword, value)
        return datasets

    return change


def _without(keyword: str) -> Callable[[list[Dataset]], list[Dataset]]:
    return lambda datasets: edited(datasets, lambda _, d: delattr(d, keyword))


def _tilted(datasets: list[Dataset]) -> list[Dataset]:
    def shear(number: int, dataset: Dataset) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y + 0.2 * number, z]

    return edited(datasets, shear)


def _drifting(datasets: list[Dataset]) -> list[Dataset]:
    def move(number: int, dataset: Dataset) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x + (2.0 if number == 4 else 0), y, z]

    return edited(datasets, move)


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (_drop(3), "110523", "missing or unevenly spaced"),
        (lambda d: d[:2], "110523", "has 2 slices"),
        (lambda _: [], "110523", "no images"),
        (_with(3, "ImagePositionPatient", [-90, -80, 40]), "110521", "another image already lies"),
        (_with(3, "ImageOrientationPatient", [0, 1, 0, 0, 0, -1]), "110521", "different orientations"),
        (_with(3, "PixelSpacing", [0.5, 0.5]), "110521", "different pixel spacings"),
        (_with(3, "FrameOfReferenceUID", "1.2.3"), "110521", "frames of reference"),
        (_with(3, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "110521", "cannot be true"),
        (_with(3, "RescaleSlope", 0), "110521", "cannot be true"),
        (_with(3, "SamplesPerPixel", 3), "110522", "no grey-scale pixels"),
        (_with(3, "PixelData", b"\0\0"), "110521", "pixels"),
        (_without("ImagePositionPatient"), "110522", "no position"),
        (_without("PixelSpacing"), "110522", "no position"),
        (_without("PixelData"), "110522", "no grey-scale pixels"),
        (_tilted, "110522", "tilted by 4.6 degrees"),
        (_drifting, "110521", "2.00 mm off its place"),
    ],
)
def test_what_is_no_stack_is_refused_with_its_reason(
    tmp_path: Path, spoil: Callable[[list[Dataset]], list[Dataset]], code: str, words: str
) -> None:
    paths = write(tmp_path, spoil(builders.slices()))
    with pytest.raises(Irregular) as caught:
        load(paths)
    assert (caught.value.reason.code.value, words in caught.value.reason.text) == (code, True)
    assert str(caught.value) == caught.value.reason.text


def test_positions_that_were_rounded_to_a_tenth_are_accepted(tmp_path: Path) -> None:
    def rounded(_number: int, dataset: Dataset) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, round(float(z), 1)]

    volume = load(write(tmp_path, edited(builders.slices(20, step=1.25), rounded)))
    assert volume.spacing[0] == pytest.approx(1.25, abs=0.01)


def test_a_missing_file_is_worth_another_try(tmp_path: Path) -> None:
    paths = write(tmp_path, builders.slices())
    paths[2].unlink()
    with pytest.raises(Transient):
        load(paths)


def test_bytes_that_are_not_dicom_are_refused_without_quoting_them(tmp_path: Path) -> None:
    paths = write(tmp_path, builders.slices())
    paths[0].write_bytes(b"Doe^John" * 100)
    with pytest.raises(Irregular) as caught:
        load(paths)
    assert "Doe" not in str(caught.value)


def test_a_header_that_claims_more_than_memory_is_refused(tmp_path: Path) -> None:
    datasets = edited(builders.slices(3), lambda _, d: (setattr(d, "Rows", 65535), setattr(d, "Columns", 65535)))
    with pytest.raises(Irregular, match="too many"):
        load(write(tmp_path, datasets))


ROTATIONS = st.tuples(*[st.floats(-np.pi, np.pi)] * 3)


@given(ROTATIONS, st.sampled_from(["RAS", "SPL", "LPS"]))
def test_turning_an_array_and_back_changes_nothing(angles: tuple[float, float, float], letters: str) -> None:
    a, b, c = angles
    turn = (
        np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        @ np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        @ np.array([[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]])
    )
    affine = np.eye(4)
    affine[:3, :3] = turn * [1.0, 2.0, 3.0]
    orientation = towards(affine, letters)
    array = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(orientation.undo(orientation.apply(array)), array)
    directions = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "S": (2, 1)}
    reached = [
        turn[directions[letter][0], axis] * directions[letter][1] * (-1 if flipped else 1)
        for letter, axis, flipped in zip(letters, orientation.axes, orientation.flipped, strict=True)
    ]
    assert min(reached) >= -1e-9
    assert sum(reached) >= np.sqrt(3) - 1e-9


def test_a_standard_axial_series_lies_in_memory_as_head_back_left(tmp_path: Path) -> None:
    volume = load(write(tmp_path, builders.slices(sop_class=builders.CT)))
    assert towards(volume.affine, "SPL").axes == (0, 1, 2)
    assert not any(towards(volume.affine, "SPL").flipped)
    assert towards(volume.affine, "RAS").axes == (2, 1, 0)
    assert towards(volume.affine, "RAS").flipped == (True, True, False)


def test_a_value_that_cannot_be_read_is_a_value_that_is_not_stated(tmp_path: Path) -> None:
    paths = write(tmp_path, builders.slices(sop_class=builders.MR))
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.add(RawDataElement(Tag("EchoTime"), "DS", 4, b"fast", 0, False, True))
        dataset.save_as(path)
    header = load(paths).header
    assert number(header, "EchoTime") is None
    assert number(header, "SliceThickness") == 2.5
