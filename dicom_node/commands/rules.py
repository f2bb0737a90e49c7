"""``dicom-node rules``: write, rehearse, explain and take back the routing rules."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from dicom_node.commands import rule_asking, rule_changes, rule_control
from dicom_node.commands.opening import open_ledger
from dicom_node.commands.options import config_option
from dicom_node.commands.rule_completion import rule_names
from dicom_node.commands.rule_lines import print_rules
from dicom_node.commands.rule_set import draft_option, pick, waiting
from storage.facts.routing import rule_document

WEEK = 7 * 86400.0


@click.group()
def rules() -> None:
    """Which model sees which series, where its results go, and how that is changed.

    add, edit, enable, disable and remove change a draft. diff shows it, simulate rehearses it on recorded traffic,
    apply puts it in force as a new version, rollback takes that back.
    """


@rules.command("list", short_help="List the rules in force.")
@config_option
@draft_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_rules(path: Path, draft: bool, as_json: bool) -> None:
    """List the rules in force, in their order of evaluation; with --draft, as they shall become."""
    with open_ledger(path, create=True) as ledger, ledger.begin_reading() as tx:
        shown = pick(tx, draft)
        waits = waiting(tx)
    print_rules(shown, as_json)
    if waits and not draft and not as_json:
        click.secho(waits, fg="yellow")


@rules.command(short_help="Show one rule as it is written.")
@config_option
@draft_option
@click.argument("name", shell_complete=rule_names)
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
def show(path: Path, draft: bool, name: str, as_json: bool) -> None:
    """Show a rule as it is written, and how many series it matched in the last week."""
    from dicom_node.route.sheet import write_rule  # YAML is not loaded to list rules

    with open_ledger(path) as ledger, ledger.begin_reading() as tx:
        rule = pick(tx, draft).known(name)
        matched = tx.catalogue.matches(time.time() - WEEK).get(name, 0)
        registered = {p.package: p for p in tx.catalogue.packages()}
    if as_json:
        click.echo(json.dumps({**rule_document(rule), "position": rule.position, "matched_7d": matched}))
        return
    click.echo(write_rule(rule).rstrip())
    package = registered.get(rule.package.partition("@")[0])
    title = f"{package.title}, {package.version}" if package else "no worker has registered it"
    click.echo(f"# place {rule.position}; model: {title}; series matched in the last 7 days: {matched}")


for _command in (*rule_changes.COMMANDS, *rule_control.COMMANDS, *rule_asking.COMMANDS):
    rules.add_command(_command)
