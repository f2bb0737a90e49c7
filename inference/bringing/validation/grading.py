"""How well a package grades a series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inference.bringing.validation.claims import beside
from inference.bringing.validation.observing import Graded
from inference.bringing.validation.result import Case, Result, Table, by_groups, facts, said
from inference.bringing.validation.targets import Target
from inference.monitor.calibration import calibration_error
from inference.monitor.charts import confusion_chart
from inference.monitor.rates import wilson
from inference.monitor.roc import kappa_interval
from inference.packages.outputs import GradeEntry


def judge(target: Target, cases: Sequence[Case[Graded]]) -> Result:
    """Share that is graded, accuracy, agreement beyond chance of a scale, calibration, confusion, and groups."""
    entry = target.entry
    assert isinstance(entry, GradeEntry)
    seen = [case.seen for case in cases]
    answered = [(s.said, s.true) for s in seen if s.said is not None]
    right = sum(answer == true for answer, true in answered)
    likely = np.array([max(s.probabilities) for s in seen])
    best = np.array([int(np.argmax(s.probabilities)) == s.true for s in seen])
    numbers: dict[str, Any] = {
        "answered": wilson(len(answered), len(seen)),
        "accuracy": wilson(right, len(answered)),
        "calibration_error": calibration_error(likely, best),
        "confusion": _confusion(seen, len(entry.classes)),
    }
    rows = [
        ("series that are graded", said(numbers["answered"])),
        ("right, of those that are graded", said(numbers["accuracy"])),
        ("calibration error of the likeliest class", f"{numbers['calibration_error']:.3f}"),
    ]
    if entry.ordinal and answered:
        numbers["kappa"] = kappa_interval(
            [said for said, _ in answered], [true for _, true in answered], len(entry.classes)
        )
        rows.append(("agreement (kappa, squared weights)", said(numbers["kappa"])))
    summary = f"right in {said(numbers['accuracy'])} of {len(answered)} graded series, of {len(seen)}"
    claims = beside(entry.source, entry.metrics, [("right", numbers["accuracy"], entry.metrics.accuracy)])
    tables = (facts(rows), *claims, _table(entry, numbers["confusion"]), by_groups(cases, "right", _right))
    shown = confusion_chart(f"What was said: {target.name}", _names(entry), numbers["confusion"])
    charts = () if shown is None else (shown,)
    return Result(target=target, cases=len(cases), summary=summary, numbers=numbers, tables=tables, charts=charts)


def _confusion(seen: Sequence[Graded], classes: int) -> list[list[int]]:
    """A row a true class; columns: what was said, last: nothing."""
    table = np.zeros((classes, classes + 1), int)
    for s in seen:
        table[s.true, classes if s.said is None else s.said] += 1
    found: list[list[int]] = table.tolist()
    return found


def _table(entry: GradeEntry, confusion: Sequence[Sequence[int]]) -> Table:
    names = _names(entry)
    rows = tuple((name, *map(str, counts)) for name, counts in zip(names, confusion, strict=True))
    return Table(title="What was said", heads=("truth", *(f"said {name}" for name in names), "nothing"), rows=rows)


def _names(entry: GradeEntry) -> list[str]:
    return [code.meaning for code in entry.classes]


def _right(group: Sequence[Graded]) -> tuple[int, str]:
    answered = [s for s in group if s.said is not None]
    if not answered:
        return len(group), "-"
    return len(group), said(wilson(sum(s.said == s.true for s in answered), len(answered)), 2)
