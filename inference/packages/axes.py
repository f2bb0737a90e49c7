"""How two answers to the same patient differ, part by part: where the axes are stored otherwise, or computed faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.packages.expected import middle
from inference.packages.raw import Box, Labels, Raw

Array = npt.NDArray[Any]
Affine = npt.NDArray[np.float64]
Turn = Callable[[Array], Array]  #: from the grid of the first to that of the second

AGREED = 0.99  #: least part of marked voxels with the same label
NEAR = 0.05  #: difference of numbers that another way of interpolating explains
MOVED = 5.0  #: mm, by which the middle of a box may be off
SHOWING = 0.1  #: value from which a map shows something


def differing(
    one: Raw, other: Raw, affines: tuple[Affine, Affine], turn: Turn = np.asarray, near: float = NEAR
) -> Iterator[str]:
    """Each part of an answer that is another in the second, by its name.

    ``affines``: (frame, row, column, 1) of each to patient coordinates (LPS), mm. ``turn`` brings an array from the
    grid of the first to that of the second. ``near``: allowed difference of a number and of an image, as a part of it;
    of a probability, as it is; of a heat map twice that, on average where it shows something.
    """
    if other.refusal is not None:
        yield f"it is refused then ({other.refusal.text})"
        return
    yield from _segments(one.maps_of_segments, other.maps_of_segments, turn)
    yield from _heat(one, other, turn, 2 * near)
    yield from _images(one, other, turn, near)
    yield from _boxes(one.boxes, other.boxes, affines, near)
    for key, value in one.values.items():
        yield from _number(f"measurement {key}", value, other.values.get(key), near * abs(value))
    for key, value in one.chances.items():
        yield from _number(f"probability of {key}", value, other.chances.get(key), near)
    for key, classes in one.classes.items():
        found = other.classes.get(key)
        if found is None or float(np.abs(np.subtract(classes, found)).max()) > near:
            yield f"grade {key}"


def agreed(one: Labels, other: Labels) -> float:
    """Voxels with the same label, as a part of those where either marks something; 1 where neither does."""
    if one.shape != other.shape:
        return 0.0
    marked = (one > 0) | (other > 0)
    count = np.count_nonzero(marked)
    return float(np.count_nonzero((one == other) & marked) / count) if count else 1.0


def apart(one: Array, other: Array) -> float:
    """How far two images differ on average, as a part of how much the first one varies; infinite on unlike grids."""
    if one.shape != other.shape:
        return float("inf")
    first = np.asarray(one, np.float64)
    return float(np.abs(first - other).mean() / (first.std() or 1.0))


def _segments(ours: Sequence[Labels], others: Sequence[Labels], turn: Turn) -> Iterator[str]:
    if len(ours) != len(others):
        yield f"{len(others)} maps of segments instead of {len(ours)}"
        return
    for number, (one, other) in enumerate(zip(ours, others, strict=True), 1):
        share = agreed(turn(one), other)
        if share < AGREED:
            marked = ", ".join(map(str, np.unique(one[one > 0]).tolist())) or "none"
            which = f"map {number} of {len(ours)} of its segments" if len(ours) > 1 else "the mask"
            yield f"{which} (segments {marked}; {share:.1%} of the labels are the same)"


def _heat(one: Raw, other: Raw, turn: Turn, near: float) -> Iterator[str]:
    named = {(heat.label, heat.explains): heat.voxels for heat in other.maps}
    for heat in one.maps:
        found = named.get((heat.label, heat.explains))
        ours = turn(heat.voxels)
        if found is None or found.shape != ours.shape:
            yield f"the map {heat.label}"
            continue
        shows = (ours > SHOWING) | (found > SHOWING)
        if shows.any() and float(np.abs(ours - found)[shows].mean()) > near:
            yield f"the map {heat.label}"


def _images(one: Raw, other: Raw, turn: Turn, near: float) -> Iterator[str]:
    named = {image.key: image.voxels for image in other.images}
    for image in one.images:
        if image.key not in named or apart(turn(image.voxels), named[image.key]) > near:
            yield f"the image {image.key}"


def _boxes(ours: Sequence[Box], others: Sequence[Box], affines: tuple[Affine, Affine], near: float) -> Iterator[str]:
    for key in dict.fromkeys(box.key for box in (*ours, *others)):
        here, there = ([box for box in boxes if box.key == key] for boxes in (ours, others))
        if len(here) != len(there):
            yield f"{len(there)} {key} instead of {len(here)}"
            continue
        for box in here:
            place = np.array(middle(box, affines[0]))
            gaps = [float(np.linalg.norm(place - middle(one, affines[1]))) for one in there]
            nearest = int(np.argmin(gaps))
            where = f"the {key} at ({', '.join(f'{x:.1f}' for x in place)})"
            if gaps[nearest] > MOVED:
                yield f"{where}, which is {gaps[nearest]:.1f} mm off"
            else:
                yield from _number(f"probability of {where}", box.score, there[nearest].score, near)


def _number(what: str, ours: float, other: float | None, allowed: float) -> Iterator[str]:
    if other is None or not abs(other - ours) <= allowed:
        yield f"{what} ({'none' if other is None else f'{other:.4g}'} instead of {ours:.4g})"
