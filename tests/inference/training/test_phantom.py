"""Digital phantoms: what is said of them is so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inference.training.phantom import FIELD, GRADES, LIMITS, Nodule, clearance, draw, render, whole
from inference.training.samples import HEAT, IGNORED, SIDE, make, targets, vary
from inference.training.solids import Canvas, Grid, ellipsoid, lobed, tube


def around(nodule: Nodule, side: int = 25, step: float = 1.0) -> Grid:
    z, y, x = (c - step * (side - 1) / 2 for c in nodule.centre)
    return Grid(origin=(z, y, x), spacing=(step, step, step), shape=(side, side, side))


def test_a_seed_is_a_phantom_and_another_seed_another() -> None:
    assert draw(5) == draw(5)
    assert draw(5) != draw(6)
    grid = Grid(origin=(0.0, 0.0, 60.0), spacing=(2.0, 2.0, 2.0), shape=(8, 8, 8))
    assert np.array_equal(render(draw(5), grid), render(draw(5), grid))


def test_nodules_lie_in_the_lungs_apart_and_inside_of_the_field() -> None:
    phantoms = [draw(seed, 3) for seed in range(12)]
    nodules = [nodule for phantom in phantoms for nodule in phantom.nodules]

    for phantom in phantoms:
        centres = np.array([n.centre for n in phantom.nodules], np.float32)
        assert (clearance(centres, phantom.scale) > 0).all()
        gaps = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
        assert gaps[np.triu_indices(3, 1)].min() > 20
    assert all(abs(n.centre[0]) + n.radius < FIELD[0] / 2 for n in nodules)
    assert {n.grade for n in nodules} == {0, 1, 2}
    assert [n.grade == sum(n.malignancy >= limit for limit in LIMITS) for n in nodules] == [True] * 36


def test_the_signs_follow_the_grade() -> None:
    nodules = [nodule for seed in range(60) for nodule in draw(seed, 2).nodules]
    cores = [np.mean([n.core for n in nodules if n.grade == g]) for g in range(len(GRADES))]
    spicules = [np.mean([len(n.spicules) for n in nodules if n.grade == g]) for g in range(len(GRADES))]

    assert cores[0] > 200 > 60 > cores[1] >= cores[2]
    assert spicules[2] > 5 > 2.5 > spicules[1] >= spicules[0]


def test_a_nodule_is_where_its_truth_says() -> None:
    phantom = draw(11, 1)
    nodule = phantom.nodules[0]
    hu = render(phantom, around(nodule))

    middle = hu[10:15, 10:15, 10:15].mean()
    assert middle > 0
    assert hu[:2].mean() < middle - 300


def test_solids_have_the_volume_that_geometry_gives_them() -> None:
    grid = Grid(origin=(-15.5, -15.5, -15.5), spacing=(1.0, 1.0, 1.0), shape=(32, 32, 32))

    for solid, volume in (
        (ellipsoid((1.0, 0.0, 2.0), (6.0, 9.0, 12.0)), 4 / 3 * np.pi * 6 * 9 * 12),
        (tube((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 10.0), 4 / 3 * np.pi * 1000),
        (tube((-8.0, 0.0, 0.0), (8.0, 0.0, 0.0), 5.0), np.pi * 25 * 16 + 4 / 3 * np.pi * 125),
        (lobed((0.0, 0.0, 0.0), 10.0, np.zeros((0, 4), np.float32)), 4 / 3 * np.pi * 1000),
    ):
        canvas = Canvas(grid, 0.0)
        canvas.lay(*solid, 1.0)
        assert float(canvas.hu.sum()) == pytest.approx(volume, rel=0.02)


def test_targets_have_their_maximum_in_the_nodules_own_cell() -> None:
    phantom, grid = draw(21, 2), whole()
    heat, radius, grade = targets(phantom.nodules, grid)

    for nodule in phantom.nodules:
        cell = tuple(round((at - 0.5) / 2) for at in grid.index(nodule.centre))
        assert heat[cell] > 0.7
        assert 5.0 * float(np.exp(radius[cell])) == pytest.approx(nodule.radius, rel=1e-4)
        assert grade[cell] == nodule.grade
    assert (grade[heat < HEAT] == IGNORED).all()


def test_what_varies_a_sample_moves_its_truth_with_it() -> None:
    samples = make(range(40, 48))
    assert samples.images.shape == (8, 1, SIDE, SIDE, SIDE)

    varied = vary(samples, torch.Generator().manual_seed(1))

    assert float(varied.images.min()) >= 0
    assert float(varied.images.max()) <= 1
    assert float(varied.heat.sum()) == pytest.approx(float(samples.heat.sum()), rel=1e-5)
    bright = torch.nn.functional.avg_pool3d(varied.images, 2)[:, 0]
    inside, outside = bright[varied.heat > 0.8], bright[(varied.heat < 0.01)]
    assert float(inside.mean()) > float(outside.mean()) + 0.2
