"""Makes probabilities mean what they say: calibrators, and how far off a set of probabilities is.

All of them take probabilities, not logits: the logarithm of a probability is its logit but for a constant per case, to
which the softmax is blind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SMALLEST = 1e-7  #: probabilities are kept this far from 0 and 1 before their logit is taken


class Calibrator(Protocol):
    """Maps raw probabilities to calibrated ones, order kept."""

    def apply(self, probabilities: npt.ArrayLike) -> Floats:
        """Calibrated probabilities of the same shape."""
        ...


def logit(probabilities: npt.ArrayLike) -> Floats:
    """Natural logarithm of the odds, finite for 0 and 1 too."""
    p = np.clip(np.asarray(probabilities, np.float64), SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(p) - np.log1p(-p))


def expit(logits: npt.ArrayLike) -> Floats:
    """The probability that has these log odds."""
    x = np.asarray(logits, np.float64)
    return np.asarray(np.exp(-np.logaddexp(0.0, -x)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """One number that flattens (> 1) or sharpens (< 1) all probabilities (Guo et al. 2017, ICML, PMLR 70:1321)."""

    temperature: float

    def apply(self, probabilities: npt.ArrayLike) -> Floats:
        """Each probability is one of a yes-or-no answer."""
        return expit(logit(probabilities) / self.temperature)

    def apply_classes(self, probabilities: npt.ArrayLike) -> Floats:
        """Probabilities (..., classes) of classes that exclude each other; they sum to 1 as before."""
        p = np.clip(np.asarray(probabilities, np.float64), SMALLEST, None)
        scaled = np.log(p) / self.temperature
        scaled -= scaled.max(axis=-1, keepdims=True)
        weights = np.exp(scaled)
        return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Platt:
    """A logistic curve over the log odds (Platt 1999, Advances in Large Margin Classifiers, 61)."""

    slope: float
    offset: float

    def apply(self, probabilities: npt.ArrayLike) -> Floats:
        """Each probability is one of a yes-or-no answer."""
        return expit(self.slope * logit(probabilities) + self.offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Isotonic:
    """Any rising curve, as points with straight lines between (Zadrozny and Elkan 2002, KDD, 694)."""

    scores: tuple[float, ...]  #: raw, strictly rising
    probabilities: tuple[float, ...]  #: calibrated, never falling

    def apply(self, probabilities: npt.ArrayLike) -> Floats:
        """Each probability is one of a yes-or-no answer; beyond the outermost points the curve is flat."""
        return np.asarray(np.interp(np.asarray(probabilities, np.float64), self.scores, self.probabilities))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Cases that were given about the same probability."""

    low: float
    high: float
    cases: int
    said: float  #: mean probability
    seen: float  #: share of them that were true


def reliability(probabilities: npt.ArrayLike, truth: npt.ArrayLike, bins: int = 10) -> tuple[Bin, ...]:
    """A reliability diagram as numbers; bins of equal width, empty ones left out."""
    p, y = np.asarray(probabilities, np.float64), np.asarray(truth, np.float64)
    edges = np.linspace(0.0, 1.0, bins + 1)
    places = np.clip(np.digitize(p, edges[1:-1]), 0, bins - 1)
    return tuple(
        Bin(
            low=float(edges[k]),
            high=float(edges[k + 1]),
            cases=int(np.count_nonzero(places == k)),
            said=float(p[places == k].mean()),
            seen=float(y[places == k].mean()),
        )
        for k in range(bins)
        if np.any(places == k)
    )


def calibration_error(probabilities: npt.ArrayLike, truth: npt.ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: mean distance of what is said from what is seen (Naeini et al. 2015, AAAI, 2901)."""
    found = reliability(probabilities, truth, bins)
    cases = sum(b.cases for b in found)
    return sum(b.cases * abs(b.said - b.seen) for b in found) / cases if cases else 0.0


def brier(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean squared distance of probability and truth (Brier 1950, Monthly Weather Review 78:1)."""
    return float(np.mean((np.asarray(probabilities, np.float64) - np.asarray(truth, np.float64)) ** 2))


def entropy(probabilities: npt.ArrayLike) -> Floats:
    """Entropy of classes (last axis) over its maximum: 0 certain, 1 knows nothing."""
    p = np.clip(np.asarray(probabilities, np.float64), 0.0, 1.0)
    terms = np.where(p > 0, -p * np.log(np.where(p > 0, p, 1.0)), 0.0)
    return np.asarray(terms.sum(axis=-1) / np.log(p.shape[-1]))


def binary_entropy(probability: npt.ArrayLike) -> Floats:
    """Entropy of a yes-or-no answer over its maximum: 0 certain, 1 knows nothing."""
    p = np.asarray(probability, np.float64)
    return entropy(np.stack([p, 1 - p], axis=-1))
