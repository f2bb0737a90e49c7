"""Fits calibrators to the probabilities of cases whose truth is known, and that trained nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar

from inference.monitor.calibration import SMALLEST, Floats, Isotonic, Platt, Temperature, logit


def fit_temperature(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> Temperature:
    """The temperature of least negative log-likelihood.

    ``truth`` holds 0 or 1 where probabilities are (cases,), the number of the true class where they are (cases,
    classes).
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(truth, np.int64)
    if p.ndim == 1:
        p, y = np.stack([1 - p, p], axis=-1), y

    def cost(log_temperature: float) -> float:
        said = Temperature(temperature=float(np.exp(log_temperature))).apply_classes(p)
        return float(-np.mean(np.log(np.clip(said[np.arange(len(y)), y], SMALLEST, None))))

    found = minimize_scalar(cost, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return Temperature(temperature=float(np.exp(found.x)))


def fit_platt(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> Platt:
    """Slope and offset of least negative log-likelihood.

    Targets are drawn in from 0 and 1 as Platt proposes, so that separable cases do not ask for an endless slope.
    """
    x, y = logit(probabilities), np.asarray(truth, np.float64)
    positive, negative = float(y.sum()), float(len(y) - y.sum())
    target = np.where(y > 0.5, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def cost(parameters: Floats) -> float:
        z = parameters[0] * x + parameters[1]
        return float(np.mean(np.logaddexp(0.0, z) - target * z))

    found = minimize(cost, np.array([1.0, 0.0]), method="BFGS")
    return Platt(slope=float(found.x[0]), offset=float(found.x[1]))


def fit_isotonic(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> Isotonic:
    """The rising curve of least squares, by pooling adjacent violators."""
    p, y = np.asarray(probabilities, np.float64), np.asarray(truth, np.float64)
    scores, places = np.unique(p, return_inverse=True)
    weights = np.bincount(places).astype(np.float64)
    blocks: list[list[float]] = []  # mean, weight, number of scores
    for mean, weight in zip(np.bincount(places, y) / weights, weights, strict=True):
        blocks.append([float(mean), float(weight), 1.0])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean_, weight_, count = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + mean_ * weight_) / (last[1] + weight_)
            last[1], last[2] = last[1] + weight_, last[2] + count
    curve = np.concatenate([np.full(int(count), mean) for mean, _, count in blocks])
    ends = np.flatnonzero(np.r_[True, np.diff(curve) != 0] | np.r_[np.diff(curve) != 0, True])
    return Isotonic(scores=tuple(map(float, scores[ends])), probabilities=tuple(map(float, curve[ends])))
