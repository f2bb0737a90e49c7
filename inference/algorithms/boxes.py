"""Makes one box of several that mark the same thing, in two dimensions or three.

Boxes are two arrays (n, dimensions): lowest and highest corner, in any unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
TINY = 1e-12  #: weight of a box without any probability


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boxes:
    """Boxes with their scores."""

    low: Floats  #: (n, dimensions)
    high: Floats  #: (n, dimensions)
    scores: Floats  #: (n,)

    def __len__(self) -> int:
        return len(self.scores)


def overlap(boxes: Boxes, others: Boxes) -> Floats:
    """Intersection over union of each box with each other one: (n, m)."""
    low = np.maximum(boxes.low[:, None], others.low[None])
    high = np.minimum(boxes.high[:, None], others.high[None])
    common = np.clip(high - low, 0, None).prod(axis=-1)
    sizes = _size(boxes)[:, None] + _size(others)[None] - common
    return np.asarray(np.divide(common, sizes, out=np.zeros_like(common), where=sizes > 0))


def suppress(boxes: Boxes, most: float) -> npt.NDArray[np.intp]:
    """Non-maximum suppression: numbers of the boxes that no better kept one overlaps by more than ``most``.

    Best first; of equals, the one that was given first.
    """
    left = list(np.argsort(-boxes.scores, kind="stable"))
    shared = overlap(boxes, boxes)
    kept: list[np.intp] = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [other for other in left if shared[best, other] <= most]
    return np.array(kept, np.intp)


def fuse(models: Sequence[Boxes], least: float) -> Boxes:
    """Weighted box fusion of several models' boxes (Solovyev et al. 2021, Image Vis Comput 107:104117).

    Boxes that overlap a cluster by more than ``least`` join it; corners are means weighted by score. A cluster's score
    is its mean, less in the measure in which models did not see it. Best first.
    """
    rows = np.concatenate([np.concatenate([one.low, one.high, one.scores[:, None]], axis=1) for one in models])
    owners = np.repeat(np.arange(len(models)), [len(one) for one in models])
    order = np.argsort(-rows[:, -1], kind="stable")
    clusters = _Clusters(len(rows), rows.shape[1] // 2, len(models))
    for row, owner in zip(rows[order], owners[order], strict=True):
        clusters.add(row, owner, least)
    return clusters.boxes()


class _Clusters:
    """Sums from which the mean box of each cluster follows."""

    def __init__(self, most: int, dimensions: int, models: int) -> None:
        self._count, self._dimensions = 0, dimensions
        self._corners = np.zeros((most, 2 * dimensions))
        self._weights, self._scores, self._members = np.zeros(most), np.zeros(most), np.zeros(most)
        self._seen = np.zeros((most, models), bool)

    def add(self, row: Floats, owner: int, least: float) -> None:
        """Put one box (corners, score) of one model into the cluster that it overlaps most, or into a new one."""
        shared = overlap(self._boxes(row[None, :-1], row[None, -1]), self._means())[0]
        at = int(np.argmax(shared)) if shared.size and shared.max() > least else self._count
        self._count = max(self._count, at + 1)
        weight = max(float(row[-1]), TINY)
        self._corners[at] += weight * row[:-1]
        self._weights[at] += weight
        self._scores[at] += row[-1]
        self._members[at] += 1
        self._seen[at, owner] = True

    def boxes(self) -> Boxes:
        """The clusters, best first."""
        means = self._means()
        scores = means.scores * self._seen[: self._count].mean(axis=1)
        order = np.argsort(-scores, kind="stable")
        return Boxes(low=means.low[order], high=means.high[order], scores=scores[order])

    def _means(self) -> Boxes:
        some = slice(self._count)
        corners = self._corners[some] / self._weights[some, None]
        return self._boxes(corners, self._scores[some] / self._members[some])

    def _boxes(self, corners: Floats, scores: Floats) -> Boxes:
        return Boxes(low=corners[:, : self._dimensions], high=corners[:, self._dimensions :], scores=scores)


def _size(boxes: Boxes) -> Floats:
    return np.asarray((boxes.high - boxes.low).prod(axis=-1))
