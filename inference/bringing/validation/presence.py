"""How well a package says whether a condition is present, at its operating points and beyond."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.bringing.validation.claims import beside
from inference.bringing.validation.observing import Called
from inference.bringing.validation.result import Case, Result, Table, at_point, by_groups, facts, said
from inference.bringing.validation.targets import Target
from inference.explain.uncertainty import risk_coverage
from inference.monitor.calibration import brier, calibration_error, reliability
from inference.monitor.charts import reliability_chart, roc_chart
from inference.monitor.fitting import fit_isotonic
from inference.monitor.rates import wilson
from inference.monitor.roc import auc_interval, operating, roc, youden
from inference.packages.manifest import FindingEntry
from inference.packages.outputs import ConditionEntry
from storage.facts.chart import Chart
from storage.facts.prediction import Presence

FOLDS = 5  #: a recalibration is fitted on four parts and measured on the fifth
FEWEST = 50  #: cases, of which a recalibration says something
SHARES = (1.0, 0.9, 0.8, 0.7, 0.5)  #: of the cases that are answered, those of least uncertainty
POINTS = 200  #: of a curve that are kept

Floats = npt.NDArray[np.float64]


def judge(target: Target, cases: Sequence[Case[Called]]) -> Result:
    """Discrimination, operating points, calibration, doubt, and groups."""
    entry = target.entry
    assert isinstance(entry, ConditionEntry | FindingEntry)
    seen = [case.seen for case in cases]
    scores, truth = np.array([s.score for s in seen], np.float64), np.array([s.true for s in seen])
    point = at_point(operating(scores, truth, entry.present_from), truth)
    excluding = at_point(operating(scores, truth, entry.absent_below), truth)
    numbers: dict[str, Any] = {
        "positive": int(truth.sum()),
        "negative": int((~truth).sum()),
        "auc": auc_interval(scores, truth),
        "present_from": point,
        "absent_below": excluding,
        "confusion": _confusion(seen),
        "youden": youden(scores, truth),
        "roc": _curve(scores, truth),
    }
    tables = [facts(_facts(numbers, point, excluding)), *_claims(entry, point), _said(numbers["confusion"])]
    if isinstance(entry, ConditionEntry):
        numbers["calibration"] = _calibration(scores, truth)
        tables.append(_reliability(numbers["calibration"]))
        numbers["risk"] = _risk(seen, scores, truth, entry.present_from)
        tables.append(_risks(numbers["risk"]))
    tables.append(by_groups(cases, "sensitivity; specificity", lambda group: _rates(group, entry.present_from)))
    summary = (
        f"AUC {said(numbers['auc'])}, sensitivity {said(point['sensitivity'])} and specificity "
        f"{said(point['specificity'])} from {entry.present_from:g} on ({numbers['positive']} of {len(cases)} series "
        "have it)"
    )
    charts = tuple(_charts(target.name, entry, scores, truth, numbers))
    return Result(
        target=target, cases=len(cases), summary=summary, numbers=numbers, tables=tuple(tables), charts=charts
    )


def _charts(
    name: str, entry: ConditionEntry | FindingEntry, scores: Floats, truth: npt.NDArray[np.bool_],
    numbers: dict[str, Any],
) -> Iterator[Chart]:  # fmt: skip
    thresholds = {f"present from {entry.present_from:g}": entry.present_from}
    if entry.absent_below != entry.present_from:
        thresholds[f"absent below {entry.absent_below:g}"] = entry.absent_below
    if (curve := roc_chart(f"ROC: {name}", scores, truth, numbers["auc"], thresholds)) is not None:
        yield curve
    if (found := numbers.get("calibration")) is not None:
        chart = reliability_chart(f"Calibration: {name}", found["bins"], found["error"], "series")
        if chart is not None:
            yield chart


def _facts(numbers: dict[str, Any], point: dict[str, Any], excluding: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "area under the ROC curve", said(numbers["auc"])
    yield f"sensitivity, present from {point['threshold']:g}", said(point["sensitivity"])
    yield f"specificity, present from {point['threshold']:g}", said(point["specificity"])
    if excluding["threshold"] != point["threshold"]:
        yield f"sensitivity, not absent from {excluding['threshold']:g}", said(excluding["sensitivity"])
        yield f"specificity, absent below {excluding['threshold']:g}", said(excluding["specificity"])
    yield (
        "threshold of the largest sum of both on these cases (Youden), to be measured on others",
        (f"{numbers['youden']:.4g}" if numbers["positive"] and numbers["negative"] else "-"),
    )


def _claims(entry: ConditionEntry | FindingEntry, point: dict[str, Any]) -> Iterator[Table]:
    found = [(name, point[name], getattr(entry.metrics, name, None)) for name in ("sensitivity", "specificity")]
    return beside(entry.source, entry.metrics, found)


def _confusion(seen: Sequence[Called]) -> dict[str, dict[str, int]]:
    return {
        name: {presence.value: sum(s.true is true and s.said is presence for s in seen) for presence in Presence}
        for name, true in (("present", True), ("absent", False))
    }


def _said(confusion: dict[str, dict[str, int]]) -> Table:
    heads = ("truth", *(f"said {presence.value}" for presence in Presence))
    rows = tuple((name, *map(str, counts.values())) for name, counts in confusion.items())
    return Table(title="What was said", heads=heads, rows=rows)


def _curve(scores: Floats, truth: npt.NDArray[np.bool_]) -> list[list[float]]:
    """False and true positive rate."""
    false, rate, _ = roc(scores, truth)
    kept = np.unique(np.linspace(0, len(false) - 1, min(POINTS, len(false))).round().astype(int))
    return [[float(false[k]), float(rate[k])] for k in kept]


def _calibration(scores: Floats, truth: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "error": calibration_error(scores, truth),
        "brier": brier(scores, truth),
        "recalibrated_error": _recalibrated(scores, truth),
        "bins": reliability(scores, truth),
    }


def _recalibrated(scores: Floats, truth: npt.NDArray[np.bool_]) -> float | None:
    """Calibration error, were probabilities mapped by a rising curve of this site; of cases that had no part in it."""
    if len(scores) < FEWEST or truth.all() or not truth.any():
        return None
    part = np.random.default_rng(1).permutation(len(scores)) % FOLDS
    mapped = np.empty_like(scores)
    for fold in range(FOLDS):
        mapped[part == fold] = fit_isotonic(scores[part != fold], truth[part != fold]).apply(scores[part == fold])
    return calibration_error(mapped, truth)


def _reliability(found: dict[str, Any]) -> Table:
    rows = [(f"{b.low:.1f} to {b.high:.1f}", str(b.cases), f"{b.said:.3f}", f"{b.seen:.3f}") for b in found["bins"]]
    words = f"Calibration error {found['error']:.3f}, Brier score {found['brier']:.3f}"
    if found["recalibrated_error"] is not None:
        words += f"; recalibrated on this site's cases (isotonic, {FOLDS} parts) {found['recalibrated_error']:.3f}"
    return Table(title=words, heads=("probability", "series", "mean said", "share true"), rows=tuple(rows))


def _risk(
    seen: Sequence[Called], scores: Floats, truth: npt.NDArray[np.bool_], threshold: float
) -> list[dict[str, float]]:
    doubts = [1.0 if s.uncertainty is None else s.uncertainty for s in seen]
    answered, wrong = risk_coverage(doubts, (scores >= threshold) != truth)
    places = [max(0, int(np.ceil(share * len(seen) - 1e-9)) - 1) for share in SHARES]
    return [{"answered": float(answered[k]), "wrong": float(wrong[k])} for k in places]


def _risks(found: Sequence[dict[str, float]]) -> Table:
    rows = tuple((f"{one['answered']:.0%}", f"{one['wrong']:.3f}") for one in found)
    return Table(title="If the least certain were not answered", heads=("answered", "wrong among them"), rows=rows)


def _rates(group: Sequence[Called], threshold: float) -> tuple[int, str]:
    hits = sum(s.true and s.score >= threshold for s in group)
    right = sum(not s.true and s.score < threshold for s in group)
    ill = sum(s.true for s in group)
    rates = (wilson(hits, ill) if ill else None, wilson(right, len(group) - ill) if len(group) > ill else None)
    return len(group), "; ".join("-" if rate is None else said(rate, 2) for rate in rates)
