"""How well a package finds things."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from inference.bringing.validation.claims import beside
from inference.bringing.validation.result import Case, Result, Table, at_point, by_groups, facts, said
from inference.bringing.validation.targets import Target
from inference.monitor.calibration import calibration_error, reliability
from inference.monitor.charts import froc_chart, reliability_chart, roc_chart
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
from inference.monitor.roc import auc_interval, operating, youden
from inference.packages.outputs import DetectionEntry
from storage.facts.chart import Chart

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
    numbers["calibration"] = _calibration(series)
    numbers["youden_by_series"] = youden(best, ill) if len(set(ill)) == 2 else None
    summary = (
        f"sensitivity {said(numbers['sensitivity'])} at {said(numbers['false_positives'])} false positives a series "
        f"({lesions} lesions in {len(cases)} series; {_MM})"
    )
    by_group = by_groups(cases, "sensitivity by lesion", lambda group: _hits(group, entry.present_from))
    tables = (facts(_facts(entry, numbers)), *_claims(entry, numbers), _froc(usual), _reliability(numbers), by_group)
    shown = froc_chart(f"FROC: {target.name}", series, usual, (_point(entry), entry.present_from))
    by_series = roc_chart(
        f"ROC by series: {target.name}", best, ill, numbers["auc_by_series"], {_point(entry): entry.present_from}
    )
    charts = tuple(chart for chart in (shown, by_series, _diagram(target.name, numbers)) if chart is not None)
    return Result(target=target, cases=len(cases), summary=summary, numbers=numbers, tables=tables, charts=charts)


def _point(entry: DetectionEntry) -> str:
    return f"reported from {entry.present_from:g}"


def _diagram(name: str, numbers: dict[str, Any]) -> Chart | None:
    found = numbers["calibration"]
    if found is None:
        return None
    title = f"Calibration: {name}"
    return reliability_chart(title, found["bins"], found["error"], "candidates, reported or not")


def _facts(entry: DetectionEntry, numbers: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield f"sensitivity by lesion, reported from {entry.present_from:g}", said(numbers["sensitivity"])
    yield f"false positives a series, reported from {entry.present_from:g}", said(numbers["false_positives"])
    yield "mean sensitivity over the usual rates", said(numbers["mean_sensitivity"])
    yield "sensitivity by series", said(numbers["by_series"]["sensitivity"])
    yield "specificity by series", said(numbers["by_series"]["specificity"])
    yield "area under the ROC curve, by series", said(numbers["auc_by_series"])
    best = numbers["youden_by_series"]
    yield (
        "threshold of the largest sum of sensitivity and specificity by series on these cases (Youden), to be measured "
        "on others",
        "-" if best is None else f"{best:.4g}",
    )


def _claims(entry: DetectionEntry, numbers: dict[str, Any]) -> Iterator[Table]:
    metrics = entry.metrics
    found = (
        ("sensitivity by lesion", numbers["sensitivity"], metrics.sensitivity),
        ("specificity by series", numbers["by_series"]["specificity"], metrics.specificity),
        ("false positives a series", numbers["false_positives"], metrics.false_positives),
    )
    return beside(entry.source, metrics, found)


def _calibration(series: Sequence[Marked]) -> dict[str, Any] | None:
    """Whether the probability of a candidate is the share of such candidates that hit; None without candidates."""
    marks = [candidate for one in series for candidate in one.candidates]
    if not marks:
        return None
    scores, hits = [mark.score for mark in marks], [mark.lesion is not None for mark in marks]
    return {
        "candidates": len(marks),
        "error": calibration_error(scores, hits),
        "bins": reliability(scores, hits),
    }


def _reliability(numbers: dict[str, Any]) -> Table:
    found = numbers["calibration"]
    if found is None:
        return Table(title="Calibration", heads=(), rows=())
    rows = tuple(
        (f"{b.low:.1f} to {b.high:.1f}", str(b.cases), f"{b.said:.3f}", f"{b.seen:.3f}") for b in found["bins"]
    )
    title = f"Calibration error {found['error']:.3f}, of {found['candidates']} candidates reported or not"
    return Table(title=title, heads=("probability", "candidates", "mean said", "share true"), rows=rows)


def _sensitivity(series: Sequence[Marked], threshold: float) -> Interval | None:
    """None where there is no lesion."""
    lesions = sum(one.lesions for one in series)
    return wilson(round(at_threshold(series, threshold)[0] * lesions), lesions) if lesions else None


def _froc(usual: Sequence[tuple[float, Interval]]) -> Table:
    rows = tuple((f"{rate:g}", said(found)) for rate, found in usual)
    return Table(title="FROC", heads=("false positives a series", "sensitivity (95 % interval)"), rows=rows)


def _hits(group: Sequence[Marked], threshold: float) -> tuple[int, str]:
    return sum(one.lesions for one in group), said(_sensitivity(group, threshold), 2)
