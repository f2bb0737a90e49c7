"""The commands that change rules: in the draft, or at once with --apply."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from dicom_node.commands.opening import open_ledger
from dicom_node.commands.options import config_option
from dicom_node.commands.rule_choice import choice_of, choice_options, without_choice
from dicom_node.commands.rule_completion import destination_names, keywords, model_names, rule_names
from dicom_node.commands.rule_set import apply_options, change, proposed
from storage.facts.errors import Misconfigured, Rejected
from storage.facts.routing import SETTLE, WAIT, Late, Match, Rule, RuleSet
from storage.facts.study import Urgency

URGENCIES = click.Choice([u.name for u in Urgency], case_sensitive=False)
LATE = click.Choice([late.value for late in Late], case_sensitive=False)

_WISHES: tuple[Callable[[Any], Any], ...] = (
    click.option("--modality", multiple=True, metavar="CS", help="Modality, e.g. CT; several: any of them."),
    click.option("--body-part", multiple=True, metavar="CS", help="BodyPartExamined, e.g. CHEST."),
    click.option("--sequence", multiple=True, metavar="NAME", help="MR sequence: T1, T2, FLAIR, DWI …"),
    click.option("--kernel", multiple=True, type=click.Choice(["soft", "standard", "sharp"]), help="CT kernel class."),
    click.option(
        "--orientation", type=click.Choice(["AXIAL", "CORONAL", "SAGITTAL", "OBLIQUE"], case_sensitive=False),
        help="Plane of the slices.",
    ),
    click.option("--contrast", type=click.Choice(["yes", "no"]), help="Contrast agent, where the header states it."),
    click.option("--max-thickness", type=float, metavar="MM", help="Thickest slice, mm."),
    click.option("--max-spacing", type=float, metavar="MM", help="Widest distance of slices, mm."),
    click.option("--min-coverage", type=float, metavar="MM", help="Least extent along the slices, mm."),
    click.option("--min-images", type=int, metavar="N", help="Fewest images."),
    click.option("--min-age", type=float, metavar="YEARS", help="Youngest patient, years."),
    click.option("--description", metavar="TEXT", help="Part of the SeriesDescription, in whatever case."),
    click.option("--from", "sender", multiple=True, metavar="AE", help="Calling AE title."),
)  # fmt: skip


def _friendly(command: Any) -> Any:
    for option in reversed(_WISHES):
        command = option(command)
    return command


@click.command(short_help="Add a rule.")
@config_option
@click.argument("name")
@click.option("--when", "expression", shell_complete=keywords, help="Condition, e.g. 'SliceThickness <= 2.5'.")
@_friendly
@click.option(
    "--model", "package", required=True, shell_complete=model_names, help="Identifier, or identifier@version."
)
@click.option("--to", "destinations", multiple=True, shell_complete=destination_names, help="Destination; may repeat.")
@click.option("--urgency", type=URGENCIES, default="ROUTINE", show_default=True, help="Least urgency of the run.")
@click.option("--late", type=LATE, default="rerun", show_default=True, help="What to do when more of the series comes.")
@click.option("--shadow", is_flag=True, help="Run and record, deliver and raise nothing.")
@choice_options
@click.option("--position", type=click.IntRange(min=1), help="Place in the order; default last.")
@click.option("--disabled", is_flag=True, help="Add it switched off.")
@apply_options
def add(path: Path, name: str, expression: str | None, at_once: bool, reason: str, **given: Any) -> None:
    """Add a rule, from a condition, from plain options, or both, and show what it says.

    \b
    dicom-node rules add chest --modality CT --body-part CHEST --max-thickness 1.5 --model lung --to pacs
    """
    from dicom_node.commands.rule_checks import checked, wished  # the language is not loaded to list rules
    from dicom_node.route.sheet import write_rule

    with open_ledger(path, create=True) as ledger:
        before = proposed(ledger)
        if before.find(name) is not None:
            raise Rejected(f"there is a rule {name!r} already: `dicom-node rules edit {name}` changes it")
        rule = Rule(
            name=name,
            expression=wished(expression, given),
            package=given["package"],
            destinations=tuple(dict.fromkeys(given["destinations"])),
            urgency=Urgency[given["urgency"].upper()],
            enabled=not given["disabled"],
            shadow=given["shadow"],
            late=Late(given["late"]),
            position=given["position"] or 0,
            **choice_of(given),
        )
        rule = checked(ledger, path, rule)
        click.echo(write_rule(rule))
        change(ledger, before, before.put(rule), f"rule {name!r} is added", at_once, reason)


@click.command(short_help="Change a rule, or the whole set, by options or in your editor.")
@config_option
@click.argument("name", required=False, shell_complete=rule_names)
@click.option("--when", "expression", shell_complete=keywords, help="New condition.")
@click.option("--model", "package", shell_complete=model_names, help="New model package.")
@click.option("--to", "destinations", multiple=True, shell_complete=destination_names, help="New destinations.")
@click.option("--urgency", type=URGENCIES, help="New least urgency.")
@click.option("--late", type=LATE, help="What to do when more of the series comes.")
@click.option("--shadow/--no-shadow", default=None, help="Run and record, deliver and raise nothing.")
@choice_options
@click.option("--every", is_flag=True, help="Take every series that matches again, not one of a study.")
@click.option("--position", type=click.IntRange(min=1), help="New place in the order.")
@apply_options
def edit(path: Path, name: str | None, at_once: bool, reason: str, **given: Any) -> None:
    """Change a rule by options, or without any in your editor ($EDITOR); without NAME, the whole set."""
    from dicom_node.commands import rule_checks  # the language is not loaded to list rules

    changes = _changes(without_choice(given)) | choice_of(given)
    if name is None and changes:
        raise Misconfigured("which rule? `dicom-node rules edit NAME --when …`")
    with open_ledger(path) as ledger:
        before = proposed(ledger)
        after: RuleSet | None
        if name is None:
            after = rule_checks.edited_set(ledger, path, before)
        elif changes:
            rule = dataclasses.replace(before.known(name), **changes)
            after = before.put(rule_checks.checked(ledger, path, rule))
        else:
            after = rule_checks.edited_rule(ledger, path, before, name)
        if after is None:
            click.echo("nothing changed")
            return
        what = "the rules are changed" if name is None else f"rule {name!r} is changed"
        change(ledger, before, after, what, at_once, reason)


def _changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as fields of a rule."""
    changes = {key: value for key, value in given.items() if value not in (None, ()) and key != "every"}
    changes |= {"prefer": (), "inputs": (), "wait": WAIT, "settle": SETTLE} if given.get("every") else {}
    readers: dict[str, Callable[[Any], Any]] = {
        "destinations": lambda names: tuple(dict.fromkeys(names)),
        "urgency": lambda name: Urgency[name.upper()],
        "late": Late,
    }
    return {key: readers.get(key, lambda same: same)(value) for key, value in changes.items()}


