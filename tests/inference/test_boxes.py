"""Boxes that mark the same thing become one, in two dimensions and three."""

from __future__ import annotations

import numpy as np
import pytest

from inference.algorithms.boxes import Boxes, fuse, overlap, suppress


def boxes(*rows: tuple[float, ...]) -> Boxes:
    """Rows of lowest corner, highest corner, score."""
    array = np.array(rows, np.float64)
    d = (array.shape[1] - 1) // 2
    return Boxes(low=array[:, :d], high=array[:, d : 2 * d], scores=array[:, -1])


def test_overlap_is_intersection_over_union() -> None:
    flat = boxes((0, 0, 2, 2, 1.0), (1, 1, 3, 3, 1.0), (5, 5, 6, 6, 1.0), (0, 0, 0, 0, 1.0))
    deep = boxes((0, 0, 0, 2, 2, 2, 1.0), (1, 1, 1, 3, 3, 3, 1.0))

    assert overlap(flat, flat)[0] == pytest.approx([1.0, 1 / 7, 0.0, 0.0])
    assert overlap(deep, deep)[0] == pytest.approx([1.0, 1 / 15])


def test_suppression_keeps_the_best_of_those_that_overlap() -> None:
    given = boxes((0, 0, 10, 10, 0.6), (1, 0, 11, 10, 0.9), (2, 0, 12, 10, 0.5), (40, 40, 50, 50, 0.1))

    assert suppress(given, 0.5).tolist() == [1, 3]
    assert suppress(given, 0.9).tolist() == [1, 0, 2, 3]
    assert suppress(boxes((0, 0, 1, 1, 0.5), (0, 0, 1, 1, 0.5)), 0.5).tolist() == [0]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_suppression_is_what_its_definition_says(dimensions: int) -> None:
    chance = np.random.default_rng(dimensions)
    low = chance.uniform(0, 20, (60, dimensions))
    given = Boxes(low=low, high=low + chance.uniform(2, 12, low.shape), scores=chance.permutation(60) / 60)
    shared = overlap(given, given)

    kept = set(suppress(given, 0.3).tolist())

    for number in range(60):
        better = [k for k in kept if given.scores[k] > given.scores[number] and shared[k, number] > 0.3]
        assert (number in kept) == (not better)


def test_fusion_weighs_corners_by_score_and_doubts_what_one_model_alone_saw() -> None:
    one = boxes((0, 0, 10, 10, 0.9), (40, 40, 50, 50, 0.8))
    two = boxes((1, 0, 11, 10, 0.3))

    fused = fuse([one, two], 0.5)

    assert fused.scores == pytest.approx([0.6, 0.4])
    assert fused.low[0] == pytest.approx([0.25, 0.0])
    assert fused.high[0] == pytest.approx([10.25, 10.0])
    assert fused.low[1] == pytest.approx([40, 40])


def test_fusion_of_equal_models_changes_nothing_and_of_none_gives_none() -> None:
    one = boxes((0, 0, 0, 4, 4, 4, 0.7), (9, 9, 9, 12, 12, 12, 0.4))

    fused = fuse([one, one, one], 0.5)

    assert fused.scores == pytest.approx([0.7, 0.4])
    assert fused.low == pytest.approx(one.low)
    empty = Boxes(low=np.empty((0, 3)), high=np.empty((0, 3)), scores=np.empty(0))
    assert len(fuse([empty, empty], 0.5)) == 0
    assert suppress(empty, 0.5).tolist() == []
