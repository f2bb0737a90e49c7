"""How near a package's numbers and segments come to the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from inference.bringing.validation.observing import Measured, Overlap
from inference.bringing.validation.result import Case, Result, by_groups, facts, said
from inference.bringing.validation.targets import Target
from inference.monitor.charts import difference_chart
from inference.monitor.rates import Interval, bootstrap
from inference.packages.manifest import MeasurementEntry
from storage.facts.chart import Chart
from storage.facts.units import spelled

Floats = npt.NDArray[np.float64]


def judge_numbers(target: Target, cases: Sequence[Case[Measured]]) -> Result:
    """Bias and limits of agreement (Bland and Altman 1986, Lancet 1:307), in the unit of the measurement."""
    entry = target.entry
    assert isinstance(entry, MeasurementEntry)
    true = np.array([case.seen.true for case in cases], np.float64)
    found = np.array([case.seen.found for case in cases], np.float64)
    unit = spelled(entry.unit.value)
    numbers = agreement(true, found)
    rows = _rows(numbers, unit, entry.digits + 1)
    tables = (facts(rows), by_groups(cases, f"bias ({unit})", lambda group: _bias(group, entry.digits + 1)))
    return Result(
        target=target, cases=len(cases), summary=_summary(numbers, unit, entry.digits + 1), numbers=numbers,
        tables=tables, charts=_charts(f"Bland-Altman: {target.name}", (true, found), numbers, unit),
    )  # fmt: skip


def judge_segments(target: Target, cases: Sequence[Case[Overlap]]) -> Result:
    """Dice coefficients, and how volumes agree (Bland and Altman), mL."""
    dice = np.array([case.seen.dice for case in cases], np.float64)
    true = np.array([case.seen.true_ml for case in cases], np.float64)
    found = np.array([case.seen.found_ml for case in cases], np.float64)
    numbers: dict[str, Any] = {
        "dice": bootstrap(lambda chosen: float(dice[chosen].mean()), len(dice)),
        "dice_median": float(np.median(dice)),
        "dice_least": float(dice.min()),
        "volume": agreement(true, found),
    }
    rows = [
        ("Dice coefficient, mean", said(numbers["dice"])),
        ("Dice coefficient, median", f"{numbers['dice_median']:.3f}"),
        ("Dice coefficient, least", f"{numbers['dice_least']:.3f}"),
        *((f"volume, {name}", text) for name, text in _rows(numbers["volume"], "mL", 2)),
    ]
    summary = f"Dice {said(numbers['dice'])}; volume: {_summary(numbers['volume'], 'mL', 2)}"
    tables = (facts(rows), by_groups(cases, "Dice, mean", _mean_dice))
    charts = _charts(f"Bland-Altman: volume of {target.name}", (true, found), numbers["volume"], "mL")
    return Result(target=target, cases=len(cases), summary=summary, numbers=numbers, tables=tables, charts=charts)


def _charts(title: str, values: tuple[Floats, Floats], numbers: dict[str, Any], unit: str) -> tuple[Chart, ...]:
    chart = difference_chart(title, *values, numbers, unit)
    return () if chart is None else (chart,)


def agreement(true: Floats, found: Floats) -> dict[str, Any]:
    """Bias (found minus true), the limits within which 95 % of the differences lie, and errors.

    Intervals are Student's, which few cases make wide; the limits are those of one more case (Bland and Altman 1999,
    Stat Methods Med Res 8:135).
    """
    differences = found - true
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else float("nan")
    varies = len(true) > 2 and true.std() > 0 and found.std() > 0
    relative = np.abs(differences[true != 0] / true[true != 0])
    bias, cases = float(differences.mean()), len(differences)
    reach = spread * (float(stdtrit(cases - 1, 0.975)) if cases > 1 else float("nan"))
    half, wide = reach / np.sqrt(cases), reach * np.sqrt(1 + 1 / cases)
    return {
        "bias": Interval(value=bias, low=bias - half, high=bias + half),
        "lower_limit": bias - wide,
        "upper_limit": bias + wide,
        "mean_absolute_error": float(np.abs(differences).mean()),
        "median_relative_error": float(np.median(relative)) if len(relative) else float("nan"),
        "correlation": float(np.corrcoef(true, found)[0, 1]) if varies else float("nan"),
    }


def _rows(numbers: dict[str, Any], unit: str, digits: int) -> list[tuple[str, str]]:
    bias: Interval = numbers["bias"]
    return [
        ("bias (found minus true)", said(bias, digits, unit)),
        ("limits of agreement (95 % of the differences)", _limits(numbers, unit, digits)),
        ("mean absolute error", f"{numbers['mean_absolute_error']:.{digits}f} {unit}"),
        ("median relative error", _part(numbers["median_relative_error"])),
        ("correlation", "-" if np.isnan(numbers["correlation"]) else f"{numbers['correlation']:.3f}"),
    ]


def _limits(numbers: dict[str, Any], unit: str, digits: int) -> str:
    if np.isnan(numbers["lower_limit"]):
        return "-"
    return f"{numbers['lower_limit']:.{digits}f} to {numbers['upper_limit']:.{digits}f} {unit}"


def _part(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1%}"


def _summary(numbers: dict[str, Any], unit: str, digits: int) -> str:
    return f"bias {said(numbers['bias'], digits, unit)}, limits of agreement {_limits(numbers, unit, digits)}"


def _bias(group: Sequence[Measured], digits: int) -> tuple[int, str]:
    return len(group), f"{np.mean([s.found - s.true for s in group]):+.{digits}f}"


def _mean_dice(group: Sequence[Overlap]) -> tuple[int, str]:
    return len(group), f"{np.mean([s.dice for s in group]):.3f}"
