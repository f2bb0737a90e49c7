"""What a card says of the trials of a version: how it did on local cases, and what it takes here."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dicom_node.commands.card_parts import Card, Section, Table
from dicom_node.commands.printing import moment, size
from storage.facts.chart import Chart
from storage.facts.figures import figure, percent
from storage.facts.release import KeptTrial, PackageVersion, Trial
from storage.facts.wire import from_json

Found = Mapping[str, Any]  #: a report, as the worker made it
_SHOWN = 3  #: validations that a card lists, the newest


def validation_card(version: PackageVersion, found: Found) -> Card:
    """The report of a validation."""
    sections = [Section(title="Cases", paragraphs=tuple(_cases(found)), tables=tuple(_refused(found)))]
    if charts := _charts(found):
        sections.append(Section(title="All structures", charts=charts))
    sections += [_result(result) for result in found["results"]]
    about = f"validation · report {found['digest'][:12]}"
    return _card(version, found, about, sections, kind="validation report")


def _card(version: PackageVersion, found: Found, about: str, sections: Sequence[Section], *, kind: str) -> Card:
    """A report on a version: what it is, and when and where it was measured."""
    made = datetime.datetime.fromisoformat(found["made"]).timestamp()
    return Card(
        title=version.title,
        subtitle=f"{version.reference} · {about}",
        is_research=bool(version.manifest.get("research", True)),
        standing=f"measured {moment(made)} on {found['device']}",
        sections=tuple(sections),
        kind=kind,
    )


def _charts(found: Found) -> tuple[Chart, ...]:
    """Those of a report or of one of its results; reports that were kept before there were charts have none."""
    return tuple(from_json(Chart, one) for one in found.get("charts", ()))


def _cases(found: Found) -> Iterator[str]:
    yield (
        f"{found['series']} series were analysed, {found['not_analysed']} were not; {found['passed_over']} others in "
        "the folder have no truth and were passed over."
    )
    yield (
        "Every series went through the code of production, with the calibration and the operating points of the "
        f"package{_variant(found)}. Series that were not analysed are in no number below."
    )
    for one in found["excluded"]:
        yield f"Study {one['study']} is left out: {one['why']}."
    yield f"Truth table SHA-256 {found['truth']}; report SHA-256 {found['digest']}."


def _variant(found: Found) -> str:
    return f" ({', '.join(found['variant'])})" if found["variant"] else ""


def _refused(found: Found) -> Iterator[Table]:
    rows = tuple((one["why"], str(one["series"])) for one in found["refusals"])
    if rows:
        yield Table(heads=("not analysed", "series"), rows=rows)
    yield _table(found["groups"])


def _result(result: Found) -> Section:
    return Section(
        title=f"{result['target']}: {result['task']}",
        paragraphs=(f"{result['cases']} series: {result['summary']}.", *_unsaid(result)),
        charts=_charts(result),
        tables=tuple(_table(table) for table in result["tables"] if table["rows"]),
    )


def _unsaid(result: Found) -> Iterator[str]:
    if result["unsaid"]:
        yield f"In {result['unsaid']} more series, which were analysed, the package said nothing of it."


def _table(table: Found) -> Table:
    return Table(title=table["title"], heads=tuple(table["heads"]), rows=tuple(tuple(row) for row in table["rows"]))


def validation_sections(trials: Sequence[KeptTrial]) -> Iterator[Section]:
    """The newest validations of a version, in short."""
    kept = [trial for trial in trials if trial.trial is Trial.VALIDATED]
    rows = tuple(
        (moment(t.at), t.author, str(t.document["series"]), str(t.document["not_analysed"]), t.document["digest"][:12])
        for t in kept[:_SHOWN]
    )
    if not rows:
        yield Section(title="Validation here", paragraphs=("It was not validated on cases of this installation.",))
        return
    heads = ("When", "Who", "Series", "Not analysed", "Report")
    newest = kept[0].document
    told = tuple(f"{one['target']}: {one['summary']}." for one in newest["results"])
    charts = (*_charts(newest), *(chart for one in newest["results"] for chart in _charts(one)))
    yield Section(title="Validation here", paragraphs=told, charts=charts, tables=(Table(heads=heads, rows=rows),))


def benchmark_card(version: PackageVersion, found: Found) -> Card:
    """What a benchmark found."""
    sections = (_cost(found), Section(title="Steps", tables=(_steps(found),)))
    return _card(version, found, "benchmark", sections, kind="benchmark")


def benchmark_section(trials: Sequence[KeptTrial]) -> Section:
    """The newest benchmark of a version on each kind of device."""
    newest: dict[str, KeptTrial] = {}
    for trial in trials:
        if trial.trial is Trial.BENCHMARKED:
            newest.setdefault(trial.document["kind"], trial)
    rows = tuple(
        (kind, moment(t.at), _seconds(t.document["seconds"], 2), size(t.document["peak"]), _ratio(t.document))
        for kind, t in newest.items()
    )
    heads = ("Device", "When", "Run (median)", "Memory", "To its bare forward pass")
    return Section(title="Cost here", tables=(Table(heads=heads, rows=rows),) if rows else ())


def _cost(found: Found) -> Section:
    shape = " x ".join(map(str, found["shape"]))
    text = f"{found['rounds']} runs after a first one, on {found['source']} ({shape} voxels){_variant(found)}."
    rows = (
        (
            "run, median",
            f"{_seconds(found['seconds'])} ({figure(min(found['runs']), 3)} to {figure(max(found['runs']), 3)})",
        ),
        ("first run, model loaded", _seconds(found["first"])),
        ("memory, most", size(found["peak"])),
        ("bare forward pass", "-" if found["forward"] is None else _seconds(found["forward"])),
        ("to the bare forward pass", _ratio(found)),
    )
    return Section(title="Cost", paragraphs=(text,), tables=(Table(heads=("What", "Found"), rows=rows),))


def _seconds(value: float, decimals: int = 3) -> str:
    return f"{figure(value, decimals)} s"


def _ratio(found: Found) -> str:
    return "-" if found["ratio"] is None else f"{figure(found['ratio'], 2)} times"


def _steps(found: Found) -> Table:
    rows = tuple((one["step"], _seconds(one["seconds"]), f"{percent(one['share'])}%") for one in found["steps"])
    return Table(heads=("Step", "Median", "Share"), rows=rows)
