"""Turns a grid to a wanted anatomical orientation and back, without resampling."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: Direction that a letter names, in patient coordinates (LPS: x to the left, y to the back, z to the head).
_LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """A permutation and flips of array axes; ``undo`` is the exact inverse of ``apply``."""

    axes: tuple[int, int, int]  #: source axis of each target axis
    flipped: tuple[bool, bool, bool]  #: whether a target axis runs against its source axis

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The array in the wanted orientation (a view)."""
        turned: npt.NDArray[Any] = np.flip(array.transpose(self.axes), self._flips())
        return turned

    def undo(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An array of the wanted orientation, back on the source grid (a view)."""
        back: npt.NDArray[Any] = np.flip(array, self._flips())
        first, second, third = (self.axes.index(axis) for axis in range(3))
        return back.transpose(first, second, third)

    def _flips(self) -> tuple[int, ...]:
        return tuple(i for i, flipped in enumerate(self.flipped) if flipped)

    def spacing(self, source: tuple[float, float, float]) -> tuple[float, float, float]:
        """Voxel spacing in mm along the target axes."""
        first, second, third = (source[axis] for axis in self.axes)
        return first, second, third


def towards(affine: npt.NDArray[np.float64], letters: str) -> Orientation:
    """The orientation nearest to one where each array axis increases towards a letter.

    ``RAS`` is the usual one of neuroimaging; ``SPL`` (head, back, left) is how a standard axial CT lies in memory as
    frame, row, column. The affine maps array indices to patient coordinates (LPS).
    """
    wanted = [_LETTERS[letter] for letter in letters]
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)

    def closeness(axes: tuple[int, ...]) -> float:
        return float(sum(abs(directions[patient, axis]) for (patient, _), axis in zip(wanted, axes, strict=True)))

    first, second, third = max(itertools.permutations(range(3)), key=closeness)
    axes = (first, second, third)
    flips = [bool(directions[patient, axis] * sign < 0) for (patient, sign), axis in zip(wanted, axes, strict=True)]
    return Orientation(axes=axes, flipped=(flips[0], flips[1], flips[2]))
