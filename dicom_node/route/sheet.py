"""A rule set as a YAML sheet that people read, edit, review and keep under version control."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from dicom_node.route import sheet_choice
from storage.facts.errors import Misconfigured
from storage.facts.routing import Late, Match, Rule, RuleSet, rule_document, rule_of, set_document
from storage.facts.study import Urgency

MAX_SHEET = 1_000_000  #: characters

_HEAD = """\
# Routing rules, in their order of evaluation. `dicom-node rules import FILE` makes a sheet the draft.
#   match     all: every rule that matches routes; first: the first one alone
#   approval  true: a change needs a second person
#   to        destinations of the configuration; none: results stay in the node
#   urgency   ROUTINE, HIGH or STAT: the least urgency of the run
#   shadow    true: run and record, deliver and raise nothing
#   late      rerun: run again when more of the series comes; ignore: the first result stands
# A rule with prefer or inputs takes one series of each study:
#   prefer    what makes one better than another, the most important first: a condition, or least/greatest NUMBER,
#             earliest/latest DATE
#   inputs    further series for the model: role, when, prefer, from (study; prior: an earlier study of the patient)
#   wait      how long it waits at most for better series and for inputs
#   settle    after how long without a new object nothing more is expected
"""

_RULE_KEYS = (
    "name", "when", "model", "to", "urgency", "enabled", "shadow", "late", "prefer", "inputs", "wait", "settle",
)  # fmt: skip
_SET_KEYS = ("match", "approval", "rules")
_CHOICES: dict[str, tuple[str, ...]] = {
    "urgency": tuple(u.name for u in Urgency),
    "late": tuple(late.value for late in Late),
    "match": tuple(match.value for match in Match),
}
_TRUTHS = ("enabled", "shadow", "approval")
_TEXTS = ("name", "when", "model")


def write_set(rules: RuleSet) -> str:
    """The whole set as a sheet."""
    document = set_document(rules)
    document["rules"] = [_dressed(each) for each in document["rules"]]
    return _HEAD + _dump(document)


def write_rule(rule: Rule) -> str:
    """One rule as a sheet."""
    return _dump(_dressed(rule_document(rule)))


def read_set(text: str, source: str) -> RuleSet:
    """The set that a sheet describes. Raises Misconfigured with every fault of its form at once.

    Conditions are not compiled here.
    """
    document = _loaded(text, source)
    faults = [*sheet_choice.unknown(document, _SET_KEYS, ""), *_wrong_values(document, "")]
    given = document.get("rules", [])
    if not isinstance(given, list):
        given, faults = [], [*faults, "rules is a list: each rule begins with '- name:'"]
    for at, each in enumerate(given, 1):
        faults += _faults_of_rule(each, f"rule {at}")
    names = [each["name"] for each in given if isinstance(each, Mapping) and "name" in each]
    faults += [f"two rules are named {name!r}" for name in dict.fromkeys(names) if names.count(name) > 1]
    _refuse(faults, source)
    empty = RuleSet(match=Match(document.get("match", "all")), approval=document.get("approval", False))
    return empty.of([rule_of(_listed(each)) for each in given])


def read_rule(text: str, source: str) -> Rule:
    """The rule that a sheet describes. Raises Misconfigured with every fault of its form at once."""
    document = _loaded(text, source)
    _refuse(list(_faults_of_rule(document, "the rule")), source)
    return rule_of(_listed(document))


class _Block(str):
    """A condition: written as a block, so that it needs no escapes."""


class _Inline(list[str]):
    """Destinations: written on one line."""


class _Dumper(yaml.SafeDumper):
    """Writes blocks and inline lists."""


_Dumper.add_representer(_Block, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|"))
_Dumper.add_representer(
    _Inline, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


def _dressed(document: dict[str, Any]) -> dict[str, Any]:
    inputs = [role | {"when": _block(role["when"])} for role in document.get("inputs", ())]
    dressed = document | {"when": _block(document["when"]), "to": _Inline(document["to"])}
    return dressed | ({"inputs": inputs} if inputs else {})


def _block(condition: str) -> _Block:
    return _Block("\n".join(line.rstrip() for line in condition.strip().expandtabs(2).splitlines()))


def _dump(document: Mapping[str, Any]) -> str:
    text: str = yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def _listed(document: Mapping[str, Any]) -> dict[str, Any]:
    """With ``to: pacs`` as ``to: [pacs]``, and the condition without the line end of its block."""
    to = document.get("to") or []
    listed = dict(document) | {"to": [to] if isinstance(to, str) else to, "when": document["when"].strip()}
    listed |= sheet_choice.listed(document)
    return listed | ({"urgency": listed["urgency"].upper()} if "urgency" in listed else {})


def _loaded(text: str, source: str) -> Mapping[str, Any]:
    if len(text) > MAX_SHEET:
        raise Misconfigured(f"{source} is longer than {MAX_SHEET} characters: that is no sheet of rules")
    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise Misconfigured(f"{source}{where}: this is no YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise Misconfigured(f"{source}: this is no YAML: it holds characters that no text has") from error
    if not isinstance(document, Mapping):
        raise Misconfigured(f"{source}: a sheet begins with 'rules:' or 'name:'; this is something else")
    return document


def _refuse(faults: Sequence[str], source: str) -> None:
    if faults:
        raise Misconfigured("\n  ".join([f"{source}:", *faults]))


def _faults_of_rule(document: Any, place: str) -> Iterator[str]:
    if not isinstance(document, Mapping):
        yield f"{place} is no rule: it has no name, when and model"
        return
    name = document.get("name")
    place = f"rule {name!r}" if isinstance(name, str) else place
    yield from sheet_choice.unknown(document, _RULE_KEYS, f"{place}: ")
    yield from (f"{place}: {key} is missing" for key in _TEXTS if key not in document)
    yield from _wrong_values(document, f"{place}: ")
    to = document.get("to") or []
    if not isinstance(to, str) and not (isinstance(to, list) and all(isinstance(each, str) for each in to)):
        yield f"{place}: to is a list of destination names, such as [pacs]"
    yield from (f"{place}: {fault}" for fault in sheet_choice.faults(document))


def _wrong_values(document: Mapping[str, Any], place: str) -> Iterator[str]:
    for key in _TEXTS:
        value = document.get(key, "-")
        if not isinstance(value, str) or not value.strip():
            yield f"{place}{key} is a text; put it in quotes"
    for key in _TRUTHS:
        if not isinstance(document.get(key, True), bool):
            yield f"{place}{key} is true or false"
    for key, choices in _CHOICES.items():
        value = document.get(key, choices[0])
        folded = value.upper() if isinstance(value, str) and key == "urgency" else value
        if folded not in choices:
            yield f"{place}{key} is one of {', '.join(choices)}, not {value!r}"


def difference(before: RuleSet, after: RuleSet, names: tuple[str, str]) -> list[str]:
    """What differs between two sets, in the manner of a unified diff, rule by rule; nothing when nothing does."""
    lines: list[str] = []
    for key in ("match", "approval"):
        one, two = (set_document(rules)[key] for rules in (before, after))
        lines += [f"-{key}: {one}", f"+{key}: {two}"] if one != two else []
    known = [rule.name for rule in after.rules]
    for name in [*known, *(rule.name for rule in before.rules if rule.name not in known)]:
        one, two = (_lines(rules.find(name)) for rules in (before, after))
        if one != two:
            what = "changed" if one and two else "added" if two else "removed"
            lines += [f"@@ rule {name}, {what} @@", *list(difflib.unified_diff(one, two, n=10, lineterm=""))[3:]]
    order = [
        [rule.name for rule in one.rules if two.find(rule.name)] for one, two in ((before, after), (after, before))
    ]
    if order[0] != order[1]:
        lines += ["@@ order @@", f"-{', '.join(order[0])}", f"+{', '.join(order[1])}"]
    return [f"--- {names[0]}", f"+++ {names[1]}", *lines] if lines else []


def _lines(rule: Rule | None) -> list[str]:
    return [] if rule is None else write_rule(rule).splitlines()
