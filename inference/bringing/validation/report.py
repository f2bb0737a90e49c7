"""A validation: the package on all series of a truth table, and what that shows, as plain data."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from inference.bringing.validation import detecting, grading, measuring, presence
from inference.bringing.validation.folder import Series, series_in
from inference.bringing.validation.observing import Observed, Overlap, observe
from inference.bringing.validation.result import Case, Result, Table, by_groups, plain
from inference.bringing.validation.targets import Target, Task, targets_of
from inference.bringing.validation.truth import Known, Truth, read_truth
from inference.monitor.charts import overlap_chart
from inference.packages.package import Package
from inference.runtime import Runtime
from storage.facts.chart import Chart
from storage.facts.errors import Rejected
from storage.facts.prediction import Status

Say = Callable[[str], None]
_JUDGES: dict[Task, Callable[[Target, Any], Result]] = {
    Task.PRESENCE: presence.judge,
    Task.GRADE: grading.judge,
    Task.MEASUREMENT: measuring.judge_numbers,
    Task.SEGMENT: measuring.judge_segments,
    Task.DETECTION: detecting.judge,
}
_SEVERAL = "the package takes several series of the study: name the series in the truth table"


def validate(package: Package, folder: Path, table: Path, runtime: Runtime, say: Say) -> dict[str, Any]:
    """The report. Raises Rejected when table or folder cannot be used, Misconfigured when the package is wrong."""
    manifest = package.manifest
    if manifest.inputs:
        raise Rejected(f"{manifest.id} needs further series beside each one, which a truth table cannot name")
    targets = targets_of(manifest)
    truth = read_truth(table, targets)
    there = series_in(folder)
    asked = _asked(truth, there, table)
    observed, excluded = _settled(truth, list(_observed(asked, package, runtime, say)))
    if not any(one.seen for one in observed):
        raise Rejected("\n  ".join(["none of the series was analysed:", *(f"{n} x {w}" for w, n in _why(observed))]))
    document = {
        "package": manifest.id,
        "version": manifest.version,
        "package_digest": package.digest,
        "truth": truth.digest,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": next((one.device for one in observed if one.device), runtime.device),
        "variant": list(runtime.variant),
        "series": sum(one.reason is None for one in observed),
        "not_analysed": sum(one.reason is not None for one in observed),
        "excluded": excluded,
        "passed_over": len(there) - len(asked),
        "seconds": round(sum(one.seconds for one in observed), 3),
        "results": list(results_of(targets, observed)),
        "refusals": [{"why": why, "series": number} for why, number in _why(observed)],
        "groups": _as_data(_counted(observed)),
        "charts": [plain(chart) for chart in _overlaps(targets, observed)],
    }
    return {"digest": digest_of(document), **document}


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256 of a report without its digest: keys in order, no spaces."""
    bare = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(json.dumps(bare, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _asked(truth: Truth, there: Mapping[str, Series], table: Path) -> list[tuple[Series, tuple[Known, ...]]]:
    """The series to be run, each with what is known of it."""
    studies: dict[str, list[Series]] = {}
    for series in there.values():
        studies.setdefault(series.study_uid, []).append(series)
    faults = [
        f"line {known[0].line}: series {uid} is not there" for uid, known in truth.series.items() if uid not in there
    ]
    faults += [
        f"line {known[0].line}: study {uid} is not there" for uid, known in truth.studies.items() if uid not in studies
    ]
    if faults:
        raise Rejected("\n  ".join([f"{table} speaks of what the folder does not hold:", *faults[:20]]))
    found = {uid: list(known) for uid, known in truth.series.items()}
    for study, known in truth.studies.items():
        for series in studies[study]:
            found.setdefault(series.series_uid, []).extend(known)
    return [(there[uid], tuple(known)) for uid, known in sorted(found.items())]


def _observed(
    asked: Sequence[tuple[Series, tuple[Known, ...]]], package: Package, runtime: Runtime, say: Say
) -> Iterator[Observed]:
    for number, (series, known) in enumerate(asked, 1):
        one = observe(series, known, package, runtime)
        why = "" if one.reason is None else f": {one.reason.text}"
        say(f"{number}/{len(asked)}  series {series.series_uid}  {one.status.value}{why}")
        yield one


def _settled(truth: Truth, observed: Sequence[Observed]) -> tuple[list[Observed], list[dict[str, Any]]]:
    """What is known of a study is true of the one series that the package takes; several of them decide nothing."""
    kept: list[Observed] = []
    excluded: list[dict[str, Any]] = []
    of_study: dict[str, list[Observed]] = {}
    for one in observed:
        is_asked_by_study = one.series.study_uid in truth.studies and one.series.series_uid not in truth.series
        (of_study.setdefault(one.series.study_uid, []) if is_asked_by_study else kept).append(one)
    for study, found in of_study.items():
        taken = [one for one in found if one.status is not Status.NOT_ATTEMPTED]
        if len(taken) > 1:
            excluded.append({"study": study, "series": len(taken), "why": _SEVERAL})
        else:
            kept += taken or found[:1]
    return kept, excluded


def results_of(targets: Sequence[Target], observed: Sequence[Observed]) -> Iterator[dict[str, Any]]:
    """One a target that something is known of; ``unsaid``: series that were analysed, where it was not spoken of."""
    for target in targets:
        cases = [
            Case(groups=one.series.groups, seen=one.seen[target.name]) for one in observed if target.name in one.seen
        ]
        asked = sum(one.reason is None and any(k.target == target for k in one.known) for one in observed)
        if cases:
            yield {**_JUDGES[target.task](target, cases).to_data(), "unsaid": asked - len(cases)}


def _overlaps(targets: Sequence[Target], observed: Sequence[Observed]) -> Iterator[Chart]:
    """All structures beside each other."""
    rows = {
        target.name: [seen.dice for one in observed if isinstance(seen := one.seen.get(target.name), Overlap)]
        for target in targets
        if target.task is Task.SEGMENT
    }
    chart = overlap_chart("Dice coefficients by structure", rows)
    if chart is not None:
        yield chart


def _why(observed: Sequence[Observed]) -> list[tuple[str, int]]:
    """Why series were not analysed, most frequent first."""
    reasons = [(one.status, one.reason) for one in observed if one.reason is not None]
    return Counter(
        f"{status.value}, {reason.code.meaning} ({reason.code.value}, {reason.code.scheme})"
        for status, reason in reasons
    ).most_common()


def _counted(observed: Sequence[Observed]) -> Table:
    cases = [Case(groups=one.series.groups, seen=one) for one in observed]
    return by_groups(cases, "analysed", lambda group: (len(group), str(sum(bool(one.seen) for one in group))))


def _as_data(table: Table) -> dict[str, Any]:
    return {"title": table.title, "heads": list(table.heads), "rows": [list(row) for row in table.rows]}
