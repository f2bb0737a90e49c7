"""Faults of how a rule chooses within a study: orders that decide nothing, inputs that the model does not take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dicom_node.route.demand import demands
from dicom_node.route.language import RuleError, compile_rule
from dicom_node.route.preference import compile_preference
from dicom_node.route.texts import closest
from storage.facts.routing import Origin, RegisteredPackage, Role, Rule, span_text

#: Whether it is an error, and what is wrong.
Found = tuple[bool, str]


def faults_of_choice(rule: Rule, packages: Sequence[RegisteredPackage]) -> Iterator[Found]:
    """What is wrong with a rule's preferences, inputs and patience."""
    yield from _of_orders(rule.prefer, "")
    for role in rule.inputs:
        yield from _of_role(rule, role)
    if rule.chooses and rule.wait < rule.settle:
        yield False, f"it waits {span_text(rule.wait)} at most, but settles only after {span_text(rule.settle)}"
    yield from _of_package(rule, packages)


def _of_orders(lines: Sequence[str], place: str) -> Iterator[Found]:
    seen: dict[str, int] = {}
    for at, line in enumerate(lines, 1):
        try:
            compiled = compile_preference(line)
        except RuleError as error:
            yield True, f"{place}prefer, line {at} does not compile: {error.fault}"
            continue
        subject = compiled.text.partition(" ")[2] if compiled.ordered else compiled.text
        if subject in seen:
            yield False, f"{place}prefer, line {at} decides nothing: line {seen[subject]} has decided it"
        seen.setdefault(subject, at)


def _of_role(rule: Rule, role: Role) -> Iterator[Found]:
    place = f"input {role.name}: "
    yield from _of_orders(role.prefer, place)
    try:
        demanded = demands(compile_rule(role.expression))
    except RuleError as error:
        yield True, f"{place}it does not compile: {error.fault}"
        return
    if demanded.problem:
        yield True, f"{place}no series can ever be it: {demanded.problem}"
    if role.origin is Origin.STUDY and role.expression == rule.expression:
        yield False, f"{place}its condition is that of the rule itself: it gets the second best series"


def _of_package(rule: Rule, packages: Sequence[RegisteredPackage]) -> Iterator[Found]:
    """The rule's inputs beside those that the model's manifest lists, in the version that the rule would run."""
    package, _, version = rule.package.strip().partition("@")
    known = [p for p in packages if p.package == package and (p.version == version if version else p.stable)]
    if not known:
        return  # said elsewhere
    wanted = {str(each["role"]): each for each in _inputs(known[-1].manifest)}
    given = [role.name for role in rule.inputs]
    for name in given:
        if name not in wanted:
            close = closest(name, wanted)
            hint = f"did you mean {close}?" if close else f"it takes {', '.join(wanted) or 'one series alone'}"
            yield True, f"{package} takes no input {name!r}: {hint}"
    for name, each in wanted.items():
        if name in given:
            continue
        if each.get("missing") == "impute":
            yield False, f"{package} takes an input {name!r}, which the rule does not name: it is always imputed"
        else:
            yield True, f"{package} needs an input {name!r}, which the rule does not name: every run is refused"


def _inputs(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = manifest.get("inputs") or []
    return [each for each in found if isinstance(each, Mapping) and "role" in each] if isinstance(found, list) else []
