"""How numbers are rounded for readers: what is said never contradicts what was decided.

An amount above 0 is never said as 0, a probability below 1 never as 1, and what was judged to be below a limit
never as the limit or more: as many decimals are given as this takes.
"""

from __future__ import annotations

import math
from decimal import Decimal

_MORE = 20  #: decimals tried beyond those wanted: enough for every float that is no noise
_NOISE = 1e-6  #: of the last decimal wanted: what is smaller is 0 but for how computers calculate
_HARDLY = 0.001  #: a probability nearer to 0 or 1 is said as "<0.001" or ">0.999"


def decimals(value: float, wanted: int, *limits: float) -> int:
    """How many decimals say a value, at least those wanted, so that it stays above, below or equal to each limit."""
    value = float(value)
    if not math.isfinite(value):
        return wanted
    noise = _NOISE * 10.0**-wanted
    for number in range(wanted, wanted + _MORE):
        shown = round(value, number)
        if (shown or value < noise) and all(_side(shown, one) == _side(value, one) for one in limits):
            return number
    return wanted + _MORE


def rounded(value: float, wanted: int, *limits: float) -> float:
    """The value as ``decimals`` has it; never a negative zero."""
    return round(float(value), decimals(value, wanted, *limits)) + 0.0


def figure(value: float, wanted: int, *limits: float) -> str:
    """The same in digits, e.g. ``0.4996`` of two decimals where 0.5 is a limit."""
    return f"{float(value):z.{decimals(value, wanted, *limits)}f}"


def exact(value: float) -> str:
    """A given number such as a limit, with all its digits and without an exponent: ``950``, ``0.00004``."""
    if not math.isfinite(value):
        return f"{value}"
    text = f"{Decimal(repr(float(value))):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def fineness(wanted: int, *limits: float) -> int:
    """The decimals that say a value: no fewer than a limit has."""
    return max([wanted, *(len(exact(one).partition(".")[2]) for one in limits)])


def probability(value: float, *limits: float) -> float:
    """A probability as it is kept and shown: to three decimals, more where a limit has more, or where it would seem to
    be 0, 1, or on another side of a limit. So it is judged as all its digits would be.
    """
    value = float(value)
    near = rounded(value, fineness(3, *limits), 0.0, 1.0, *limits)
    return near if 0 < near < 1 else value


def chance(value: float, wanted: int, *limits: float) -> str:
    """A probability in digits: with three decimals where two do not say it all, ``<0.001`` where it is hardly any."""
    value = float(value)
    if not 0 < value < 1:
        return f"{value:z.{wanted}f}"
    low = min([_HARDLY, *(one for one in limits if one > 0)])
    high = max([1 - _HARDLY, *(one for one in limits if one < 1)])
    if value < low:
        return f"<{exact(low)}"
    if value > high:
        return f">{exact(high)}"
    return figure(value, wanted if round(value, wanted) == value else max(wanted, 3), 1.0, *limits)


def percent(share: float, *limits: float) -> str:
    """A share of 1 in whole percent; with decimals where it would seem to be nothing, all, or beyond a limit."""
    share = float(share)
    if 0 < share < min([_HARDLY, *limits]):
        return "<0.1"
    if max([1 - _HARDLY, *limits]) < share < 1:
        return ">99.9"
    return figure(100 * share, 0, 0.0, 100.0, *(100 * one for one in limits))


def _side(value: float, limit: float) -> int:
    return (value > limit) - (value < limit)
