"""Digital chest phantoms of nobody, with nodules of known place, size and malignancy grade.

A phantom is a slab of a chest: wall, ribs, spine, heart, diaphragm, lungs with vessels and granulomas that look like
small nodules, and none to three nodules. A hidden number between 0 and 1 decides how malignant a nodule is; what can be
seen of it, a calcified core, bumps and spicules, follows that number with some scatter, so that no reader can be
perfect. What the signs mean is borrowed from radiology (McWilliams et al. 2013, N Engl J Med 369:910, for spiculation
and size); the numbers are this project's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.training.solids import Canvas, Floats, Grid, Point, ellipsoid, lobed, tube

GRADES = ("benign appearance", "indeterminate appearance", "malignant appearance")
LIMITS = (0.36, 0.66)  #: of the hidden number, between the grades
FIELD: Point = (96.0, 224.0, 320.0)  #: mm
AIR, FAT, MUSCLE, BLOOD, BONE = -1000.0, -100.0, 50.0, 40.0, 420.0
CALCIUM = 900.0  #: HU of the densest core
SPICULE = 1.4  #: mm, radius
SMALLEST, LARGEST = 3.0, 9.0  #: mm, radius of nodules
LUNGS: tuple[tuple[Point, Point], ...] = (
    ((0.0, -3.0, -72.0), (140.0, 80.0, 56.0)),
    ((0.0, -3.0, 72.0), (140.0, 80.0, 56.0)),
)
HILA: tuple[Point, ...] = ((0.0, 10.0, -30.0), (-4.0, 10.0, 32.0))
_DOMES: tuple[tuple[Point, Point], ...] = (
    ((-110.0, -5.0, -74.0), (70.0, 72.0, 48.0)),
    ((-116.0, -5.0, 74.0), (70.0, 72.0, 48.0)),
)
_HEART: tuple[Point, Point] = ((-30.0, -30.0, 15.0), (55.0, 44.0, 50.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodule:
    """One nodule and its truth."""

    centre: Point  #: z, y, x in mm
    radius: float  #: mm, without its bumps and spicules
    malignancy: float  #: hidden number 0..1
    lobes: tuple[tuple[float, float, float, float], ...]
    spicules: tuple[Point, ...]  #: their tips
    core: float  #: HU of its inner half above the rest

    @property
    def grade(self) -> int:
        """0, 1 or 2, of ``GRADES``."""
        return sum(self.malignancy >= limit for limit in LIMITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phantom:
    """All that there is in one chest."""

    seed: int
    nodules: tuple[Nodule, ...]
    vessels: tuple[tuple[Point, Point, float], ...]  #: start, end, radius
    granulomas: tuple[tuple[Point, float], ...]  #: centre, radius: dense, and too small to be a nodule
    scale: float  #: of the whole anatomy
    noise: float  #: HU, standard deviation


def draw(seed: int, nodules: int | None = None) -> Phantom:
    """The phantom of a seed, always the same; by default with none to three nodules (none in two of five)."""
    chance = np.random.default_rng([seed, 77])
    count = int(chance.choice([0, 1, 2, 3], p=[0.4, 0.3, 0.2, 0.1]))
    scale = float(chance.uniform(0.93, 1.05))
    points = _in_lungs(chance, 400) * np.float32(scale)
    vessels = tuple(_vessels(points, chance))
    granulomas = tuple(
        (_point(p), float(chance.uniform(1.2, 2.7))) for p in points[chance.choice(400, 6, replace=False)]
    )
    return Phantom(
        seed=seed,
        nodules=tuple(_nodules(chance, scale, count if nodules is None else nodules)),
        vessels=vessels,
        granulomas=granulomas,
        scale=scale,
        noise=float(chance.uniform(15.0, 60.0)),
    )


def whole(spacing: Point = (2.0, 2.0, 2.0)) -> Grid:
    """A grid over the whole field."""
    shape = tuple(round(size / step) for size, step in zip(FIELD, spacing, strict=True))
    origin = tuple(-size / 2 + step / 2 for size, step in zip(FIELD, spacing, strict=True))
    return Grid(origin=(origin[0], origin[1], origin[2]), spacing=spacing, shape=(shape[0], shape[1], shape[2]))


def render(phantom: Phantom, grid: Grid) -> Floats:
    """HU on a grid, with the noise of a scanner: the same for the same phantom and grid."""
    canvas = Canvas(grid, AIR)
    _body(canvas, phantom.scale)
    for start, end, radius in phantom.vessels:
        canvas.lay(*tube(start, end, radius), BLOOD)
    for centre, radius in phantom.granulomas:
        canvas.lay(*tube(centre, centre, radius), 120.0)
    for nodule in phantom.nodules:
        _nodule(canvas, nodule)
    chance = np.random.default_rng([phantom.seed, 78, *grid.shape, *(round(abs(o) * 10) for o in grid.origin)])
    noise = chance.standard_normal(grid.shape, np.float32)
    noise[:, 1:] = 0.8 * noise[:, 1:] + 0.6 * noise[:, :-1]  # a little grain, as reconstruction leaves it
    canvas.hu += np.float32(phantom.noise) * noise
    return canvas.hu


def _body(canvas: Canvas, scale: float) -> None:
    def scaled(point: Point) -> Point:
        return point[0] * scale, point[1] * scale, point[2] * scale

    canvas.lay(*ellipsoid((0, 0, 0), scaled((2000.0, 106.0, 154.0))), FAT)
    canvas.lay(*ellipsoid((0, 0, 0), scaled((2000.0, 96.0, 143.0))), MUSCLE)
    for level in range(-3, 4):  # ribs: rings in the wall, every 24 mm
        canvas.lay(*ellipsoid(scaled((24.0 * level, 0.0, 0.0)), scaled((5.0, 94.0, 141.0))), BONE)
    canvas.lay(*ellipsoid((0, 0, 0), scaled((2000.0, 88.0, 134.0))), MUSCLE)
    canvas.lay(*tube(scaled((-900.0, 70.0, 0.0)), scaled((900.0, 70.0, 0.0)), 17.0 * scale), 300.0)
    for centre, semi in LUNGS:
        canvas.lay(*ellipsoid(scaled(centre), scaled(semi)), lambda y: np.float32(-860.0) + np.float32(0.3) * y)
    for centre, semi in (*_DOMES, _HEART):
        canvas.lay(*ellipsoid(scaled(centre), scaled(semi)), BLOOD)
    canvas.lay(*tube(scaled((-200.0, 45.0, 16.0)), scaled((200.0, 40.0, 16.0)), 11.0 * scale), BLOOD)


def _nodule(canvas: Canvas, nodule: Nodule) -> None:
    for tip in nodule.spicules:
        canvas.lay(*tube(nodule.centre, tip, SPICULE), 20.0)
    canvas.lay(*lobed(nodule.centre, nodule.radius, np.array(nodule.lobes, np.float32).reshape(-1, 4)), BLOOD)
    if nodule.core > 0:
        canvas.lay(*tube(nodule.centre, nodule.centre, 0.7 * nodule.radius), BLOOD + nodule.core)


def clearance(points: Floats, scale: float) -> Floats:
    """How far points (n, 3) in the lungs are from what is not lung, in mm; negative outside."""
    z, y, x = (points[:, axis] for axis in range(3))
    found = np.full(len(points), -np.inf, np.float32)
    for centre, semi in LUNGS:
        distance, _ = ellipsoid(_times(centre, scale), _times(semi, scale))
        found = np.maximum(found, -distance(z, y, x))
    for centre, semi in (*_DOMES, _HEART):
        distance, _ = ellipsoid(_times(centre, scale), _times(semi, scale))
        found = np.minimum(found, distance(z, y, x))
    return found


def _nodules(chance: np.random.Generator, scale: float, count: int) -> list[Nodule]:
    """Nodules that lie wholly in the field, apart from each other; a third of them touches the lung's edge."""
    made: list[Nodule] = []
    while len(made) < count:
        malignancy = float(chance.uniform())
        radius = float(np.clip(chance.uniform(SMALLEST, 7.0) + 2.0 * malignancy, SMALLEST, LARGEST))
        points = _in_lungs(chance, 200, 1.0) * np.float32(scale)
        gaps = clearance(points, scale)
        at_edge = chance.uniform() < 1 / 3
        placed = (gaps > 0.3 * radius) & (gaps < 0.9 * radius) if at_edge else gaps > 1.3 * radius
        inside = points[placed & (np.abs(points[:, 0]) < FIELD[0] / 2 - 1.5 * radius)]
        if not len(inside):
            continue
        centre = _point(inside[0])
        apart = [float(np.linalg.norm(np.subtract(centre, other.centre))) for other in made]
        if min(apart, default=np.inf) > 2.5 * LARGEST:
            made.append(_grown(chance, centre, radius, malignancy))
    return made


