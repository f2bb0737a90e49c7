"""What a validation says of one target: numbers for machines, tables and charts for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Generic, TypeVar

from inference.bringing.validation.targets import Target
from inference.monitor.rates import Interval
from inference.monitor.roc import Operating
from storage.facts.chart import Chart

GROUPS = ("Sex", "Age", "Manufacturer")
C = TypeVar("C")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under heads."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One target."""

    target: Target
    cases: int
    summary: str  #: one line
    numbers: Mapping[str, Any]
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "target": self.target.name,
            "task": self.target.task.value,
            "cases": self.cases,
            "summary": self.summary,
            "numbers": plain(self.numbers),
            "tables": [plain(table) for table in self.tables],
            "charts": [plain(chart) for chart in self.charts],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Case(Generic[C]):
    """What came out of one series."""

    groups: Mapping[str, str]
    seen: C


def plain(value: Any) -> Any:
    """As JSON takes it: numbers that are none become null, for neither JSON nor a database knows them."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | bool) or value is None:
        return value
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return round(float(value), 6) if math.isfinite(value) else None
    return int(value)


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values."""
    return Table(title="", heads=("", "value (95 % interval)"), rows=tuple(rows))


def at_point(point: Operating, truth: Iterable[bool]) -> dict[str, Any]:
    """A threshold and its rates; None for a rate of which there is no case."""
    kinds = set(map(bool, truth))
    return {
        "threshold": point.threshold,
        "sensitivity": point.sensitivity if True in kinds else None,
        "specificity": point.specificity if False in kinds else None,
    }


def said(interval: Interval | None, digits: int = 3, unit: str = "") -> str:
    """An interval for people; a dash where there is no number."""
    if interval is None or not math.isfinite(interval.value):
        return "-"
    text = interval.text(digits) if math.isfinite(interval.low) else f"{interval.value:.{digits}f} (interval not known)"
    return f"{text}{unit and f' {unit}'}"


def by_groups(cases: Sequence[Case[C]], head: str, tell: Callable[[Sequence[C]], tuple[int, str]]) -> Table:
    """A row a group; ``tell`` gives the number of what is counted and its text."""
    rows = []
    for kind in GROUPS:
        members: dict[str, list[C]] = {}
        for case in cases:
            members.setdefault(case.groups.get(kind, ""), []).append(case.seen)
        for name, seen in sorted(members.items()):
            number, text = tell(seen)
            rows.append((f"{kind}: {name}", str(number), text))
    return Table(title="Groups", heads=("group", "number", head), rows=tuple(rows))
