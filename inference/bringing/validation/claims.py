"""Holds what was found at an operating point beside what the package states of it: what a threshold is defended by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from inference.bringing.validation.result import Table, said
from inference.monitor.rates import Interval
from inference.packages.outputs import Estimate, Metrics

Found = tuple[str, Interval | None, Estimate | None]  #: name, here, as the package states it
_HEADS = ("", "here (95 % interval)", "stated by the package", "here, it is")


def beside(source: str, metrics: Metrics | None, found: Iterable[Found]) -> Iterator[Table]:
    """The reason of the operating point, and the numbers in pairs; nothing but the reason where none are stated."""
    yield Table(title="Why the operating point lies there, says the package", heads=("",), rows=((_line(source),),))
    if metrics is not None:
        rows = tuple(_row(*one) for one in found)
        yield Table(title=f"Stated on {metrics.cases} cases: {_line(metrics.data)}", heads=_HEADS, rows=rows)


def _row(name: str, here: Interval | None, stated: Estimate | None) -> tuple[str, str, str, str]:
    return name, said(here), "-" if stated is None else stated.text(), _verdict(here, stated)


def _verdict(here: Interval | None, stated: Estimate | None) -> str:
    """Whether the two can be the same: apart only where not even their intervals meet."""
    if here is None or stated is None:
        return "-"
    if here.high < stated.low:
        return "lower"
    if here.low > stated.high:
        return "higher"
    return "not shown to differ"


def _line(text: str) -> str:
    return " ".join(text.split())
