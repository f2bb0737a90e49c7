"""Rates with their confidence intervals, for all cases and for groups of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Z95 = 1.959963984540054  #: of the normal distribution, two-sided 95 %
Z_PAIR = 2.236476644557775  #: the same for each of two independent rates that are to hold together in 95 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        """For people, e.g. ``0.920 (0.880 to 0.950)``."""
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A rate among the cases that have something in common."""

    name: str
    cases: int
    rate: Interval


def wilson(hits: int, cases: int, z: float = Z95) -> Interval:
    """A rate with Wilson's score interval (Wilson 1927, J Am Stat Assoc 22:209); 0 to 1 where there is no case.

    ``z``: quantile of the normal distribution, where the interval is not to be that of 95 %.
    """
    if cases == 0:
        return Interval(value=0.0, low=0.0, high=1.0)
    share, square = hits / cases, z * z
    middle = (share + square / (2 * cases)) / (1 + square / cases)
    half = z / (1 + square / cases) * np.sqrt(share * (1 - share) / cases + square / (4 * cases * cases))
    low = 0.0 if hits == 0 else float(max(0.0, middle - half))
    high = 1.0 if hits == cases else float(min(1.0, middle + half))
    return Interval(value=share, low=low, high=high)


def poisson(events: int, cases: int) -> Interval:
    """Events a case with Garwood's exact interval (Garwood 1936, Biometrika 28:437); without events up to 3.7 / cases.

    Raises ZeroDivisionError where there is no case.
    """
    low = float(special.gammaincinv(events, 0.025)) if events else 0.0
    high = float(special.gammaincinv(events + 1, 0.975))
    return Interval(value=events / cases, low=low / cases, high=high / cases)


def by_group(cases: Iterable[tuple[str, bool]]) -> tuple[Group, ...]:
    """Rates by group, from (group, hit) of each case; groups by name."""
    counts: dict[str, list[int]] = {}
    for name, hit in cases:
        count = counts.setdefault(name, [0, 0])
        count[0], count[1] = count[0] + hit, count[1] + 1
    return tuple(Group(name=name, cases=n, rate=wilson(hits, n)) for name, (hits, n) in sorted(counts.items()))


def bootstrap(
    statistic: Callable[[npt.NDArray[np.intp]], float], cases: int, *, draws: int = 1000, seed: int = 1
) -> Interval:
    """A statistic with the percentile interval of cases drawn with replacement (Efron 1979, Ann Stat 7:1).

    ``statistic`` takes the numbers of the cases. Draws in which it is not defined (NaN) are left out.
    """
    chance = np.random.default_rng(seed)
    found = np.array([statistic(chance.integers(0, cases, cases)) for _ in range(draws)])
    found = found[np.isfinite(found)]
    value = statistic(np.arange(cases))
    if not len(found):
        return Interval(value=value, low=value, high=value)
    low, high = np.quantile(found, (0.025, 0.975))
    return Interval(value=value, low=float(min(low, value)), high=float(max(high, value)))
