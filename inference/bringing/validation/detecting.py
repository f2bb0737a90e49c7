"""How well a package finds things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inference.bringing.validation.result import Case, Result, Table, at_point, by_groups, facts, said
from inference.bringing.validation.targets import Target
from inference.monitor.froc import (
    USUAL,
    Marked,
    at_threshold,
    false_positive_interval,
    froc,
    mean_sensitivity,
    sensitivity_interval,
)
from inference.monitor.rates import Interval, wilson
from inference.monitor.roc import auc_interval, operating
from inference.packages.outputs import DetectionEntry

_MM = "a hit lies with its middle within the radius of the lesion"


def judge(target: Target, cases: Sequence[Case[Marked]]) -> Result:
    """FROC, the operating point by lesion and by series, and groups."""
    entry = target.entry
    assert isinstance(entry, DetectionEntry)
    series = [case.seen for case in cases]
    best = [max((c.score for c in one.candidates), default=0.0) for one in series]
    ill = [one.lesions > 0 for one in series]
    lesions = sum(one.lesions for one in series)
    curve = froc(series)
    usual = [(rate, sensitivity_interval(series, rate)) for rate in USUAL]
    numbers: dict[str, Any] = {
        "lesions": lesions,
        "sensitivity": _sensitivity(series, entry.present_from),
        "false_positives": false_positive_interval(series, entry.present_from),
        "mean_sensitivity": mean_sensitivity(series),
        "froc": [{"false_positives": rate, "sensitivity": found} for rate, found in usual],
        "curve": [curve.false_positives[:200], curve.sensitivity[:200]],
        "by_series": at_point(operating(best, ill, entry.present_from), ill),
        "auc_by_series": auc_interval(best, ill),
    }
    rows = [
        (f"sensitivity by lesion, reported from {entry.present_from:g}", said(numbers["sensitivity"])),
        (f"false positives a series, reported from {entry.present_from:g}", said(numbers["false_positives"])),
        ("mean sensitivity over the usual rates", said(numbers["mean_sensitivity"])),
        ("sensitivity by series", said(numbers["by_series"]["sensitivity"])),
        ("specificity by series", said(numbers["by_series"]["specificity"])),
        ("area under the ROC curve, by series", said(numbers["auc_by_series"])),
    ]
    summary = (
        f"sensitivity {said(numbers['sensitivity'])} at {said(numbers['false_positives'])} false positives a series "
        f"({lesions} lesions in {len(cases)} series; {_MM})"
    )
    by_group = by_groups(cases, "sensitivity by lesion", lambda group: _hits(group, entry.present_from))
    tables = (facts(rows), _froc(usual), by_group)
    return Result(target=target, cases=len(cases), summary=summary, numbers=numbers, tables=tables)


def _sensitivity(series: Sequence[Marked], threshold: float) -> Interval | None:
    """None where there is no lesion."""
    lesions = sum(one.lesions for one in series)
    return wilson(round(at_threshold(series, threshold)[0] * lesions), lesions) if lesions else None


def _froc(usual: Sequence[tuple[float, Interval]]) -> Table:
    rows = tuple((f"{rate:g}", said(found)) for rate, found in usual)
    return Table(title="FROC", heads=("false positives a series", "sensitivity (95 % interval)"), rows=rows)


def _hits(group: Sequence[Marked], threshold: float) -> tuple[int, str]:
    return sum(one.lesions for one in group), said(_sensitivity(group, threshold), 2)
