"""How well a detector does: sensitivity against false positives per series (Bunch et al. 1977, Proc SPIE 127:124)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.monitor.rates import Interval, bootstrap, poisson, wilson

Floats = npt.NDArray[np.float64]

#: False positives a series at which sensitivity is averaged (Setio et al. 2017, Med Image Anal 42:1).
USUAL = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One thing that a detector marked."""

    score: float
    lesion: int | None  #: number of the lesion that it hits, within its series; None: a false positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """One series, what is in it and what was marked in it."""

    lesions: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Points from the highest threshold to the lowest."""

    false_positives: Floats  #: per series
    sensitivity: Floats
    thresholds: Floats

    def at(self, false_positives: float) -> float:
        """Sensitivity at no more than so many false positives a series."""
        allowed = self.false_positives <= false_positives + 1e-12
        return float(self.sensitivity[allowed].max(initial=0.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scores:
    """One series as a curve needs it."""

    hits: Floats  #: best score of each lesion that was hit
    alarms: Floats
    lesions: int


def froc(series: Sequence[Marked]) -> Curve:
    """The curve; a lesion counts once, at the best score that hits it, and further hits are no false positives."""
    return _curve([_scores(one) for one in series])


def _scores(one: Marked) -> _Scores:
    best: dict[int, float] = {}
    for candidate in one.candidates:
        if candidate.lesion is not None:
            best[candidate.lesion] = max(best.get(candidate.lesion, -np.inf), candidate.score)
    alarms = [candidate.score for candidate in one.candidates if candidate.lesion is None]
    return _Scores(hits=np.array(list(best.values())), alarms=np.array(alarms), lesions=one.lesions)


def _curve(series: Sequence[_Scores]) -> Curve:
    none = np.empty(0)
    hits = np.sort(np.concatenate([none, *(one.hits for one in series)]))
    alarms = np.sort(np.concatenate([none, *(one.alarms for one in series)]))
    thresholds = np.unique(np.r_[hits, alarms])[::-1]
    found = len(hits) - np.searchsorted(hits, thresholds)
    false = len(alarms) - np.searchsorted(alarms, thresholds)
    return Curve(
        false_positives=np.r_[0.0, false / max(1, len(series))],
        sensitivity=np.r_[0.0, found / max(1, sum(one.lesions for one in series))],
        thresholds=np.r_[np.inf, thresholds],
    )


def at_threshold(series: Sequence[Marked], threshold: float) -> tuple[float, float]:
    """Sensitivity by lesion, and false positives a series."""
    found = sum(len({c.lesion for c in s.candidates if c.lesion is not None and c.score >= threshold}) for s in series)
    false = sum(c.lesion is None and c.score >= threshold for s in series for c in s.candidates)
    lesions = sum(s.lesions for s in series)
    return found / lesions if lesions else float("nan"), false / max(1, len(series))


def false_positive_interval(series: Sequence[Marked], threshold: float) -> Interval:
    """False positives a series, with a bootstrap interval over series or the exact Poisson one, whichever is wider.

    Series differ, so that alarms come in clusters, which the bootstrap sees; but drawn from series without any it
    says 0 to 0, and from few too little.
    """
    counts = np.array([sum(c.lesion is None and c.score >= threshold for c in s.candidates) for s in series], float)
    drawn = bootstrap(lambda chosen: float(counts[chosen].mean()), len(series))
    return _wider(drawn, poisson(int(counts.sum()), len(series)))


def sensitivity_interval(series: Sequence[Marked], false_positives: float) -> Interval:
    """Sensitivity at so many false positives a series, with a bootstrap interval over series."""
    scores = [_scores(one) for one in series]
    return _of_all(
        bootstrap(lambda chosen: _curve([scores[i] for i in chosen]).at(false_positives), len(series)), scores
    )


def mean_sensitivity(series: Sequence[Marked]) -> Interval:
    """Mean sensitivity at the usual false positive rates, with a bootstrap interval over series."""
    scores = [_scores(one) for one in series]

    def mean(chosen: npt.NDArray[np.intp]) -> float:
        curve = _curve([scores[i] for i in chosen])
        return float(np.mean([curve.at(rate) for rate in USUAL]))

    return _of_all(bootstrap(mean, len(series)), scores)


def _of_all(drawn: Interval, scores: Sequence[_Scores]) -> Interval:
    """Where all lesions or none are found, drawing series says nothing of the doubt that is left: Wilson's does."""
    lesions = sum(one.lesions for one in scores)
    return _wider(drawn, wilson(round(drawn.value * lesions), lesions)) if drawn.value in (0.0, 1.0) else drawn


def _wider(one: Interval, other: Interval) -> Interval:
    return Interval(value=one.value, low=min(one.low, other.low), high=max(one.high, other.high))