@click.command()
@config_option
@click.argument("name", shell_complete=rule_names)
@apply_options
def enable(path: Path, name: str, at_once: bool, reason: str) -> None:
    """Switch a rule on."""
    _switch(path, name, True, at_once, reason)


@click.command()
@config_option
@click.argument("name", shell_complete=rule_names)
@apply_options
def disable(path: Path, name: str, at_once: bool, reason: str) -> None:
    """Switch a rule off; it stays listed and is still explained."""
    _switch(path, name, False, at_once, reason)


def _switch(path: Path, name: str, on: bool, at_once: bool, reason: str) -> None:
    with open_ledger(path) as ledger:
        before = proposed(ledger)
        after = before.put(dataclasses.replace(before.known(name), enabled=on))
        change(ledger, before, after, f"rule {name!r} is {'on' if on else 'off'}", at_once, reason)


@click.command()
@config_option
@click.argument("name", shell_complete=rule_names)
@apply_options
def remove(path: Path, name: str, at_once: bool, reason: str) -> None:
    """Remove a rule; the history keeps what it was."""
    with open_ledger(path) as ledger:
        before = proposed(ledger)
        change(ledger, before, before.remove(name), f"rule {name!r} is removed", at_once, reason)


@click.command(short_help="First match or all; approval by a second person.")
@config_option
@click.option("--match", type=click.Choice([m.value for m in Match]), help="all rules that match route, or the first.")
@click.option("--approval/--no-approval", default=None, help="Whether a change needs a second person.")
@apply_options
def settings(path: Path, match: str | None, approval: bool | None, at_once: bool, reason: str) -> None:
    """Show or change what holds for the whole set: first match or all, and whether changes need a second person."""
    with open_ledger(path, create=True) as ledger:
        before = proposed(ledger)
        if match is None and approval is None:
            click.echo(
                f"match: {before.match.value}\napproval: {'a second person' if before.approval else 'not needed'}"
            )
            return
        after = dataclasses.replace(
            before,
            match=before.match if match is None else Match(match),
            approval=before.approval if approval is None else approval,
        )
        change(ledger, before, after, "the settings of the rules are changed", at_once, reason)


COMMANDS = (add, edit, enable, disable, remove, settings)
