"""Finds what of a mask to show where only one outline can be shown: the key slice and the outer contour on it.

Coordinates are DICOM's image coordinates (PS3.3 C.18.6.1.2): column then row, 0\\0 at the outer corner of the first
pixel, so that the centre of pixel (row r, column c) lies at (c + 0.5, r + 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from contourpy import contour_generator

from storage.facts.prediction import Location

#: Numbers of segments (frames, rows, columns); (frames, maps, rows, columns) where segments overlap.
Labels = npt.NDArray[Any]
Bits = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]

TOLERANCE = 0.5  #: pixels that an outline may be moved by to save points


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A closed outline, or a point, on one frame."""

    frame: int  #: 0-based, of the mask or of the prediction
    points: Points  #: (n, 2): column, row; the last point is the first, or is the only one


def of_location(location: Location, frame: int, shape: tuple[int, int]) -> Region:
    """A box as a closed rectangle, or a point, within an image of so many rows and columns."""
    low, high = (np.array([corner[2], corner[1]], np.float64) + 0.5 for corner in (location.low, location.high))
    limit = np.array([shape[1], shape[0]], np.float64)
    (left, top), (right, bottom) = np.clip(low, 0, limit), np.clip(high, 0, limit)
    if left == right or top == bottom:
        return Region(frame=frame, points=np.array([[(left + right) / 2, (top + bottom) / 2]]))
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return Region(frame=frame, points=np.array(corners, np.float64))


def border(frame: int, shape: tuple[int, int]) -> Region:
    """The rectangle around an image of so many rows and columns.

    With the middles of its sides: OHIF 3.13.2 would make four corners without a number a measurement of its own, and
    drop all others of the report.
    """
    bottom, right = shape
    around = [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1), (0, 0)]
    return Region(frame=frame, points=np.array(around, np.float64) * (right / 2, bottom / 2))


def bits(plane: Labels, segment: int) -> Bits:
    """Where on a frame a segment is (rows, columns)."""
    return _any(plane == segment)


def marked(plane: Labels) -> Bits:
    """Where on a frame any segment is (rows, columns)."""
    return _any(plane > 0)


def _any(found: Bits) -> Bits:
    """In any of several maps."""
    return np.asarray(found.any(axis=0)) if found.ndim > 2 else found


def overlap(labels: Labels) -> bool:
    """Whether a pixel may be in several segments."""
    return labels.ndim > 3


def areas(labels: Labels, segments: int) -> npt.NDArray[np.int64]:
    """Number of pixels of each segment on each frame, one frame in memory at a time; column 0 says nothing.

    Runs are counted, not pixels: masks have few, and the count takes a quarter of the time.
    """
    return np.stack([_counted(frame, segments) for frame in labels])


def _counted(frame: Labels, segments: int) -> npt.NDArray[np.int64]:
    _, lengths, found = runs(frame)
    return np.bincount(found, weights=lengths, minlength=segments + 1).astype(np.int64)  # exact up to 2**53


def runs(plane: Labels) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Labels]:
    """First pixel, length and label of each run of a plane that is not empty, in the order of its pixels."""
    flat = plane.ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    return starts, np.diff(starts, append=flat.size), flat[starts]


def spans(plane: Labels) -> npt.NDArray[np.intp]:
    """First pixel of each label on a plane, and the one behind its last; two zeros for those that are not there."""
    starts, lengths, found = runs(plane)
    ends = np.zeros((int(found.max()) + 1, 2), np.intp)
    ends[found[::-1], 0] = starts[::-1]  # of several values for one place the last one stays
    ends[found, 1] = starts + lengths
    return ends


def key_region(labels: Labels, count: npt.NDArray[np.int64], segment: int) -> Region | None:
    """The outer contour of the largest part of a segment on the frame that shows most of it; None if it is empty."""
    frame = int(np.argmax(count[:, segment]))
    if not count[frame, segment]:
        return None
    return Region(frame=frame, points=outline(bits(labels[frame], segment)))


def key_box(labels: Labels, count: npt.NDArray[np.int64]) -> Region | None:
    """The rectangle around all segments on the frame that shows most of them; None if all are empty."""
    frame = key_frame(count)
    if frame is None:
        return None
    (top, bottom), (left, right) = _extent(marked(labels[frame]))
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return Region(frame=frame, points=np.array(corners, np.float64))


def key_frame(count: npt.NDArray[np.int64]) -> int | None:
    """The frame that shows most of all segments together; None if all are empty."""
    together = count[:, 1:].sum(axis=1)
    frame = int(np.argmax(together)) if together.size else 0
    return frame if together.size and together[frame] else None


def _extent(mask: Bits) -> tuple[tuple[int, int], tuple[int, int]]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def outline(mask: Bits) -> Points:
    """The longest closed contour of a mask that is not empty, simplified, first point repeated at the end.

    It runs half-way between the centres of inner and outer pixels; holes and smaller islands are left out.
    """
    (top, bottom), (left, right) = _extent(mask)
    padded = np.pad(mask[top:bottom, left:right].astype(np.float32), 1)  # so that every contour is closed
    lines = [np.asarray(line) for line in contour_generator(z=padded).lines(0.5)]
    ring = max(lines, key=lambda line: abs(area(line)))
    shape = _simplify_ring(ring) + np.array([left - 1 + 0.5, top - 1 + 0.5])
    inside: Points = np.clip(shape, 0.0, np.array([mask.shape[1], mask.shape[0]], np.float64))
    return inside


def area(ring: Points) -> float:
    """Signed area within a closed polyline, pixels (shoelace formula)."""
    x, y = ring[:, 0], ring[:, 1]
    return float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2


def _simplify_ring(ring: Points) -> Points:
    far = int(np.argmax(np.linalg.norm(ring - ring[0], axis=1)))
    kept = np.concatenate([_simplify(ring[: far + 1]), _simplify(ring[far:])[1:]])
    return kept if len(kept) >= 5 else ring


def _simplify(line: Points) -> Points:
    """Drop points that lie within TOLERANCE of the chord (Ramer 1972, Douglas and Peucker 1973)."""
    keep = np.zeros(len(line), bool)
    keep[0] = keep[-1] = True
    spans = [(0, len(line) - 1)]
    while spans:
        start, end = spans.pop()
        if end - start < 2:
            continue
        chord, between = line[end] - line[start], line[start + 1 : end] - line[start]
        away = np.abs(chord[0] * between[:, 1] - chord[1] * between[:, 0]) / max(float(np.hypot(*chord)), 1e-12)
        worst = int(np.argmax(away))
        if away[worst] > TOLERANCE:
            middle = start + 1 + worst
            keep[middle] = True
            spans += [(start, middle), (middle, end)]
    return line[keep]
