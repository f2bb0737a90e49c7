"""Fills a volume with the real-world values of a stack: native pixels straight from their files, others decoded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.imaging.native import Native
from inference.imaging.pixels import masked, stored_frames
from inference.imaging.planes import Plane

AIR_HU = -1024  #: floor of the CT scale; padding is set to it, and nothing real lies below
READERS = 2  #: threads: one waits for the disk or copies while the other computes
TOGETHER = 16  #: planes that a thread takes at a time
Pixels = npt.NDArray[Any]
_INT16 = np.iinfo(np.int16)


def is_exact(plane: Plane) -> bool:
    """Whether its real-world values are whole numbers."""
    return plane.slope == 1 and plane.intercept.is_integer() and abs(plane.intercept) <= 32768


def fill(voxels: Pixels, planes: Sequence[Plane], *, is_ct: bool, decoded: Path | None = None) -> None:
    """Real-world values of each plane at its place of ``voxels`` (planes, rows, columns): int16 HU, or float32.

    What has to be decoded is taken from the end: who decodes ahead of runs, into the folder ``decoded``, comes from the
    other side. Padding becomes air in CT, else 0. Raises Irregular where pixels cannot be read, Transient where a file
    is gone.
    """
    groups = [range(first, min(first + TOGETHER, len(planes))) for first in range(0, len(planes), TOGETHER)]

    def straight(places: range) -> list[int]:
        """The places that could not be filled; no pydicom here, which is not made for threads."""
        return [place for place in places if not _straight(voxels[place], planes[place], is_ct=is_ct)]

    with ThreadPoolExecutor(READERS) as readers:
        left = [place for some in readers.map(straight, groups) for place in some]
    for path, places in reversed(_by_file(planes, left).items()):
        for index, pixels, padding in stored_frames(path, list(places), decoded):
            place = places[index]
            _rescale(pixels, planes[place], voxels[place], is_ct=is_ct)
            _pad(voxels[place], padding, is_ct=is_ct)


def _by_file(planes: Sequence[Plane], places: Sequence[int]) -> dict[Path, dict[int, int]]:
    """For each file, its frames in ascending order, each with its place in the volume."""
    found: dict[Path, dict[int, int]] = {}
    for place in sorted(places, key=lambda one: planes[one].index):
        found.setdefault(planes[place].path, {})[planes[place].index] = place
    return found


def _straight(into: Pixels, plane: Plane, *, is_ct: bool) -> bool:
    """Fill one place; False where pydicom has to do it, or to say why it cannot be done."""
    native = plane.native
    if native is None or (native.rows, native.columns) != into.shape:
        return False
    in_place = into.dtype == np.int16 and native.bits.allocated == 16
    pixels = into.view(native.dtype) if in_place else np.empty(into.shape, native.dtype)
    if not native.read(plane.path, plane.index, pixels):
        return False
    low, high = int(pixels.min()), int(pixels.max())
    if not native.bits.holds(low, high):
        pixels = native.bits.only(pixels)
        low, high = int(pixels.min()), int(pixels.max())
    padding = _seen(native, plane, (low, high), is_ct=is_ct and into.dtype == np.int16)
    mask = masked(pixels, padding)
    _rescale(pixels, plane, into, is_ct=is_ct, bounds=(low, high))
    _pad(into, mask, is_ct=is_ct)
    return True


def _seen(native: Native, plane: Plane, bounds: tuple[int, int], *, is_ct: bool) -> tuple[int, int] | None:
    """The padding that has to be looked for: not what no pixel is, nor what the floor of the scale makes air anyway."""
    padding = native.padding
    if padding is None or padding[1] < bounds[0] or padding[0] > bounds[1]:
        return None
    return None if is_ct and padding[1] + plane.intercept <= AIR_HU else padding


def _pad(into: Pixels, padding: npt.NDArray[np.bool_] | None, *, is_ct: bool) -> None:
    if padding is not None:
        into[padding] = AIR_HU if is_ct else 0


def _rescale(pixels: Pixels, plane: Plane, into: Pixels, *, is_ct: bool, bounds: tuple[int, int] | None = None) -> None:
    """Stored to real-world values (PS3.3 C.11.1.1.2); HU beyond int16 saturate, which only metal reaches.

    ``bounds``: the least and the greatest of the pixels. ``into`` may be the memory of ``pixels``.
    """
    if into.dtype == np.int16:
        low, high = bounds or (int(pixels.min()), int(pixels.max()))
        _shift(pixels, int(plane.intercept), into, (low, high))
        return
    np.multiply(pixels, np.float32(plane.slope), out=into, dtype=np.float32, casting="unsafe")
    into += np.float32(plane.intercept)
    if is_ct:
        np.clip(into, np.float32(AIR_HU), np.float32(np.inf), out=into)  # numpy's maximum takes three times as long


def _shift(pixels: Pixels, shift: int, into: Pixels, bounds: tuple[int, int]) -> None:
    """Whole numbers, in one pass or none where nothing has to be done."""
    low, high = bounds[0] + shift, bounds[1] + shift
    if low < _INT16.min or high > _INT16.max:
        into[...] = np.clip(pixels.astype(np.int64) + shift, AIR_HU, _INT16.max)
        return
    signed = pixels.view(np.int16) if pixels.dtype == np.uint16 else pixels  # sums are the same, modulo 2**16
    if shift or signed.dtype != np.int16 or not np.may_share_memory(signed, into):
        np.add(signed, np.int16((shift + 32768) % 65536 - 32768), out=into, dtype=np.int16, casting="unsafe")
    if low < AIR_HU:
        np.clip(into, np.int16(AIR_HU), np.int16(_INT16.max), out=into)
