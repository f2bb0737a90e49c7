"""Pixels that are read straight into a volume: the same as pydicom's, whatever they are stored as; or a refusal."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from inference.imaging.irregular import Irregular
from inference.imaging.planes import read_headers
from inference.imaging.volume import AIR_HU, load
from tests import builders
from tests.inference.imaging.making import Place, classic, enhanced, frames
from tests.inference.series import write

LAYOUTS = [(8, 8, 0), (16, 12, 0), (16, 12, 1), (16, 16, 0), (16, 16, 1)]
PLACE = Place()


def stored(stored_bits: int, signed: int, count: int = 5) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    first = -(1 << (stored_bits - 1)) if signed else 0
    values = np.random.default_rng(stored_bits).integers(first, first + (1 << stored_bits), (count, 6, 7))
    values[:, 0, 0], values[:, 0, 1] = first, first + (1 << stored_bits) - 1
    return values


def series(layout: tuple[int, int, int], overlay: bool, **attributes: Any) -> list[Dataset]:
    allocated, bits, signed = layout
    values = stored(bits, signed)
    datasets = classic(frames(np.zeros(values.shape, np.int16), PLACE), **attributes)
    for ds, plane in zip(datasets, values, strict=True):
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = allocated, bits, bits - 1, signed
        kept = plane & ((1 << bits) - 1) if overlay else plane
        kept = kept | (1 << (allocated - 1)) if overlay and bits < allocated else kept
        ds.PixelData = kept.astype(f"<u{allocated // 8}").tobytes()
    return datasets


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (1, -1024), (1, 32768), (0.5, 3)])
@pytest.mark.parametrize(("layout", "overlay"), [*itertools.product(LAYOUTS, [False, True])])
def test_every_layout_becomes_the_values_that_it_means(
    tmp_path: Path, layout: tuple[int, int, int], overlay: bool, slope: float, intercept: float
) -> None:
    datasets = series(layout, overlay, RescaleSlope=slope, RescaleIntercept=intercept)
    paths = write(tmp_path, datasets)
    assert all(plane.native is not None for plane in read_headers(paths).planes())

    voxels = load(paths).voxels

    expected = np.maximum(stored(layout[1], layout[2]) * slope + intercept, AIR_HU)
    if voxels.dtype == np.int16:
        expected = np.minimum(expected, 32767)
    assert (voxels.dtype == np.int16) == (slope == 1)
    np.testing.assert_array_equal(voxels, expected)


@pytest.mark.parametrize(("value", "limit"), [(-2000, None), (100, 300), (-2048, -1990), (2047, None)])
@pytest.mark.parametrize("slope", [1, 0.5])
def test_padding_is_air_whether_it_has_to_be_looked_for_or_not(
    tmp_path: Path, value: int, limit: int | None, slope: float
) -> None:
    given = {"PixelPaddingValue": value} | ({} if limit is None else {"PixelPaddingRangeLimit": limit})
    datasets = series((16, 12, 1), False, RescaleSlope=slope, RescaleIntercept=5, **given)

    voxels = load(write(tmp_path, datasets)).voxels

    values = stored(12, 1)
    expected = np.maximum(values * slope + 5, AIR_HU)
    expected[(values >= value) & (values <= (value if limit is None else limit))] = AIR_HU
    np.testing.assert_array_equal(voxels, expected)


def test_frames_of_a_large_enhanced_header_are_read_in_their_places(tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(-900, 900, (160, 4, 5)).astype(np.int16)
    [path] = write(tmp_path, [enhanced(frames(values, PLACE))])
    assert path.stat().st_size > 1 << 16
    assert all(plane.native is not None for plane in read_headers([path]).planes())
    np.testing.assert_array_equal(load([path]).voxels, values)


def test_a_file_that_was_cut_off_after_its_header_was_read_is_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, classic(frames(np.ones((4, 6, 7), np.int16), PLACE)))
    paths[1].write_bytes(paths[1].read_bytes()[:-20])
    with pytest.raises(Irregular) as caught:
        load(paths)
    assert caught.value.reason.code.value == "110521"


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("sop_class", [builders.ENHANCED_CT, builders.ENHANCED_MR])
def test_a_rescale_of_a_frame_that_cannot_be_read_is_refused(tmp_path: Path, sop_class: str, keyword: str) -> None:
    values = np.ones((5, 4, 5), np.int16)
    [path] = write(tmp_path, [enhanced(frames(values, PLACE), sop_class)])
    dataset = pydicom.dcmread(path)
    item = dataset.PerFrameFunctionalGroupsSequence[3].PixelValueTransformationSequence[0]
    item._dict[Tag(keyword)] = RawDataElement(Tag(keyword), "DS", 4, b"Doe ", 0, False, True)
    dataset.save_as(path)

    with pytest.raises(Irregular) as caught:
        load([path])

    assert caught.value.reason.code.value == "110521"
    assert "geometry" in caught.value.reason.text
    assert "Doe" not in caught.value.reason.text


@pytest.mark.parametrize("sop_class", [builders.CT, builders.MR])
def test_slices_that_lost_their_rescale_are_not_mixed_with_others(tmp_path: Path, sop_class: str) -> None:
    datasets = classic(frames(np.ones((5, 4, 5), np.int16), PLACE), sop_class, RescaleSlope=2, RescaleIntercept=-1024)
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        del datasets[3][keyword]

    with pytest.raises(Irregular, match="1 of 5 images state no rescale"):
        load(write(tmp_path / "some", datasets))

    for dataset in datasets:
        for keyword in ("RescaleSlope", "RescaleIntercept"):
            dataset.pop(keyword, None)
    assert load(write(tmp_path / "none", datasets)).voxels.max() == 1
