"""How well scores tell two kinds of cases apart, and how well grades agree with the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from inference.monitor.rates import Z95, Interval, bootstrap, wilson

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operating:
    """What a threshold comes to: cases at or above it are called positive."""

    threshold: float
    sensitivity: Interval
    specificity: Interval


def roc(scores: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """False positive rate, true positive rate and threshold of each point, from (0, 0) to (1, 1)."""
    s, y = np.asarray(scores, np.float64), np.asarray(truth).astype(bool)
    order = np.argsort(-s, kind="stable")
    s, y = s[order], y[order]
    last = np.r_[np.flatnonzero(np.diff(s)), len(s) - 1]
    hits, alarms = np.cumsum(y)[last], np.cumsum(~y)[last]
    rate = np.r_[0.0, hits / max(1, y.sum())]
    false = np.r_[0.0, alarms / max(1, (~y).sum())]
    return false, rate, np.r_[np.inf, s[last]]


def auc(scores: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Area under the ROC curve: how often a positive case scores higher than a negative one, ties counted half."""
    s, y = np.asarray(scores, np.float64), np.asarray(truth).astype(bool)
    positive = int(y.sum())
    if not 0 < positive < len(y):
        return float("nan")
    ranks = rankdata(s)
    return float((ranks[y].sum() - positive * (positive + 1) / 2) / (positive * (len(y) - positive)))


def auc_interval(scores: npt.ArrayLike, truth: npt.ArrayLike) -> Interval:
    """The area with DeLong's interval (DeLong et al. 1988, Biometrics 44:837; Sun and Xu 2014, IEEE SPL 21:1389).

    Where the classes do not overlap its variance is nothing, which no sample can show: the lower bound is then that
    of a rate with as many cases as the smaller class has, all of them hits (Clopper and Pearson 1934).
    """
    s, y = np.asarray(scores, np.float64), np.asarray(truth).astype(bool)
    positive, negative = s[y], s[~y]
    m, n = len(positive), len(negative)
    area = auc(s, y)
    if min(m, n) < 2:
        return Interval(value=area, low=0.0, high=1.0)
    together = rankdata(np.r_[positive, negative])
    of_positive = (together[:m] - rankdata(positive)) / n
    of_negative = 1.0 - (together[m:] - rankdata(negative)) / m
    error = float(np.sqrt(np.var(of_positive, ddof=1) / m + np.var(of_negative, ddof=1) / n))
    if error == 0.0:
        return Interval(value=area, low=min(area, 0.025 ** (1.0 / min(m, n))), high=area)
    return Interval(value=area, low=max(0.0, area - Z95 * error), high=min(1.0, area + Z95 * error))


def operating(scores: npt.ArrayLike, truth: npt.ArrayLike, threshold: float) -> Operating:
    """Sensitivity and specificity at a threshold, with Wilson's intervals."""
    s, y = np.asarray(scores, np.float64), np.asarray(truth).astype(bool)
    called = s >= threshold
    return Operating(
        threshold=threshold,
        sensitivity=wilson(int((called & y).sum()), int(y.sum())),
        specificity=wilson(int((~called & ~y).sum()), int((~y).sum())),
    )


def youden(scores: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """The threshold of the largest sum of sensitivity and specificity (Youden 1950, Cancer 3:32)."""
    false, rate, thresholds = roc(scores, truth)
    return float(thresholds[1:][np.argmax((rate - false)[1:])])


def weighted_kappa(said: npt.ArrayLike, truth: npt.ArrayLike, classes: int) -> float:
    """Agreement of steps of a scale beyond chance, squared distances weighted (Cohen 1968, Psychol Bull 70:213)."""
    table = np.zeros((classes, classes))
    np.add.at(table, (np.asarray(truth, np.intp), np.asarray(said, np.intp)), 1.0)
    expected = np.outer(table.sum(1), table.sum(0)) / max(1.0, table.sum())
    weights = np.subtract.outer(np.arange(classes), np.arange(classes)) ** 2
    by_chance = float((weights * expected).sum())
    return 1.0 - float((weights * table).sum()) / by_chance if by_chance else float("nan")


def kappa_interval(said: npt.ArrayLike, truth: npt.ArrayLike, classes: int) -> Interval:
    """Weighted kappa with a bootstrap interval over cases."""
    s, y = np.asarray(said, np.intp), np.asarray(truth, np.intp)
    return bootstrap(lambda chosen: weighted_kappa(s[chosen], y[chosen], classes), len(y))
