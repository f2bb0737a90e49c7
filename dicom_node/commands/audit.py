"""``dicom-node audit``: show or verify the trail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from dicom_node.commands.opening import open_ledger
from dicom_node.commands.options import config_option
from dicom_node.commands.printing import moment
from storage import views

OUTCOMES = {0: "ok", 4: "minor", 8: "serious", 12: "major"}  # PS3.15 A.5, EventOutcomeIndicator


@click.group()
def audit() -> None:
    """Show or verify the audit trail."""


@audit.command()
@config_option
@click.argument("study", required=False)
@click.option("--limit", default=200, show_default=True, help="At most so many rows, the latest.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def show(path: Path, study: str | None, limit: int, as_json: bool) -> None:
    """Who did what, when, with which outcome: of one STUDY, or of everything."""
    with open_ledger(path) as ledger, ledger.read() as session:
        rows = views.trail(session, study=study, limit=limit)
    if not rows:
        click.echo("no rows" if study is None else f"no rows of study {study}")
        sys.exit(0 if study is None else 1)
    for row in rows:
        if as_json:
            plain = {name: getattr(row, name) for name in type(row).__dataclass_fields__}
            click.echo(json.dumps(plain, sort_keys=True))
            continue
        details = ", ".join(f"{k}={_short(v)}" for k, v in row.details.items() if v not in (None, "", [], {}))
        outcome = OUTCOMES.get(row.outcome, str(row.outcome))
        click.echo(f"{row.seq:>6}  {moment(row.at)}  {row.actor:<10.18}  {outcome:<7}  {row.action:<20}  {details}")


def _short(value: object) -> str:
    if isinstance(value, dict):
        return f"{len(value)} entries" if len(value) > 2 else json.dumps(value)
    if isinstance(value, list) and len(value) > 3:
        return f"{len(value)} entries"
    return str(value) if not isinstance(value, list) else "/".join(str(item) for item in value)


@audit.command()
@config_option
def verify(path: Path) -> None:
    """Re-compute the whole chain: finds any row that was altered, removed, reordered or cut off, and says which."""
    with open_ledger(path) as ledger:
        verdict = ledger.verify()
    for fault in verdict.faults:
        click.secho(fault, fg="red", err=True)
    if verdict.faults:
        click.secho(f"the trail of {verdict.rows} rows was ALTERED: {len(verdict.faults)} fault(s)", fg="red", err=True)
        sys.exit(1)
    click.echo(f"the trail of {verdict.rows} rows is intact; its last digest is {verdict.head}")