def _grown(chance: np.random.Generator, centre: Point, radius: float, malignancy: float) -> Nodule:
    """A nodule whose signs follow its malignancy, each with a scatter of its own."""
    seen = [float(np.clip(malignancy + chance.normal(0, 0.05), 0, 1)) for _ in range(3)]
    lobes = [(*_direction(chance), 0.05 + 0.5 * seen[0] * float(chance.uniform(0.6, 1.0))) for _ in range(5)]
    tips = []
    for _ in range(round(max(0.0, 30.0 * (seen[1] - 0.5)))):
        length = radius * float(chance.uniform(1.8, 2.5))
        tips.append(_point(np.add(centre, np.multiply(length, _direction(chance)))))
    core = CALCIUM * max(0.0, 0.45 - seen[2]) / 0.45
    return Nodule(
        centre=centre, radius=radius, malignancy=malignancy, lobes=tuple(lobes), spicules=tuple(tips), core=core
    )


def _vessels(points: Floats, chance: np.random.Generator) -> list[tuple[Point, Point, float]]:
    """A stem from the hilum to each of some points of its lung, and two twigs at its end."""
    made = []
    for side, hilum in enumerate(HILA):
        own = points[(points[:, 2] > 0) == bool(side)]
        for end in own[chance.choice(len(own), 10, replace=False)]:
            made.append((hilum, _point(end), float(chance.uniform(1.5, 2.8))))
            near = own[np.linalg.norm(own - end, axis=1) < 35.0]
            for twig in near[chance.choice(len(near), 2)]:
                made.append((_point(end), _point(twig), float(chance.uniform(0.8, 1.5))))
    return made


def _in_lungs(chance: np.random.Generator, count: int, gap: float = 4.0) -> Floats:
    """Random points of the lungs at scale 1, so many mm from their edge."""
    found = np.empty((0, 3), np.float32)
    reach = np.array([FIELD[0] / 2 - 4.0, 82.0, 128.0])
    while len(found) < count:
        points = chance.uniform(-reach, reach, (4 * count, 3)).astype(np.float32)
        found = np.concatenate([found, points[clearance(points, 1.0) > gap]])
    return found[:count]


def _direction(chance: np.random.Generator) -> Point:
    vector = chance.standard_normal(3)
    return _point(vector / np.linalg.norm(vector))


def _times(point: Point, factor: float) -> Point:
    return point[0] * factor, point[1] * factor, point[2] * factor


def _point(values: npt.NDArray[Any]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])
