"""Cuts phantoms into training samples, says what the network should answer, and varies them (augmentation)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from inference.algorithms.nodule_network import RADIUS_MM, STEP_MM, STRIDE, scaled
from inference.training.phantom import HILA, Nodule, Phantom, draw, render
from inference.training.solids import Floats, Grid, Point

SIDE = 24  #: voxels of 2 mm
IGNORED = -1  #: grade of a cell that lies in no nodule
HEAT = 0.3  #: a cell with at least this much target teaches radius and grade


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Images and what is so in them, as tensors."""

    images: torch.Tensor  #: (n, 1, 24, 24, 24) HU
    heat: torch.Tensor  #: (n, 12, 12, 12), 1 in the middle of a nodule
    radius: torch.Tensor  #: (n, 12, 12, 12), logarithm of the radius over 5 mm
    grade: torch.Tensor  #: (n, 12, 12, 12), IGNORED outside of nodules

    def __len__(self) -> int:
        return len(self.images)


def make(seeds: range) -> Samples:
    """One sample of each seed: seven in ten around a nodule, others at vessels or anywhere in the lungs."""
    made = [_sample(seed) for seed in seeds]
    images, heat, radius, grade = (np.stack(arrays) for arrays in zip(*made, strict=True))
    return Samples(
        images=torch.from_numpy(images)[:, None],
        heat=torch.from_numpy(heat),
        radius=torch.from_numpy(radius),
        grade=torch.from_numpy(grade),
    )


def batches(samples: Samples, size: int, generator: torch.Generator) -> Iterator[Samples]:
    """All samples once in a new order, each varied."""
    order = torch.randperm(len(samples), generator=generator)
    for start in range(0, len(samples), size):
        chosen = order[start : start + size]
        picked = Samples(
            images=samples.images[chosen],
            heat=samples.heat[chosen],
            radius=samples.radius[chosen],
            grade=samples.grade[chosen],
        )
        yield vary(picked, generator)


def vary(samples: Samples, generator: torch.Generator) -> Samples:
    """Mirrored along random axes, with other brightness, contrast and noise: what must not change the answer."""
    axes = [axis for axis in (1, 2, 3) if float(torch.rand(1, generator=generator)) < 0.5]
    n = len(samples)
    gain = 1.0 + 0.05 * torch.randn((n, 1, 1, 1, 1), generator=generator)
    shift = 15.0 * torch.randn((n, 1, 1, 1, 1), generator=generator)
    noise = 15.0 * torch.rand((n, 1, 1, 1, 1), generator=generator)
    images = samples.images * gain + shift
    images = images + noise * torch.randn(images.shape, generator=generator)
    return Samples(
        images=scaled(images.flip([axis + 1 for axis in axes])),
        heat=samples.heat.flip(axes),
        radius=samples.radius.flip(axes),
        grade=samples.grade.flip(axes),
    )


def plain(samples: Samples) -> Samples:
    """As they are, for validation."""
    return Samples(images=scaled(samples.images), heat=samples.heat, radius=samples.radius, grade=samples.grade)


def targets(nodules: tuple[Nodule, ...], grid: Grid) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """What the network should answer in each cell of a grid of voxels: heat, radius, grade."""
    z, y, x = (
        grid.axis(number).reshape(-1, STRIDE).mean(axis=1).reshape([-1 if a == number else 1 for a in range(3)])
        for number in range(3)
    )
    shape = tuple(side // STRIDE for side in grid.shape)
    heat, radius = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    grade = np.full(shape, IGNORED, np.int64)
    for nodule in nodules:
        a, b, c = nodule.centre
        square = (z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2
        own = np.exp(-square / (2 * (0.5 * nodule.radius + 1.0) ** 2)).astype(np.float32)
        mine = (own > heat) & (own >= HEAT)
        heat = np.maximum(heat, own)
        radius[mine], grade[mine] = np.log(nodule.radius / RADIUS_MM), nodule.grade
    return heat, radius, grade


def _sample(seed: int) -> tuple[Floats, Floats, Floats, npt.NDArray[np.int64]]:
    chance = np.random.default_rng([seed, 79])
    kind = chance.choice(["nodule", "vessel", "anywhere"], p=[0.7, 0.15, 0.15])
    phantom = draw(seed, nodules=2 if kind == "nodule" else None)
    grid = _around(_middle(phantom, kind, chance))
    return (render(phantom, grid), *targets(phantom.nodules, grid))


def _middle(phantom: Phantom, kind: str, chance: np.random.Generator) -> Point:
    if kind == "nodule":
        middle = phantom.nodules[0].centre
    elif kind == "vessel":
        middle = HILA[int(chance.integers(len(HILA)))]
    else:
        middle = phantom.granulomas[0][0]
    off = chance.uniform(-10.0, 10.0, 3)
    return middle[0] + float(off[0]), middle[1] + float(off[1]), middle[2] + float(off[2])


def _around(middle: Point) -> Grid:
    z, y, x = (c - STEP_MM * (SIDE - 1) / 2 for c in middle)
    return Grid(origin=(z, y, x), spacing=(STEP_MM, STEP_MM, STEP_MM), shape=(SIDE, SIDE, SIDE))
