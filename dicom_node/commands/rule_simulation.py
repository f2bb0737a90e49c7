"""What ``rules simulate`` does: recorded traffic against the proposed rules, and a page that says what would change."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from dicom_node.commands.opening import open_ledger, read_config
from dicom_node.commands.printing import moment, table
from dicom_node.commands.rule_checks import imported
from dicom_node.commands.rule_control import read_sheet
from dicom_node.route.facts import SeriesFacts
from dicom_node.route.kept import derivation, derive_again, facts_from, plain
from dicom_node.route.provenance import NodeIdentity
from dicom_node.route.rehearsal import Change, Rehearsal, rehearse
from dicom_node.wiring import identity_of
from storage.facts.errors import Rejected
from storage.facts.routing import RecordedSeries, RuleSet
from storage.facts.wire import to_json
from storage.ledger import Ledger

_KEPT_AT_ONCE = 200  #: series whose facts are written in one transaction


def simulate(path: Path, since: float, file: Path | None, as_json: bool) -> None:
    """Print what the draft or a sheet would change. Raises Rejected when there is nothing to rehearse."""
    node = identity_of(read_config(path))
    with open_ledger(path) as ledger:
        live, proposed, names = _sets(ledger, path, file)
        begin = time.time() - since
        renewed = _renew(ledger, begin, node)
        with ledger.begin_reading() as tx:
            total = tx.catalogue.recorded_count(begin)
            experience = tx.catalogue.experience()
            with click.progressbar(
                tx.catalogue.recorded(begin), length=total, label="rehearsing", file=sys.stderr, hidden=total < 5000
            ) as traffic:
                found = rehearse(_asked(traffic), live, proposed, experience)
    if as_json:
        click.echo(json.dumps(to_json(found) | {"changes_nothing": found.changes_nothing}))
        return
    _tell(found, names)
    if renewed:
        click.echo(f"the facts of {renewed} series were derived anew, as this version of the node derives them")


def _sets(ledger: Ledger, path: Path, file: Path | None) -> tuple[RuleSet, RuleSet, tuple[str, str]]:
    with ledger.begin_reading() as tx:
        live, draft = tx.catalogue.live(), tx.catalogue.draft()
    names = f"version {live.number}, in force"
    if file is not None:
        return live.rules, imported(ledger, path, read_sheet(file), str(file)), (names, str(file))
    if draft is None:
        raise Rejected(
            "there is no draft to rehearse: change a rule first (`dicom-node rules edit`), or give a sheet with --rules"
        )
    return live.rules, draft.rules, (names, "the draft")


def _asked(traffic: Iterator[RecordedSeries]) -> Iterator[tuple[RecordedSeries, SeriesFacts]]:
    for recorded in traffic:
        yield recorded, facts_from(recorded)


def _renew(ledger: Ledger, begin: float, node: NodeIdentity) -> int:
    """Derive the facts of series that have none of this derivation and whose slices are still known."""
    wanted = derivation(node)
    with ledger.begin_reading() as tx:
        old = tx.catalogue.without_facts(begin, wanted)
    with click.progressbar(old, label="deriving", file=sys.stderr, hidden=len(old) < 500) as shown:
        return sum(_renew_some(ledger, batch, node) for batch in _batches(shown))


def _batches(uids: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for uid in uids:
        batch.append(uid)
        if len(batch) == _KEPT_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _renew_some(ledger: Ledger, uids: list[str], node: NodeIdentity) -> int:
    found: list[tuple[str, int, SeriesFacts]] = []
    with ledger.begin_reading() as tx:
        for uid in uids:
            series, instances = tx.studies.series(uid), tx.studies.instances(uid)
            if series is not None and instances:
                found.append((uid, series.revision, derive_again(series, instances, node)))
    with ledger.begin("rehearsal") as tx:
        for uid, revision, facts in found:
            tx.catalogue.keep_facts(uid, revision, derivation(node), plain(facts))
    return len(found)


def _tell(found: Rehearsal, names: tuple[str, str]) -> None:
    click.echo(
        f"{found.series} series of {found.studies} studies in {found.days:.1f} days, rehearsed in "
        f"{found.seconds:.1f} s: {names[1]} against {names[0]}"
    )
    if not found.series:
        click.echo("nothing was recorded in this time: a longer --since, or `dicom-node rules test FILE`")
        return
    if found.changes_nothing:
        click.echo("every series goes where it went")
    _changes("RULE", found.rules)
    _changes("MODEL", found.models)
    _choices(found)
    _costs(found)


def _changes(head: str, changes: Mapping[str, Change]) -> None:
    rows = [
        [name, str(c.before), str(c.after), f"+{c.gained}" if c.gained else "", f"-{c.lost}" if c.lost else ""]
        for name, c in changes.items()
    ]
    if rows:
        click.echo()
        table([head, "SERIES NOW", "THEN", "GAINED", "LOST"], rows)
    for name, change in changes.items() if head == "RULE" else ():
        for sign, colour, examples in (
            ("+", "green", change.gained_examples),
            ("-", "red", change.lost_examples),
        ):
            for example in examples:
                click.secho(f"  {sign} {name}: {example.series_uid} ({example.about})", fg=colour)


def _choices(found: Rehearsal) -> None:
    for name, tried in found.choices.items():
        click.echo(
            f"rule {name}, once all of a study is there: one series of each of {tried.studies} studies, out of "
            f"{tried.candidates} candidates"
        )
        for role, studies in tried.missing.items():
            click.echo(f"  for {studies} of them no recorded series is {role}: see the package for what follows")


def _costs(found: Rehearsal) -> None:
    days = max(found.days, 1 / 24)
    click.echo()
    if found.loads:
        rows = [
            [
                model, _rate(load.minutes_before, days), _rate(load.minutes_after, days),
                _rate(load.alerts_before, days), _rate(load.alerts_after, days),
            ]
            for model, load in found.loads.items()
        ]  # fmt: skip
        table(["MODEL", "MINUTES A DAY NOW", "THEN", "ALERTS A DAY NOW", "THEN"], rows)
        if any("?" in row for row in rows):
            click.echo("?: this node has not run the model yet, so that there is nothing to reckon with")
    click.echo(f"no model sees {found.unmatched_before} series now, {found.unmatched_after} then")
    if found.peak is not None:
        added = found.peak.after - found.peak.before
        click.echo(
            f"busiest hour: {found.busiest_before} studies now, {found.busiest_after} then; most are added at "
            f"{moment(found.peak.at)[:16]}: {added:+d} (from {found.peak.before} to {found.peak.after})"
        )


def _rate(total: float | None, days: float) -> str:
    return "?" if total is None else f"{total / days:.1f}"
