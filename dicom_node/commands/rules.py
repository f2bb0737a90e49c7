"""``dicom-node rules``: show, edit and try the routing rules."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import click

from dicom_node.commands.opening import config_option, open_ledger, operator, read_config
from dicom_node.commands.printing import table
from storage.facts.errors import Misconfigured, Rejected
from storage.facts.routing import Rule
from storage.facts.study import Urgency
from storage.ledger import Ledger

URGENCIES = click.Choice([u.name for u in Urgency], case_sensitive=False)


@click.group()
def rules() -> None:
    """Show, edit and try the routing rules: which model sees which series, where its results go."""


@rules.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_rules(path: Path, as_json: bool) -> None:
    """List the rules in their order of evaluation."""
    with open_ledger(path, create=True) as ledger, ledger.begin_reading() as tx:
        found = tx.catalogue.rules()
    if as_json:
        for rule in found:
            click.echo(json.dumps(dataclasses.asdict(rule) | {"urgency": rule.urgency.name}))
        return
    if not found:
        click.echo("no rules: no series reaches a model. `dicom-node rules add --help` says how to write one")
        return
    rows = [
        [
            str(rule.position), rule.name, "on" if rule.enabled else "off", rule.package,
            ",".join(rule.destinations) or "-", rule.urgency.name, " ".join(rule.expression.split()),
        ]
        for rule in found
    ]  # fmt: skip
    table(["#", "NAME", "", "MODEL", "TO", "URGENCY", "WHEN"], rows)


@rules.command()
@config_option
@click.argument("name")
@click.option(
    "--when", "expression", required=True, help="Condition, e.g. 'Modality == \"CT\" && SliceThickness <= 2.5'."
)
@click.option("--model", "package", required=True, help="Model package: identifier, or identifier@version.")
@click.option("--to", "destinations", multiple=True, help="Destination of the results; may be given more than once.")
@click.option("--urgency", type=URGENCIES, default="ROUTINE", show_default=True, help="Least urgency of the run.")
@click.option("--position", type=int, default=0, help="Place in the order; default last.")
@click.option("--disabled", is_flag=True, help="Add it switched off.")
def add(path: Path, name: str, position: int, disabled: bool, **given: Any) -> None:
    """Add a rule. `dicom-node rules test` tries it on a stored series first."""
    with open_ledger(path, create=True) as ledger:
        if _find(ledger, name) is not None:
            raise Rejected(f"there is a rule {name!r} already: `dicom-node rules edit {name}` changes it")
        rule = Rule(
            name=name,
            expression=given["expression"],
            package=given["package"],
            destinations=tuple(given["destinations"]),
            urgency=Urgency[given["urgency"].upper()],
            enabled=not disabled,
            position=position,
        )
        _put(ledger, path, rule)
    click.echo(f"rule {name!r} is added" + (" (disabled)" if disabled else ""))


@rules.command()
@config_option
@click.argument("name")
@click.option("--when", "expression", help="New condition.")
@click.option("--model", "package", help="New model package.")
@click.option("--to", "destinations", multiple=True, help="New destinations, replacing the old ones.")
@click.option("--urgency", type=URGENCIES, help="New least urgency.")
@click.option("--position", type=int, help="New place in the order.")
def edit(path: Path, name: str, **given: Any) -> None:
    """Change a rule: by options, or without any in your editor."""
    changes = {key: value for key, value in given.items() if value not in (None, ())}
    with open_ledger(path) as ledger:
        rule = _known(ledger, name)
        if not changes:
            written = click.edit(rule.expression, extension=".rule")
            if written is None or written.strip() == rule.expression.strip():
                click.echo("nothing changed")
                return
            changes = {"expression": written.strip()}
        if "urgency" in changes:
            changes["urgency"] = Urgency[changes["urgency"].upper()]
        _put(ledger, path, dataclasses.replace(rule, **changes))
    click.echo(f"rule {name!r} is changed")


@rules.command()
@config_option
@click.argument("name")
def enable(path: Path, name: str) -> None:
    """Switch a rule on."""
    with open_ledger(path) as ledger:
        _put(ledger, path, dataclasses.replace(_known(ledger, name), enabled=True))
    click.echo(f"rule {name!r} is on")


@rules.command()
@config_option
@click.argument("name")
def disable(path: Path, name: str) -> None:
    """Switch a rule off; it stays listed and is still explained."""
    with open_ledger(path) as ledger, ledger.begin(operator()) as tx:
        rule = next((r for r in tx.catalogue.rules() if r.name == name), None)
        if rule is None:
            raise Rejected(f"there is no rule {name!r}: see `dicom-node rules list`")
        tx.catalogue.put_rule(dataclasses.replace(rule, enabled=False))
    click.echo(f"rule {name!r} is off")


@rules.command()
@config_option
@click.argument("name")
def remove(path: Path, name: str) -> None:
    """Remove a rule; the audit trail keeps what it was."""
    with open_ledger(path) as ledger, ledger.begin(operator()) as tx:
        tx.catalogue.remove_rule(name)
    click.echo(f"rule {name!r} is removed")


@rules.command()
@config_option
@click.argument("series_uid", metavar="SERIES")
@click.option("--rule", "name", help="Only this rule.")
@click.option("--when", "expression", help="Try this condition instead of the stored rules.")
def test(path: Path, series_uid: str, name: str | None, expression: str | None) -> None:
    """Say what each rule makes of a stored SERIES, and why. Nothing is run. Exit code 1 when no rule matches."""
    from dicom_node.route.router import routing_rule, series_facts  # the language is not loaded to list rules
    from dicom_node.route.rules import RoutingRule, evaluate
    from dicom_node.wiring import identity_of, read_series

    config = read_config(path)
    with open_ledger(path) as ledger:
        series, instances = read_series(ledger, series_uid)
        if expression is not None:
            tried = [RoutingRule(name="(tried)", when=expression, package="-")]
        else:
            tried = [routing_rule(r) for r in _rules(ledger) if name in (None, r.name)]
    decisions = evaluate(tried, series_facts(series, instances, identity_of(config)))
    for decision in decisions:
        mark = click.style("match   ", fg="green") if decision.matched else click.style("no match", fg="yellow")
        click.echo(f"{mark}  {decision.rule.name} -> {decision.rule.package}: {decision.why}")
        for clause in decision.clauses:
            click.echo(f"            {clause.verdict.name:<8} {clause.text}    [{clause.actual}]")
    if not decisions:
        click.echo("no rules to test" if name is None else f"there is no rule {name!r}")
    sys.exit(0 if any(d.matched for d in decisions) else 1)


def _rules(ledger: Ledger) -> list[Rule]:
    with ledger.begin_reading() as tx:
        return tx.catalogue.rules()


def _find(ledger: Ledger, name: str) -> Rule | None:
    return next((rule for rule in _rules(ledger) if rule.name == name), None)


def _known(ledger: Ledger, name: str) -> Rule:
    rule = _find(ledger, name)
    if rule is None:
        raise Rejected(f"there is no rule {name!r}: see `dicom-node rules list`")
    return rule


def _put(ledger: Ledger, path: Path, rule: Rule) -> None:
    """Store a rule that compiles and whose destinations exist. Raises Misconfigured for one that does not."""
    from dicom_node.route.language import compile_rule  # parsing is not needed to list rules
    from dicom_node.route.rules import split_reference

    compile_rule(rule.expression)
    split_reference(rule.package)
    known = read_config(path).destinations
    unknown = [name for name in rule.destinations if name not in known]
    if unknown:
        raise Misconfigured(
            f"no destination is named {unknown[0]!r} in {path}; known: {', '.join(known) or 'none'}. "
            "Add it there first, under [destinations.NAME]"
        )
    with ledger.begin(operator()) as tx:
        tx.catalogue.put_rule(rule)
    with ledger.begin_reading() as tx:
        registered = {p.package for p in tx.catalogue.packages()}
    if split_reference(rule.package)[0] not in registered:
        click.secho(f"note: no worker has registered the package {rule.package} yet", fg="yellow", err=True)
    if not rule.destinations:
        click.secho("note: the rule has no destination; results stay in the node", fg="yellow", err=True)
