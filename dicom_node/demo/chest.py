"""The anatomy of the digital chest: simple solids in the places and sizes of an adult's, air to bone.

Densities in HU are common CT readings; the parenchyma grows denser towards the back, as it does in a patient lying on
it. Nothing here is anybody's data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dicom_node.demo.shapes import Capsule, Ellipsoid, Floats, Plane, Point, Shape

AIR, FAT, MUSCLE, BLOOD, LIVER, BONE, MARROW = -1000.0, -100.0, 50.0, 40.0, 60.0, 450.0, 180.0
EMPHYSEMA, NODULE, LUMEN = -980.0, 40.0, -990.0
LUNG_MIDDLE, LUNG_SLOPE = -865.0, 0.35  #: HU at y = 0 and HU per mm towards the back

LUNGS = (
    Ellipsoid(centre=(-75.0, -5.0, -20.0), semi=(58.0, 85.0, 135.0), lower=220.0),
    Ellipsoid(centre=(75.0, -5.0, -20.0), semi=(58.0, 85.0, 135.0), lower=220.0),
)
DOMES = (
    Ellipsoid(centre=(-75.0, -5.0, -152.0), semi=(46.0, 71.0, 80.0)),
    Ellipsoid(centre=(75.0, -5.0, -160.0), semi=(46.0, 71.0, 78.0)),
)
LIVER_BELOW = tuple(Ellipsoid(centre=(x, -5.0, -195.0), semi=(62.0, 90.0, 46.0)) for x in (-75.0, 75.0))
HEART: tuple[Shape, ...] = (
    Ellipsoid(centre=(15.0, -30.0, -60.0), semi=(54.0, 46.0, 62.0)),
    Capsule(start=(16.0, 48.0, -220.0), end=(16.0, 42.0, 45.0), radius=11.0),
    Capsule(start=(-8.0, -20.0, -30.0), end=(10.0, -8.0, 48.0), radius=13.0),
)
STOMACH = Ellipsoid(centre=(74.0, -22.0, -128.0), semi=(30.0, 34.0, 34.0))
FLUID_LEVEL = -14.0  #: y of the stomach's fluid, mm
AIRWAYS = (
    Capsule(start=(0.0, -8.0, 220.0), end=(0.0, 4.0, 28.0), radius=9.0),
    Capsule(start=(0.0, 4.0, 28.0), end=(-34.0, 12.0, 4.0), radius=6.5),
    Capsule(start=(0.0, 4.0, 28.0), end=(38.0, 12.0, -4.0), radius=6.0),
    Capsule(start=(-34.0, 12.0, 4.0), end=(-52.0, 16.0, -30.0), radius=3.6),
    Capsule(start=(38.0, 12.0, -4.0), end=(54.0, 20.0, -36.0), radius=3.4),
    Capsule(start=(-34.0, 12.0, 4.0), end=(-56.0, -8.0, 30.0), radius=3.0),
    Capsule(start=(38.0, 12.0, -4.0), end=(58.0, -10.0, 26.0), radius=3.0),
)
WALL = 1.8  #: mm, of the airways
STERNUM = Ellipsoid(centre=(0.0, -92.0, 0.0), semi=(16.0, 6.0, 75.0))
HILA: tuple[Point, Point] = ((-34.0, 12.0, 0.0), (38.0, 12.0, -6.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Disease:
    """What was strewn into the lungs."""

    vessels: tuple[Capsule, ...]
    nodules: tuple[Capsule, ...]
    emphysema: tuple[Capsule, ...]  #: balls wholly inside parenchyma, apart from each other

    @property
    def emphysema_ml(self) -> float:
        return sum(ball.ball_ml for ball in self.emphysema)


def background(plane: Plane) -> Floats:
    """What is the same in every slice: room air, the table, the body wall, the spine."""
    hu = np.full((plane.y.size, plane.x.size), AIR, np.float32)
    x, y = plane.x, plane.y
    table = np.abs(_round(x, y + 400.0, 532.0)) - np.float32(9.0)
    _mix(hu, plane, table, -900.0)
    _mix(hu, plane, np.abs(table) - np.float32(1.2), 150.0)
    _mix(hu, plane, _oval(x, y, 168.0, 114.0), FAT)
    _mix(hu, plane, _oval(x, y, 155.0, 103.0), MUSCLE)
    _mix(hu, plane, _round(x, y - 74.0, 19.0), BONE)
    _mix(hu, plane, _round(x, y - 74.0, 16.0), MARROW)
    _mix(hu, plane, _round(x * 0.8, y - 98.0, 8.0), 30.0)
    return hu


def ribs(plane: Plane, z: float) -> Floats:
    """How much rib is in each voxel: bars in the chest wall that slope down towards the front."""
    ring = np.abs(_oval(plane.x, plane.y, 146.0, 97.0)) - 3.5
    bars = 24.0 * np.abs((z - 0.4 * plane.y) / 24.0 - np.rint((z - 0.4 * plane.y) / 24.0)) - 5.0
    return np.asarray(np.clip(0.5 - np.maximum(ring, bars) / plane.blur, 0, 1), np.float32)


def disease(seed: int, emphysema_percent: float) -> Disease:
    """Vessels, three nodules and emphysema of the given share of the space the lungs' solids leave; same for a seed."""
    chance = np.random.default_rng(seed)
    points, clearance = _room(chance, 40_000)
    vessels = _vessels(points[clearance > 6.0], chance)
    clearance = np.minimum(clearance, _nearest(vessels, points))
    nodules = _balls(points, clearance, (4.0, 5.0, 7.0), 3.0)
    clearance = np.minimum(clearance, _nearest(nodules, points))
    target = emphysema_percent / 100.0 * space_ml()
    radii: list[float] = []
    while sum(4.18879e-3 * r**3 for r in radii) < target:
        radii.append(float(chance.uniform(3.5, 8.0)))
    upper = np.argsort(-points[:, 2] + chance.normal(0, 60, len(points)))
    balls = _balls(points[upper], clearance[upper], sorted(radii, reverse=True), 1.5)
    return Disease(vessels=vessels, nodules=nodules, emphysema=balls)


