"""Makes the self-test cases of shipped packages: noise-free phantoms, so that they are small and their truth is exact.

What is expected of a package is the truth of its phantom, never what the package happened to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from inference.imaging.volume import Volume
from inference.training.phantom import AIR, BLOOD, FAT, MUSCLE, Nodule, draw, render
from inference.training.solids import Canvas, Floats, Grid, Point, ellipsoid, tube
from storage.facts.prediction import Frame

Labels = npt.NDArray[np.uint8]
_STEP = 20.0  #: between values; coarser values make a smaller file
_NODULES = Grid(origin=(-55.0, -111.0, -158.875), spacing=(2.0, 2.0, 2.25), shape=(24, 112, 142))
_SEED = 4  #: of a phantom with two nodules of different grade in neighbouring slices, far from any seed of training

_CHEST = Grid(origin=(-151.5, -108.75, -158.75), spacing=(3.0, 2.5, 2.5), shape=(92, 88, 128))
_LUNGS: tuple[tuple[Point, Point, float], ...] = (
    ((-20.0, -3.0, -74.0), (115.0, 76.0, 54.0), -860.0),
    ((-15.0, -3.0, 76.0), (105.0, 70.0, 46.0), -830.0),
)  #: centre, half axes, HU; the patient's right lung first, and nothing about the two is alike
_IN_THE_WAY: tuple[tuple[Point, Point], ...] = (
    ((-150.0, -3.0, -74.0), (75.0, 72.0, 50.0)),
    ((-160.0, -3.0, 76.0), (75.0, 70.0, 48.0)),
    ((-50.0, -30.0, 18.0), (55.0, 44.0, 50.0)),
)  #: domes of the diaphragm, heart
_BUBBLES: tuple[tuple[Point, float], ...] = (
    ((30.0, -10.0, -78.0), 22.0),
    ((20.0, 5.0, 84.0), 25.0),
    ((-20.0, 32.0, 84.0), 18.0),
)  #: emphysema: centre, radius
_TRACHEA: tuple[tuple[Point, Point, float], ...] = (
    ((400.0, 0.0, 0.0), (34.0, 4.0, 0.0), 9.0),
    ((34.0, 4.0, 0.0), (12.0, 12.0, -27.0), 6.5),
    ((34.0, 4.0, 0.0), (6.0, 12.0, 32.0), 6.5),
)  #: and main bronchi
_HEAD = Grid(origin=(-112.5, -109.0, -85.0), spacing=(3.0, 2.0, 2.0), shape=(68, 106, 86))
_SCALP, _SKULL, _FLUID, _GREY, _WHITE, _NECK = 900.0, 80.0, 160.0, 440.0, 600.0, 480.0  #: T1-weighted, no unit
_OUTSIDE: tuple[tuple[Point, Point, float], ...] = (
    ((-45.0, -60.0, 0.0), (55.0, 36.0, 46.0), _NECK),
    ((0.0, 0.0, 0.0), (86.0, 97.0, 75.0), _SCALP),
    ((3.0, 0.0, 0.0), (79.0, 91.0, 69.0), _SKULL),
    ((4.0, 0.0, 0.0), (74.0, 84.0, 64.0), _FLUID),
)
_BRAIN: tuple[tuple[Point, Point, float], ...] = (
    ((7.0, 0.0, 0.0), (71.0, 80.0, 60.0), _GREY),
    ((9.0, 0.0, 0.0), (62.0, 71.0, 51.0), _WHITE),
    ((-44.0, 36.0, 0.0), (22.0, 28.0, 44.0), _GREY),
)
_VENTRICLES: tuple[tuple[Point, Point, float], ...] = (
    ((12.0, 0.0, -12.0), (14.0, 36.0, 7.0), _FLUID),
    ((12.0, 4.0, 13.0), (18.0, 40.0, 9.0), _FLUID),
)
_EMPHYSEMA, _LUMEN, _BONE, _WALL = -980.0, -995.0, 420.0, 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chest:
    """A chest whose lungs are known."""

    volume: Volume
    mask: Labels  #: 1 right lung, 2 left lung, as the package numbers them
    values: Mapping[str, float]  #: by measurement key of the package


def nodules() -> tuple[Volume, tuple[Nodule, ...]]:
    """A slab of a phantom and the nodules in it."""
    phantom = replace(draw(_SEED, 2), noise=0.0)
    return _volume(render(phantom, _NODULES), _NODULES), phantom.nodules


def place(nodule: Nodule) -> Point:
    """Its middle in patient coordinates (LPS), mm."""
    z, y, x = nodule.centre
    return round(x, 1), round(y, 1), round(z, 1)


def chest() -> Chest:
    """A chest with two unlike lungs and some emphysema, on voxels that are longest from foot to head."""
    canvas = Canvas(_CHEST, AIR)
    for axes, hu in (((2000.0, 104.0, 152.0), FAT), ((2000.0, 96.0, 143.0), MUSCLE)):
        canvas.lay(*ellipsoid((0.0, 0.0, 0.0), axes), hu)
    canvas.lay(*tube((-900.0, 78.0, 0.0), (900.0, 78.0, 0.0), 15.0), _BONE)
    for centre, semi, hu in _LUNGS:
        canvas.lay(*ellipsoid(centre, semi), hu)
    for centre, radius in _BUBBLES:
        canvas.lay(*tube(centre, centre, radius), _EMPHYSEMA)
    for centre, semi in _IN_THE_WAY:
        canvas.lay(*ellipsoid(centre, semi), BLOOD)
    for start, end, radius in _TRACHEA:
        canvas.lay(*tube(start, end, radius + _WALL), MUSCLE)
    for start, end, radius in _TRACHEA:
        canvas.lay(*tube(start, end, radius), _LUMEN)
    volume = _volume(canvas.hu, _CHEST)
    mask = _lungs()
    mask[volume.voxels >= -400] = 0
    return Chest(volume=volume, mask=mask, values=_measured(volume.voxels, mask))


def head() -> tuple[Volume, Labels]:
    """A T1-weighted head of ellipsoids, and where its brain is: stem and fluid inside of it included."""
    canvas = Canvas(_HEAD, 0.0)
    canvas.lay(*tube((-40.0, 10.0, 0.0), (-400.0, 20.0, 0.0), 50.0), _NECK)
    for centre, semi, value in (*_OUTSIDE, *_BRAIN, *_VENTRICLES):
        canvas.lay(*ellipsoid(centre, semi), value)
    canvas.lay(*tube((-20.0, 15.0, 0.0), (-110.0, 20.0, 0.0), 11.0), _WHITE)
    at = _places(_HEAD)
    mask = (tube((-20.0, 15.0, 0.0), (-110.0, 20.0, 0.0), 11.0)[0](*at) < 0) & (at[0] > -60.0)
    for centre, semi, _ in _BRAIN:
        mask |= ellipsoid(centre, semi)[0](*at) < 0
    return _volume(canvas.hu, _HEAD), mask.astype(np.uint8)


def _places(grid: Grid) -> tuple[Floats, Floats, Floats]:
    z, y, x = (grid.axis(number) for number in range(3))
    return z[:, None, None], y[None, :, None], x[None, None, :]


def _lungs() -> Labels:
    """Where lung is, by the shapes alone."""
    at = _places(_CHEST)
    mask = np.zeros(_CHEST.shape, np.uint8)
    for number, (centre, semi, _) in enumerate(_LUNGS, start=1):
        mask[ellipsoid(centre, semi)[0](*at) < 0] = number
    for centre, semi in _IN_THE_WAY:
        mask[ellipsoid(centre, semi)[0](*at) < 0] = 0
    for start, end, radius in _TRACHEA:
        mask[tube(start, end, radius + _WALL)[0](*at) < 0] = 0
    return mask


def _measured(hu: npt.NDArray[np.int16], mask: Labels) -> dict[str, float]:
    """What a perfect densitometry of the mask measures."""
    found = {}
    millilitres = float(np.prod(_CHEST.spacing)) / 1000.0
    for side, chosen in (("", mask > 0), ("right_", mask == 1), ("left_", mask == 2)):
        values = hu[chosen].astype(float)
        found[f"{side}volume"] = len(values) * millilitres
        found[f"{side}mean_hu"] = float(values.mean())
        found[f"{side}laa950"] = 100.0 * float((values < -950).mean())
        found[f"{side}perc15"] = float(np.sort(values)[int(np.ceil(0.15 * len(values))) - 1])
    return found


def _volume(hu: Floats, grid: Grid) -> Volume:
    affine = np.zeros((4, 4))
    for axis in range(3):  # axes of the grid run to the head, the back and the left
        affine[2 - axis, axis], affine[2 - axis, 3] = grid.spacing[axis], grid.origin[axis]
    affine[3, 3] = 1.0
    voxels = (np.rint(hu / _STEP) * _STEP).astype(np.int16)
    frames = tuple(Frame(sop_instance_uid=f"1.2.{k + 1}", sop_class_uid="1.2.3") for k in range(len(voxels)))
    return Volume(voxels=voxels, affine=affine, frames=frames, header=Dataset())
