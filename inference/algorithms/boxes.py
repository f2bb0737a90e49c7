"""Makes one box of several that mark the same thing, in two dimensions or three.

Boxes are two arrays (n, dimensions): lowest and highest corner, in any unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


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
    dimensions = models[0].low.shape[1]
    given = [(box, number) for number, boxes in enumerate(models) for box in _rows(boxes)]
    given.sort(key=lambda one: -one[0][-1])
    clusters: list[list[Floats]] = []
    seen: list[set[int]] = []
    for box, number in given:
        found = _nearest(box, clusters, least, dimensions)
        if found is None:
            clusters.append([box])
            seen.append({number})
        else:
            clusters[found].append(box)
            seen[found].add(number)
    fused = [_mean(cluster) for cluster in clusters]
    scores = np.array([f[-1] * len(s) / len(models) for f, s in zip(fused, seen, strict=True)], np.float64)
    corners = np.array([f[:-1] for f in fused], np.float64).reshape(-1, 2 * dimensions)
    order = np.argsort(-scores, kind="stable")
    return Boxes(low=corners[order, :dimensions], high=corners[order, dimensions:], scores=scores[order])


def _rows(boxes: Boxes) -> list[Floats]:
    return list(np.concatenate([boxes.low, boxes.high, boxes.scores[:, None]], axis=1))


def _nearest(box: Floats, clusters: list[list[Floats]], least: float, dimensions: int) -> int | None:
    if not clusters:
        return None
    means = np.array([_mean(cluster) for cluster in clusters])
    shared = overlap(_boxes(box[None], dimensions), _boxes(means, dimensions))[0]
    best = int(np.argmax(shared))
    return best if shared[best] > least else None


def _mean(cluster: list[Floats]) -> Floats:
    rows = np.array(cluster)
    weights = rows[:, -1] if rows[:, -1].sum() > 0 else np.ones(len(rows))
    corners = np.average(rows[:, :-1], axis=0, weights=weights)
    return np.asarray(np.r_[corners, rows[:, -1].mean()], np.float64)


def _boxes(rows: Floats, dimensions: int) -> Boxes:
    return Boxes(low=rows[:, :dimensions], high=rows[:, dimensions : 2 * dimensions], scores=rows[:, -1])


def _size(boxes: Boxes) -> Floats:
    return np.asarray((boxes.high - boxes.low).prod(axis=-1))
