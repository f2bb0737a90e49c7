"""Outlines lie where the pixels lie: half a pixel is a tenth of a small lesion."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.results import packing, region
from tests import builders


def inside(ring: np.ndarray, x: float, y: float) -> bool:
    """Even-odd rule."""
    crossings = 0
    for (x0, y0), (x1, y1) in pairwise(ring):
        if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
            crossings += 1
    return bool(crossings % 2)


def test_the_centre_of_a_pixel_is_half_a_pixel_from_its_corner() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2, 6] = True
    ring = region.outline(mask)
    assert ring.min(axis=0).tolist() == [6.0, 2.0]
    assert ring.max(axis=0).tolist() == [7.0, 3.0]


def test_every_pixel_centre_of_a_blob_is_within_its_outline_and_no_other_is() -> None:
    labels = builders.two_blobs((9, 64, 80))
    mask = labels[4] == 2
    ring = region.outline(mask)
    rows, columns = np.indices(mask.shape)
    found = [[inside(ring, c + 0.5, r + 0.5) for c in range(mask.shape[1])] for r in range(mask.shape[0])]
    assert np.mean(np.asarray(found) == mask) > 0.998
    assert np.allclose(ring[:-1].mean(axis=0), [columns[mask].mean() + 0.5, rows[mask].mean() + 0.5], atol=0.7)


@pytest.mark.parametrize("radius", [5, 20, 100])
def test_the_area_of_a_disc_is_kept_and_points_are_few(radius: int) -> None:
    y, x = np.indices((256, 256))
    mask = (x - 130) ** 2 + (y - 120) ** 2 <= radius**2
    ring = region.outline(mask)
    assert abs(region.area(ring)) == pytest.approx(mask.sum(), rel=0.06 if radius < 10 else 0.015)
    assert len(ring) < 150
    assert ring[0].tolist() == ring[-1].tolist()


def test_a_mask_that_touches_the_border_is_closed_and_stays_in_the_image() -> None:
    mask = np.ones((4, 6), bool)
    ring = region.outline(mask)
    assert ring.min() >= 0
    assert ring.max(axis=0).tolist() == [6.0, 4.0]
    assert ring[0].tolist() == ring[-1].tolist()


def test_of_several_parts_the_largest_is_outlined_and_holes_are_not() -> None:
    mask = np.zeros((30, 30), bool)
    mask[2:5, 2:5] = True
    mask[10:25, 10:25] = True
    mask[14:20, 14:20] = False
    ring = region.outline(mask)
    assert ring.min(axis=0).tolist() == [10.0, 10.0]
    assert ring.max(axis=0).tolist() == [25.0, 25.0]


def test_the_key_slice_shows_most_of_the_segment() -> None:
    labels = np.zeros((5, 8, 8), np.uint8)
    labels[1, 2:4, 2:4] = 1
    labels[3, 1:6, 1:6] = 1
    labels[4, 0, 0] = 2
    count = region.areas(labels, 3)
    first, second = region.key_region(labels, count, 1), region.key_region(labels, count, 2)
    assert first is not None
    assert second is not None
    assert (first.frame, second.frame) == (3, 4)
    assert region.key_region(labels, count, 3) is None
    assert region.key_frame(count) == 3


def test_the_box_of_all_segments_encloses_them_pixel_by_pixel() -> None:
    labels = np.zeros((2, 8, 9), np.uint8)
    labels[1, 2, 3] = 1
    labels[1, 5, 7] = 2
    box = region.key_box(labels, region.areas(labels, 2))
    assert box is not None
    assert box.points.tolist() == [[3, 2], [8, 2], [8, 6], [3, 6], [3, 2]]


def test_an_empty_mask_has_neither_outline_nor_box() -> None:
    labels = np.zeros((2, 8, 9), np.uint8)
    count = region.areas(labels, 1)
    assert region.key_box(labels, count) is None
    assert region.key_region(labels, count, 1) is None


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    shape=st.sampled_from([(3, 4, 6), (2, 5, 7), (4, 8, 8), (1, 1, 8)]),
    greatest=st.sampled_from([1, 3, 255, 300]),
    maps=st.integers(1, 2),
    marked=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_pixels_are_counted_and_packed_as_one_by_one(
    seed: int, shape: tuple[int, int, int], greatest: int, maps: int, marked: float
) -> None:
    random = np.random.default_rng(seed)
    size = shape if maps == 1 else (shape[0], maps, *shape[1:])
    labels = random.integers(0, greatest + 1, size).astype(np.uint16 if greatest > 255 else np.uint8)
    labels[random.random(size) >= marked] = 0
    counted = region.areas(labels, greatest)
    expected = [[np.count_nonzero(plane == number) for number in range(greatest + 1)] for plane in labels]
    assert np.array_equal(counted, expected)

    frames = [(plane, number) for number in (1, greatest) for plane in range(shape[0])]
    bits = [labels[p] == n if maps == 1 else (labels[p] == n).any(axis=0) for p, n in frames]
    whole = np.packbits(np.concatenate([one.ravel() for one in bits]), bitorder="little").tobytes()
    packed = b"".join(packing.packed(labels, frames))
    assert packed == whole + b"\0" * (len(whole) % 2)
    assert len(packed) == packing.packed_length(labels, len(frames))
