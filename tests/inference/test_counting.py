"""Voxels of segments are counted frame by frame, by twos where that is faster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inference.packages.counting import in_all, in_frame


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(3, 5), (256, 257), (256, 256)])
def test_a_frame_is_counted_as_numpy_counts_it(kind: Any, shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(1).choice(np.array([0, 1, 7, 200, 255], kind), shape)
    wide = np.zeros((shape[0], 2 * shape[1]), kind)
    wide[:, ::2] = frame

    for one in (frame, wide[:, ::2], frame.T):
        assert np.array_equal(in_frame(one, 255)[:256], np.bincount(frame.ravel(), minlength=256))


def test_maps_are_counted_together() -> None:
    first = np.random.default_rng(2).integers(0, 4, (3, 300, 300)).astype(np.uint8)
    second = np.zeros(first.shape, np.uint8)
    second[1] = 5

    counts = in_all([first, second])

    whole = np.bincount(first.ravel(), minlength=6) + np.bincount(second.ravel(), minlength=6)
    assert np.array_equal(counts, whole)