def space_ml(step: float = 2.0) -> float:
    """Volume that the lungs' solids leave after diaphragm, heart and airways, by the midpoint rule."""
    total = 0
    for lung in LUNGS:
        x, y, z = np.meshgrid(*(_middles(a, b, step) for a, b in zip(*lung.bounds, strict=True)), sparse=True)
        inside = lung.distance(x, y, z) < 0
        for shape in _solids():
            inside &= shape.distance(x, y, z) > 0
        total += int(inside.sum())
    return total * step**3 / 1000.0


def _middles(low: float, high: float, step: float) -> Floats:
    return (np.arange(low, high, step) + step / 2).astype(np.float32)


def _solids() -> tuple[Shape, ...]:
    """What takes room from the parenchyma."""
    return (*DOMES, *HEART, *_walls())


def _walls() -> tuple[Capsule, ...]:
    return tuple(Capsule(start=a.start, end=a.end, radius=a.radius + WALL) for a in AIRWAYS)


def _oval(x: Floats, y: Floats, a: float, b: float) -> Floats:
    """About the distance to a rounded rectangle-like oval, mm."""
    norm = ((np.abs(x) / a) ** 2.5 + (np.abs(y) / b) ** 2.5) ** np.float32(0.4)
    return np.asarray((norm - 1) * np.float32(min(a, b)), np.float32)


def _round(x: Floats, y: Floats, radius: float) -> Floats:
    return np.asarray(np.hypot(x, y) - radius, np.float32)


def _mix(hu: Floats, plane: Plane, gap: Floats, value: float) -> None:
    hu += np.clip(0.5 - gap / np.float32(plane.blur), 0, 1) * (np.float32(value) - hu)


def _room(chance: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Random points in the lungs and how far each is from what is not parenchyma, mm."""
    low, high = np.min([lung.bounds[0] for lung in LUNGS], 0), np.max([lung.bounds[1] for lung in LUNGS], 0)
    points = chance.uniform(low, high, (count, 3)).astype(np.float32)
    x, y, z = points.T
    inside = np.max([-lung.distance(x, y, z) for lung in LUNGS], axis=0)
    clearance = np.minimum(inside, _nearest(_solids(), points))
    return points[clearance > 0], clearance[clearance > 0]


def _nearest(shapes: tuple[Shape, ...], points: Floats) -> Floats:
    """Distance of each point to the nearest shape, mm."""
    x, y, z = points.T
    nearest = np.full(len(points), np.inf, np.float32)
    for shape in shapes:
        np.minimum(nearest, shape.distance(x, y, z), out=nearest)
    return nearest


def _vessels(points: Floats, chance: np.random.Generator) -> tuple[Capsule, ...]:
    """A stem from the hilum to each of some points, and three twigs at its end."""
    found: list[Capsule] = []
    for side, hilum in enumerate(HILA):
        own = points[(points[:, 0] > 0) == bool(side)]
        for end in own[chance.choice(len(own), 16, replace=False)]:
            found.append(Capsule(start=hilum, end=_point(end), radius=float(chance.uniform(1.6, 3.0))))
            reach = np.linalg.norm(own - end, axis=1)
            near = own[(reach > 12.0) & (reach < 35.0)]
            found += [
                Capsule(start=_point(end), end=_point(twig), radius=float(chance.uniform(0.9, 1.5)))
                for twig in near[chance.choice(len(near), 3)]
            ]
    return tuple(found)


def _balls(points: Floats, clearance: Floats, radii: Sequence[float], gap: float) -> tuple[Capsule, ...]:
    """One ball for each radius at the first point that leaves ``gap`` mm around it; raises ValueError if none does."""
    left = clearance.copy()
    found: list[Capsule] = []
    for radius in radii:
        at = int(np.argmax(left > radius + gap))
        if left[at] <= radius + gap:
            raise ValueError(f"no room left for a ball of {radius:.1f} mm")
        centre = points[at]
        found.append(Capsule(start=_point(centre), end=_point(centre), radius=radius))
        np.minimum(left, np.linalg.norm(points - centre, axis=1) - radius, out=left)
    return tuple(found)


def _point(values: Floats) -> Point:
    return float(values[0]), float(values[1]), float(values[2])
