"""What an installation is set up to do: rules, the set they form, their verdicts, model packages."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from storage.facts.errors import Misconfigured, Rejected
from storage.facts.study import Header, Urgency


class Match(StrEnum):
    """Which of the rules that match route a series."""

    ALL = "all"  #: every one
    FIRST = "first"  #: the first in order; shadow rules neither win nor lose


class Late(StrEnum):
    """What a rule does with objects that come after the series was complete."""

    RERUN = "rerun"  #: the model runs again on all that is there
    IGNORE = "ignore"  #: the first result stands


class Origin(StrEnum):
    """Where the series of a role is looked for."""

    STUDY = "study"  #: in the same study
    PRIOR = "prior"  #: in an earlier study of the same patient


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A further series that a model is given beside the one that the rule is about."""

    name: str  #: as the package's manifest calls it
    expression: str
    prefer: tuple[str, ...] = ()
    origin: Origin = Origin.STUDY


WAIT, SETTLE = 600.0, 30.0  #: seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A routing rule as it is kept; what its expressions mean is the router's business.

    A rule with preferences or further inputs takes one series of a study, any other every series that matches.
    """

    name: str
    expression: str
    package: str  #: package identifier, or identifier@version
    destinations: tuple[str, ...]
    urgency: Urgency = Urgency.ROUTINE
    enabled: bool = True
    shadow: bool = False  #: run and record, deliver and raise nothing
    late: Late = Late.RERUN
    position: int = 0  #: order of evaluation, from 1; 0 when new: placed last
    prefer: tuple[str, ...] = ()  #: what makes one series of a study better than another, the most important first
    inputs: tuple[Role, ...] = ()
    wait: float = WAIT  #: seconds that are waited at most for better series and for further inputs
    settle: float = SETTLE  #: seconds without a new object after which nothing more is expected of a study

    @property
    def chooses(self) -> bool:
        """Whether it takes one series of a study."""
        return bool(self.prefer or self.inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """Every rule, in order of evaluation, and what holds for all of them."""

    rules: tuple[Rule, ...] = ()
    match: Match = Match.ALL
    approval: bool = False  #: a change needs a second person

    def find(self, name: str) -> Rule | None:
        """The rule of that name, if there is one."""
        return next((rule for rule in self.rules if rule.name == name), None)

    def known(self, name: str) -> Rule:
        """The rule of that name. Raises Rejected when there is none."""
        rule = self.find(name)
        if rule is None:
            raise Rejected(f"there is no rule {name!r}: see `dicom-node rules list`")
        return rule

    def put(self, rule: Rule) -> RuleSet:
        """With this rule added, or in the place of the one of its name; at its position if it has one."""
        names = [each.name for each in self.rules]
        at = names.index(rule.name) if rule.name in names else len(names)
        rest = [each for each in self.rules if each.name != rule.name]
        if rule.position:
            at = rule.position - 1
        at = max(0, min(at, len(rest)))
        return self.of([*rest[:at], rule, *rest[at:]])

    def remove(self, name: str) -> RuleSet:
        """Without the rule of that name. Raises Rejected when there is none."""
        gone = self.known(name)
        return self.of([rule for rule in self.rules if rule is not gone])

    def of(self, rules: list[Rule]) -> RuleSet:
        """The same set with these rules, in this order."""
        placed = tuple(dataclasses.replace(rule, position=at) for at, rule in enumerate(rules, 1))
        return dataclasses.replace(self, rules=placed)

    def digest(self) -> str:
        """What is approved is what was seen: twelve hexadecimal digits that stand for the whole content."""
        content = json.dumps(set_document(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleVersion:
    """A rule set that is or was in force. Version 0 is the empty set that every installation starts with."""

    number: int
    rules: RuleSet
    author: str
    reason: str
    at: float  #: seconds since the epoch
    approver: str = ""  #: who approved it; empty when nobody had to
    restores: int | None = None  #: the version that it put back


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleDraft:
    """The set as it shall become."""

    base: int  #: the version that was in force when the draft was begun
    rules: RuleSet
    authors: tuple[str, ...]  #: everybody who changed it: none of them can approve it
    reason: str  #: empty until it is proposed
    proposed: bool  #: waits for a second person
    at: float  #: of the last change, seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why a rule did or did not match one revision of a series."""

    rule: str
    matched: bool
    explanation: Mapping[str, Any]
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSeries:
    """A complete series as it was recorded: enough to ask any rule about it again, without its files."""

    series_uid: str
    study_uid: str
    calling_ae: str
    called_ae: str
    revision: int
    at: float  #: arrival of its last object, seconds since the epoch
    header: Header
    derivation: str  #: which way of deriving made the facts; empty when none are kept
    facts: Mapping[str, Any]  #: derived name to [value, evidence]


