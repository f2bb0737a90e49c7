"""Finds the trachea and the main bronchi, whose air is not lung and would pass for emphysema.

The trachea is found on a coarse grid as a chain of round air columns near the midline. From there the lumen is grown in
3-D at full resolution at ever higher thresholds, until it bursts into the parenchyma; the last threshold before the
burst is kept (Mori et al., Recognition of bronchus in three-dimensional X-ray CT images, ICPR 1996).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Spacing = tuple[float, float, float]

AREA_MM2 = (40.0, 800.0)  #: lumen of a trachea in an axial cut, partial-volume rim included
STEP_MM = 8.0  #: how far the centre of the lumen may move from one coarse slice to the next
LENGTH_MM = 25.0  #: shorter chains are not a trachea
MIDLINE_MM = 60.0  #: how far from the middle of the body a trachea may lie
THRESHOLDS_HU = range(-950, -724, 25)
BURST_ML = 50.0  #: growth between two thresholds that only a leak explains
SMOOTHED_MM = 1.5  #: along axes with voxels up to this size, so that noise opens no way through a wall
LARGEST_ML = 160.0  #: trachea and bronchi together
REACH_MM = (85.0, 55.0, 75.0)  #: of the bronchi: below the trachea's end, in rows, in columns
WALL_MM = 1.5  #: blurred lumen wall that is counted as airway


@dataclass(frozen=True, slots=True, kw_only=True)
class Trachea:
    """A chain of air columns on the coarse grid, foot to head."""

    slices: tuple[int, ...]
    rows: tuple[float, ...]
    columns: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Airways:
    """The lumen with its blurred wall, in a box of the full grid."""

    box: tuple[slice, slice, slice]
    mask: NDArray[np.bool_]  #: shape of the box
    volume_ml: float  #: of the lumen, without the wall
    air_hu: float  #: median of its inner voxels: -1000 on a calibrated scanner


@dataclass(slots=True)
class _Chain:
    slices: list[int]
    rows: list[float]
    columns: list[float]


def find_trachea(coarse: NDArray[np.int16], body: NDArray[np.bool_], spacing: Spacing) -> Trachea | None:
    """The longest chain of trachea-like cuts, or None. ``coarse`` in HU, ``body`` filled slice by slice."""
    widths: NDArray[np.bool_] = np.logical_or.reduce(body, axis=1)
    live: list[_Chain] = []
    ended: list[_Chain] = []
    for k in range(coarse.shape[0]):
        middle = float(np.flatnonzero(widths[k]).mean()) if widths[k].any() else 0.0
        cuts = _cuts(coarse[k], body[k], middle, spacing)
        live, done = _link(live, cuts, k, spacing)
        ended += done
    ended += live
    best = max(ended, key=lambda chain: len(chain.slices), default=None)
    if best is None or len(best.slices) * spacing[0] < LENGTH_MM:
        return None
    return Trachea(slices=tuple(best.slices), rows=tuple(best.rows), columns=tuple(best.columns))


def _cuts(hu: NDArray[np.int16], body: NDArray[np.bool_], middle: float, spacing: Spacing) -> list[tuple[float, float]]:
    """Centres (row, column) of the round air columns near the midline of one coarse slice."""
    labels, _ = ndimage.label((hu < -600) & body)
    found: list[tuple[float, float]] = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[box] == number
        high, wide = part.shape[0] * spacing[1], part.shape[1] * spacing[2]
        area = float(part.sum()) * spacing[1] * spacing[2]
        if not AREA_MM2[0] <= area <= AREA_MM2[1] or max(high, wide) > 2.6 * min(high, wide):
            continue
        rows, columns = np.nonzero(part)
        row, column = box[0].start + float(rows.mean()), box[1].start + float(columns.mean())
        if int(hu[box][part].min()) < -850 and abs(column - middle) * spacing[2] <= MIDLINE_MM:
            found.append((row, column))
    return found


def _link(
    live: list[_Chain], cuts: list[tuple[float, float]], k: int, spacing: Spacing
) -> tuple[list[_Chain], list[_Chain]]:
    """Lengthens each chain by its nearest cut of slice ``k``; those without one have ended."""
    going: list[_Chain] = []
    ended: list[_Chain] = []
    free = list(cuts)
    for chain in sorted(live, key=lambda c: -len(c.slices)):
        near = [(_distance(chain, cut, spacing), cut) for cut in free]
        gap, cut = min(near, default=(np.inf, (0.0, 0.0)))
        if gap > STEP_MM:
            ended.append(chain)
            continue
        free.remove(cut)
        chain.slices.append(k)
        chain.rows.append(cut[0])
        chain.columns.append(cut[1])
        going.append(chain)
    return going + [_Chain([k], [row], [column]) for row, column in free], ended


def _distance(chain: _Chain, cut: tuple[float, float], spacing: Spacing) -> float:
    return float(np.hypot((chain.rows[-1] - cut[0]) * spacing[1], (chain.columns[-1] - cut[1]) * spacing[2]))


def grow(hu: NDArray[np.int16], spacing: Spacing, trachea: Trachea, factors: tuple[int, int, int]) -> Airways | None:
    """The airways around ``trachea`` on the full grid; None where they leak at once."""
    box = _reach(hu.shape, spacing, trachea, factors)
    part = hu[box]
    calm = ndimage.uniform_filter(part, [3 if s <= SMOOTHED_MM else 1 for s in spacing])
    seed = _seed(calm, box, trachea, factors)
    if seed is None:
        return None
    voxel_ml = float(np.prod(spacing)) / 1000.0
    lumen: NDArray[np.bool_] | None = None
    volume = 0.0
    for threshold in THRESHOLDS_HU:
        labels, _ = ndimage.label(calm < threshold)
        if labels[seed] == 0:
            continue
        grown = labels == labels[seed]
        size = float(grown.sum()) * voxel_ml
        if size > LARGEST_ML or (lumen is not None and size > volume + BURST_ML):
            break
        lumen, volume = grown, size
    if lumen is None:
        return None
    core = ndimage.binary_erosion(lumen)
    air = float(np.median(part[core])) if core.any() else float(np.median(part[lumen]))
    return Airways(box=box, mask=_with_wall(lumen, spacing), volume_ml=volume, air_hu=air)


def _reach(
    shape: tuple[int, ...], spacing: Spacing, trachea: Trachea, factors: tuple[int, int, int]
) -> tuple[slice, slice, slice]:
    """The box in which the airways are looked for."""
    below = round(REACH_MM[0] / spacing[0])
    low, high = trachea.slices[0] * factors[0] - below, (trachea.slices[-1] + 1) * factors[0]
    rows, columns = round(REACH_MM[1] / spacing[1]), round(REACH_MM[2] / spacing[2])
    row, column = round(trachea.rows[0] * factors[1]), round(trachea.columns[0] * factors[2])
    row_low = min(row, round(min(trachea.rows) * factors[1])) - rows
    row_high = max(row, round(max(trachea.rows) * factors[1])) + rows
    return (
        slice(max(0, low), min(shape[0], high)),
        slice(max(0, row_low), min(shape[1], row_high)),
        slice(max(0, column - columns), min(shape[2], column + columns)),
    )


def _seed(
    part: NDArray[np.int16], box: tuple[slice, ...], trachea: Trachea, factors: tuple[int, int, int]
) -> tuple[Any, ...] | None:
    """The darkest voxel near the middle of the chain."""
    middle = len(trachea.slices) // 2
    k = min(trachea.slices[middle] * factors[0] - box[0].start, part.shape[0] - 1)
    row = round((trachea.rows[middle] + 0.5) * factors[1]) - box[1].start
    column = round((trachea.columns[middle] + 0.5) * factors[2]) - box[2].start
    around = part[k, max(0, row - 4) : row + 5, max(0, column - 4) : column + 5]
    if around.size == 0:
        return None
    at = np.unravel_index(int(np.argmin(around)), around.shape)
    return (k, max(0, row - 4) + at[0], max(0, column - 4) + at[1])


def _with_wall(lumen: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.bool_]:
    """The lumen widened by WALL_MM in each axial cut."""
    steps = max(1, round(WALL_MM / min(spacing[1:])))
    disc = np.hypot(*np.mgrid[-steps : steps + 1, -steps : steps + 1]) <= steps + 0.3
    wide: NDArray[np.bool_] = ndimage.binary_dilation(lumen, disc[np.newaxis])
    return wide
