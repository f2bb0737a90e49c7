"""What must hold before a rule is kept: it compiles, its model can be asked for, its destinations exist."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from dicom_node.commands.opening import read_config
from dicom_node.route.friendly import Wish, condition
from dicom_node.route.language import RuleError, compile_rule
from dicom_node.route.preference import MAX_PREFERENCES, compile_preference
from dicom_node.route.rules import split_reference
from dicom_node.route.sheet import read_rule, read_set, write_rule, write_set
from dicom_node.route.sheet_choice import ROLE_NAME
from dicom_node.route.texts import closest
from storage.facts.errors import Misconfigured, Rejected
from storage.facts.routing import SETTLE, WAIT, Rule, RuleSet
from storage.ledger import Ledger

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def wished(expression: str | None, given: Mapping[str, Any]) -> str:
    """The condition that a command line asks for, by --when, by plain options or by both."""
    wish = Wish(**{field.name: given[field.name] for field in dataclasses.fields(Wish)})
    if expression is None:
        return condition(wish)
    if wish == Wish():
        return expression
    compile_rule(expression)  # its faults are shown where they were written, not in the combination
    end = "\n)" if "//" in expression else ")"  # a remark goes on to the end of its line
    return f"({expression.strip()}{end}\n&& {condition(wish)}"


def checked(ledger: Ledger, path: Path, rule: Rule) -> Rule:
    """The rule as it can be kept. What is only odd is said on standard error.

    Raises Misconfigured for a condition that does not compile, a malformed name or model, an unknown destination.
    """
    if not _NAME.fullmatch(rule.name):
        raise Misconfigured(f"{rule.name!r} is no name for a rule: use letters, digits, '-', '_' and '.', at most 64")
    tidy = _tidy(rule.expression)
    compile_rule(tidy)
    choice = _checked_choice(rule)
    package, _ = split_reference(rule.package)
    known = read_config(path).destinations
    for name in rule.destinations:
        if name not in known:
            close = closest(name, known)
            raise Misconfigured(
                f"no destination is named {name!r} in {path}; known: {', '.join(known) or 'none'}."
                + (f" Did you mean {close}?" if close else " Add it there first, under [destinations.NAME]")
            )
    _remark(ledger, rule, package)
    return dataclasses.replace(rule, expression=tidy, package=rule.package.strip(), **choice)


def _tidy(expression: str) -> str:
    return "\n".join(line.rstrip() for line in expression.strip().splitlines()).expandtabs(2)


def _checked_choice(rule: Rule) -> dict[str, Any]:
    """Preferences and inputs as they are kept: named orders are spelled out. Raises Misconfigured, naming the part."""
    if (rule.wait, rule.settle) != (WAIT, SETTLE) and not rule.chooses:
        raise Misconfigured("wait and settle mean something only where a rule has prefer or inputs")
    names = [role.name for role in rule.inputs]
    for name in names:
        if not ROLE_NAME.fullmatch(name) or names.count(name) > 1:
            raise Misconfigured(f"{name!r} cannot name one role: use small letters, digits and '_', each name once")
    inputs = []
    for role in rule.inputs:
        when = _tidy(role.expression)
        _compiled(compile_rule, when, f"input {role.name}")
        prefer = _checked_orders(role.prefer, f"input {role.name}, prefer")
        inputs.append(dataclasses.replace(role, expression=when, prefer=prefer))
    return {"prefer": _checked_orders(rule.prefer, "prefer"), "inputs": tuple(inputs)}


def _checked_orders(lines: tuple[str, ...], place: str) -> tuple[str, ...]:
    if len(lines) > MAX_PREFERENCES:
        raise Misconfigured(f"{place}: {len(lines)} lines are too many; {MAX_PREFERENCES} at most")
    return tuple(_compiled(compile_preference, line, f"{place}, line {at}").text for at, line in enumerate(lines, 1))


def _compiled(compiler: Callable[[str], T], text: str, place: str) -> T:
    try:
        return compiler(text)
    except RuleError as error:
        raise Misconfigured(f"{place}: {error}") from error


def _remark(ledger: Ledger, rule: Rule, package: str) -> None:
    with ledger.begin_reading() as tx:
        registered = {p.package: p.version for p in tx.catalogue.packages()}
    if package not in registered:
        close = closest(package, registered)
        hint = f": did you mean {close}?" if close else f" (registered: {', '.join(registered) or 'none'})"
        _note(f"no worker has registered the package {rule.package} yet{hint}")
    if not rule.destinations and not rule.shadow:
        _note("the rule has no destination; results stay in the node")


def _note(text: str) -> None:
    click.secho(f"note: {text}", fg="yellow", err=True)


def checked_set(ledger: Ledger, path: Path, rules: RuleSet) -> RuleSet:
    """Every rule as it can be kept. Raises Misconfigured for the first that cannot, by its name."""
    found = []
    for rule in rules.rules:
        try:
            found.append(checked(ledger, path, rule))
        except Misconfigured as error:
            raise Misconfigured(f"rule {rule.name!r}: {error}") from error
    return rules.of(found)


def imported(ledger: Ledger, path: Path, text: str, source: str) -> RuleSet:
    """The set that a sheet describes, checked. Raises Misconfigured."""
    return checked_set(ledger, path, read_set(text, source))


def edited_rule(ledger: Ledger, path: Path, before: RuleSet, name: str) -> RuleSet | None:
    """The set after one of its rules went through the editor; None when nothing changed."""
    rule = before.known(name)

    def read(text: str) -> RuleSet:
        new = checked(ledger, path, read_rule(text, "what you wrote"))
        if new.name != name and before.find(new.name) is not None:
            raise Rejected(f"there is a rule {new.name!r} already")
        return before.of([new if each is rule else each for each in before.rules])

    return _edited(write_rule(rule), read)


def edited_set(ledger: Ledger, path: Path, before: RuleSet) -> RuleSet | None:
    """The set after it went through the editor; None when nothing changed."""
    return _edited(write_set(before), lambda text: imported(ledger, path, text, "what you wrote"))


def _edited(text: str, read: Callable[[str], T]) -> T | None:
    """Open the editor until what is written can be read, or the writer gives up. Raises what reading it raised."""
    before = text
    while True:
        written = click.edit(text, extension=".yaml")
        if written is None or written.strip() == before.strip():
            return None
        try:
            return read(written)
        except (Misconfigured, Rejected, RuleError) as error:
            if not sys.stdin.isatty():
                raise
            click.secho(str(error), fg="red", err=True)
            if not click.confirm("Edit again? Otherwise your change is lost.", default=True, err=True):
                return None
            text = written