class Outcome(StrEnum):
    """How a choice within a study ended."""

    CHOSEN = "chosen"  #: a run was asked for
    STANDS = "stands"  #: what was chosen before stays
    NONE = "none"  #: no series is left to choose


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which series of a study one rule took, and why."""

    key: str  #: of the CHOOSE task
    study_uid: str
    rule: str
    outcome: Outcome
    explanation: Mapping[str, Any]  #: candidates with their values, what was missed, how long it waited
    series_uid: str = ""  #: the one that was chosen; empty when none was
    run: str = ""  #: key of the INFER task; empty when none was asked for
    rules_version: int | None = None
    at: float = 0.0  #: seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Arriving:
    """Whether more of a study may come."""

    open_series: int  #: series that are not complete or not routed yet
    open_associations: int  #: that brought objects of the study and are still open
    last_at: float  #: arrival of the last object, seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """What runs of one package have cost and raised so far."""

    runs: int
    seconds: float  #: mean of a run
    results: int
    raised: int  #: results of urgency HIGH or STAT


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredPackage:
    """A model package that a worker has verified."""

    package: str
    version: str
    digest: str
    title: str
    manifest: Mapping[str, Any]
    stable: bool = True  #: it is what a rule without a version gets


def patient_digest(header: Header) -> str | None:
    """What is equal for series of one patient, by PatientID and its issuer; None where there is no PatientID.

    An ID without an issuer is never taken for the same ID with one.
    """
    identifier, issuer = (header.get(keyword) for keyword in ("PatientID", "IssuerOfPatientID"))
    if not isinstance(identifier, str) or not identifier.strip():
        return None
    named = issuer.strip() if isinstance(issuer, str) else ""
    return hashlib.sha256(f"{named}\0{identifier.strip()}".encode()).hexdigest()[:32]


def rule_document(rule: Rule) -> dict[str, Any]:
    """A rule as plain data, as it is stored, exported and shown; its place is its place in the list.

    What belongs to a choice is there only where the rule makes one.
    """
    choice: dict[str, Any] = {}
    if rule.chooses:
        choice = {"prefer": list(rule.prefer)} if rule.prefer else {}
        choice |= {"inputs": [_role_document(role) for role in rule.inputs]} if rule.inputs else {}
        choice |= {"wait": span_text(rule.wait), "settle": span_text(rule.settle)}
    return {
        "name": rule.name,
        "when": rule.expression,
        "model": rule.package,
        "to": list(rule.destinations),
        "urgency": rule.urgency.name,
        "enabled": rule.enabled,
        "shadow": rule.shadow,
        "late": rule.late.value,
        **choice,
    }


def _role_document(role: Role) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": role.name, "when": role.expression}
    return plain | ({"prefer": list(role.prefer)} if role.prefer else {}) | {"from": role.origin.value}


_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


def span_text(seconds: float) -> str:
    """A time span in the largest unit that says it exactly: ``10m``, ``90s``."""
    unit = next((unit for unit, size in _UNITS.items() if seconds >= size and seconds % size == 0), "s")
    return f"{seconds / _UNITS[unit]:g}{unit}"


def span_of(text: str) -> float:
    """Seconds of ``90s``, ``10m``, ``2h``, ``1d``. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smhd])", text)
    if match is None:
        raise ValueError(f"{text!r} is no time span: write 30s, 10m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


def set_document(rules: RuleSet) -> dict[str, Any]:
    """A rule set as plain data."""
    return {
        "match": rules.match.value,
        "approval": rules.approval,
        "rules": [rule_document(rule) for rule in rules.rules],
    }


def rule_of(document: Mapping[str, Any]) -> Rule:
    """The rule that ``rule_document`` wrote. Raises Misconfigured where the data has another shape."""
    try:
        return Rule(
            name=document["name"],
            expression=document["when"],
            package=document["model"],
            destinations=tuple(document.get("to", ())),
            urgency=Urgency[document.get("urgency", "ROUTINE")],
            enabled=document.get("enabled", True),
            shadow=document.get("shadow", False),
            late=Late(document.get("late", Late.RERUN)),
            prefer=tuple(document.get("prefer", ())),
            inputs=tuple(_role_of(each) for each in document.get("inputs", ())),
            wait=span_of(document.get("wait", span_text(WAIT))),
            settle=span_of(document.get("settle", span_text(SETTLE))),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise Misconfigured(f"a stored rule has another shape than this version of the node knows: {error}") from error


def _role_of(document: Mapping[str, Any]) -> Role:
    return Role(
        name=document["role"],
        expression=document["when"],
        prefer=tuple(document.get("prefer", ())),
        origin=Origin(document.get("from", Origin.STUDY)),
    )


def set_of(document: Mapping[str, Any]) -> RuleSet:
    """The rule set that ``set_document`` wrote. Raises Misconfigured where the data has another shape."""
    try:
        empty = RuleSet(match=Match(document["match"]), approval=bool(document["approval"]))
        return empty.of([rule_of(each) for each in document["rules"]])
    except (KeyError, ValueError, TypeError) as error:
        raise Misconfigured(f"a stored rule set has another shape than this version knows: {error}") from error


def changes(before: RuleSet, after: RuleSet) -> dict[str, Any]:
    """What differs, as plain data for the trail: rules added, removed and changed, their order, the set's settings.

    Empty when nothing does.
    """
    old = {rule.name: rule_document(rule) for rule in before.rules}
    new = {rule.name: rule_document(rule) for rule in after.rules}
    changed = {
        name: {
            key: [old[name].get(key), new[name].get(key)]
            for key in old[name] | new[name]
            if old[name].get(key) != new[name].get(key)
        }
        for name in new
        if name in old and old[name] != new[name]
    }
    order = [[name for name in one if name in two] for one, two in ((old, new), (new, old))]
    settings = {
        key: [one, two]
        for key, one, two in (
            ("match", before.match.value, after.match.value),
            ("approval", before.approval, after.approval),
        )
        if one != two
    }
    found = {
        "added": {name: new[name] for name in new if name not in old},
        "removed": {name: old[name] for name in old if name not in new},
        "changed": changed,
        "order": [] if order[0] == order[1] else order,
        "settings": settings,
    }
    return {key: value for key, value in found.items() if value}
