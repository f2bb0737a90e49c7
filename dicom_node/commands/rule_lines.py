"""How a set of rules is listed. Light: it is what administrators ask for most."""

from __future__ import annotations

import json

import click

from dicom_node.commands.printing import table
from storage.facts.routing import Match, Rule, RuleSet, rule_document

HEADS = ("#", "NAME", "", "MODEL", "TO", "URGENCY", "WHEN")


def print_rules(shown: RuleSet, as_json: bool) -> None:
    """Print the rules in their order of evaluation."""
    if as_json:
        for rule in shown.rules:
            click.echo(json.dumps({"position": rule.position, **rule_document(rule)}))
        return
    if not shown.rules:
        click.echo("no rules: no series reaches a model. `dicom-node rules add --help` says how to write one")
        return
    table(HEADS, [line_of(rule) for rule in shown.rules])
    if shown.match is Match.FIRST:
        click.echo("the first rule that matches routes the series; shadow rules do not count")


def line_of(rule: Rule) -> list[str]:
    """A rule as a row of the list."""
    state = "off" if not rule.enabled else "shadow" if rule.shadow else "on"
    return [
        str(rule.position), rule.name, state, rule.package, ",".join(rule.destinations) or "-", rule.urgency.name,
        " ".join(rule.expression.split()) + _choice(rule),
    ]  # fmt: skip


def _choice(rule: Rule) -> str:
    """How it takes one series of a study, and with which others; empty where it takes every one."""
    order = f"; one of a study: {', '.join(rule.prefer) or 'most images'}" if rule.chooses else ""
    return order + (f"; with {', '.join(role.name for role in rule.inputs)}" if rule.inputs else "")
