"""Calibrators find what was done to probabilities, and measures of calibration see it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from inference.monitor.calibration import (
    Isotonic,
    Platt,
    Temperature,
    binary_entropy,
    brier,
    calibration_error,
    entropy,
    expit,
    logit,
    reliability,
)
from inference.monitor.fitting import fit_isotonic, fit_platt, fit_temperature


@pytest.fixture
def honest() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that mean what they say, and outcomes drawn from them."""
    chance = np.random.default_rng(3)
    p = chance.beta(0.8, 0.8, 20_000)
    return p, (chance.uniform(size=p.size) < p).astype(int)


def test_logit_and_expit_undo_each_other_and_stay_finite() -> None:
    p = np.linspace(0.001, 0.999, 50)

    assert expit(logit(p)) == pytest.approx(p)
    assert np.isfinite(logit([0.0, 1.0])).all()
    assert expit([-1e6, 1e6]) == pytest.approx([0.0, 1.0])


def test_honest_probabilities_have_no_calibration_error(honest: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = honest

    assert calibration_error(p, y) < 0.01
    assert sum(b.cases for b in reliability(p, y)) == len(p)
    assert all(b.low <= b.said <= b.high for b in reliability(p, y))
    assert brier(p, y) == pytest.approx(float(np.mean(p * (1 - p))), abs=0.005)  # the least that is possible


def test_calibration_error_is_the_mean_distance_by_bin() -> None:
    assert calibration_error([0.75] * 4 + [0.25] * 4, [1, 1, 1, 0, 1, 0, 0, 0]) == pytest.approx(0.0)
    assert calibration_error([0.9] * 10, [1] * 5 + [0] * 5) == pytest.approx(0.4)
    assert calibration_error([1.0, 0.0], [1, 0]) == 0.0


def test_temperature_is_found_again_for_two_classes_and_for_many(honest: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = honest
    sharp = expit(2.5 * logit(p))

    found = fit_temperature(sharp, y)

    assert found.temperature == pytest.approx(2.5, rel=0.05)
    assert found.apply(sharp) == pytest.approx(p, abs=0.02)
    chance = np.random.default_rng(5)
    classes = chance.dirichlet([1.0, 1.0, 1.0], 8000)
    truth = np.array([chance.choice(3, p=row) for row in classes])
    sharper = Temperature(temperature=0.5).apply_classes(classes)
    assert fit_temperature(sharper, truth).temperature == pytest.approx(2.0, rel=0.06)


def test_platt_finds_slope_and_offset(honest: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = honest
    distorted = expit((logit(p) - 0.7) / 0.6)

    found = fit_platt(distorted, y)

    assert (found.slope, found.offset) == (pytest.approx(0.6, rel=0.05), pytest.approx(0.7, abs=0.06))
    assert calibration_error(found.apply(distorted), y) < 0.01 < calibration_error(distorted, y)


def test_platt_stays_finite_where_the_classes_do_not_overlap() -> None:
    found = fit_platt([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])

    assert 0.5 < float(found.apply(0.9)) < 0.95
    assert math.isfinite(found.slope)


def test_isotonic_is_the_best_rising_curve() -> None:
    scores, truth = [0.1, 0.2, 0.3, 0.4, 0.5], [0, 1, 0, 1, 1]
    grid = np.linspace(0, 1, 11)

    found = fit_isotonic(scores, truth)

    cost = float(np.sum((found.apply(scores) - truth) ** 2))
    best = min(
        float(np.sum((np.array(curve) - truth) ** 2)) for curve in itertools.combinations_with_replacement(grid, 5)
    )
    assert cost <= best + 1e-9
    assert found.apply(scores) == pytest.approx([0.0, 0.5, 0.5, 1.0, 1.0])
    assert np.all(np.diff(found.apply(np.linspace(0, 1, 101))) >= 0)


def test_isotonic_takes_any_rising_distortion_away(honest: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = honest

    found = fit_isotonic(p**3, y)

    assert calibration_error(found.apply(p**3), y) < 0.01 < calibration_error(p**3, y)


@pytest.mark.parametrize(
    "calibrator",
    [
        Temperature(temperature=3.0),
        Platt(slope=0.4, offset=-1.0),
        Isotonic(scores=(0.2, 0.8), probabilities=(0.1, 0.7)),
    ],
)
def test_no_calibrator_changes_the_order(calibrator: Temperature | Platt | Isotonic) -> None:
    said = calibrator.apply(np.linspace(0, 1, 201))

    assert np.all(np.diff(said) >= 0)
    assert said.min() >= 0
    assert said.max() <= 1


def test_entropy_is_one_for_ignorance_and_nothing_for_certainty() -> None:
    assert entropy([[0.25] * 4, [1.0, 0.0, 0.0, 0.0]]) == pytest.approx([1.0, 0.0])
    assert binary_entropy([0.5, 0.0, 1.0]) == pytest.approx([1.0, 0.0, 0.0])
    assert float(binary_entropy(0.11)) == pytest.approx(0.4999, abs=1e-3)
