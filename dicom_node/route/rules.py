"""Which rules match a series, which do not, and why: for the router, for the audit trail and for people.

All rules are evaluated, whatever the set says: where only the first match routes, the later ones say that they came
too late.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dicom_node.route import expression
from dicom_node.route.facts import SeriesFacts
from dicom_node.route.floor import Floor, floor_of
from dicom_node.route.language import RuleError, compile_rule
from dicom_node.route.verdict import Test, Verdict, prepared
from storage.facts.errors import Misconfigured
from storage.facts.routing import SETTLE, WAIT, Late, Match, Role
from storage.facts.study import Urgency
from storage.facts.wire import to_json

_OF_A_CHOICE = ("prefer", "inputs", "wait", "settle")

STABLE = "stable"  #: the channel of a rule that names no version


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRule:
    """When to run which model, how urgently, and where its results go."""

    name: str
    when: str  #: condition, in the rule language
    package: str  #: package identifier
    version_or_channel: str = STABLE
    destinations: tuple[str, ...] = ()
    urgency: Urgency = Urgency.ROUTINE
    enabled: bool = True
    shadow: bool = False  #: run and record, deliver and raise nothing
    late: Late = Late.RERUN
    position: int = 0  #: order of evaluation
    prefer: tuple[str, ...] = ()
    inputs: tuple[Role, ...] = ()
    wait: float = WAIT  #: seconds
    settle: float = SETTLE  #: seconds

    @property
    def chooses(self) -> bool:
        """Whether it takes one series of a study: see storage.facts.routing.Rule."""
        return bool(self.prefer or self.inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One part of a condition that must hold, and how it fared."""

    text: str  #: as the rule writes it
    verdict: Verdict
    actual: str  #: what the series has instead of the names


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one rule says of one series."""

    rule: RoutingRule
    matched: bool
    verdict: Verdict  #: of the condition alone, whatever the floor or the switch say
    clauses: tuple[Clause, ...]
    why: str  #: one sentence

    def explanation(self) -> Mapping[str, Any]:
        """The decision as plain data for JSON."""
        plain: dict[str, Any] = to_json(self)
        if not self.rule.chooses:
            plain["rule"] = {key: value for key, value in plain["rule"].items() if key not in _OF_A_CHOICE}
        return plain


def split_reference(reference: str) -> tuple[str, str]:
    """``identifier@version`` as identifier and version; without a version, the stable channel.

    Raises Misconfigured when either part is empty.
    """
    package, at, version = reference.strip().partition("@")
    if not package or (at and not version):
        raise Misconfigured(f"{reference!r} is no package: write identifier or identifier@version")
    return package, version or STABLE


def evaluate(
    rules: Iterable[RoutingRule], facts: SeriesFacts, match: Match = Match.ALL, *, late: bool = False
) -> list[Decision]:
    """The decision of every rule, in their order. Never raises: a rule that does not compile matches nothing.

    ``late`` says that the series was complete before, and more of it came.
    """
    floor = floor_of(facts)
    decisions = [_decision(rule, facts, floor, late) for rule in sorted(rules, key=lambda r: (r.position, r.name))]
    return decisions if match is Match.ALL else list(_first_only(decisions))


def _first_only(decisions: Iterable[Decision]) -> Iterator[Decision]:
    """Only the first match stays one. A shadow rule must come before it as well, but stops no other."""
    winner = ""
    for decision in decisions:
        if decision.matched and winner:
            why = f"the condition holds, but rule {winner} comes first and the set stops at the first match"
            yield dataclasses.replace(decision, matched=False, why=why)
            continue
        if decision.matched and not decision.rule.shadow:
            winner = decision.rule.name
        yield decision


def _decision(rule: RoutingRule, facts: SeriesFacts, floor: Floor, late: bool) -> Decision:
    try:
        parts = _parts(rule.when)
    except RuleError as error:
        why = f"the rule does not compile: {error.fault}"
        return Decision(rule=rule, matched=False, verdict=Verdict.UNKNOWN, clauses=(), why=why)
    clauses = tuple([part.clause(facts) for part in parts])
    verdict = _conjunction(clauses)
    barred = _why_not_routed(rule, floor.bars(compile_rule(rule.when).names), late)
    if verdict is Verdict.TRUE:
        why = f"the condition holds, but {barred}" if barred else f"all {len(clauses)} clause(s) hold{_then(rule)}"
    else:
        why = _first_failure(clauses)
    matched = verdict is Verdict.TRUE and not barred
    return Decision(rule=rule, matched=matched, verdict=verdict, clauses=clauses, why=why)


def _then(rule: RoutingRule) -> str:
    return ": it is a candidate, for the rule takes one series of a study" if rule.chooses else ""


def _conjunction(clauses: Iterable[Clause]) -> Verdict:
    """A rule is true when every clause is, and false as soon as one is."""
    verdicts = {clause.verdict for clause in clauses}
    return next((v for v in (Verdict.FALSE, Verdict.UNKNOWN) if v in verdicts), Verdict.TRUE)


def _why_not_routed(rule: RoutingRule, barred: str, late: bool) -> str:
    if barred:
        return barred
    if not rule.enabled:
        return "the rule is disabled"
    ignored = late and rule.late is Late.IGNORE and not rule.chooses  # a choice sees to its late series itself
    return "it came late, and the rule ignores late objects" if ignored else ""


def _first_failure(clauses: tuple[Clause, ...]) -> str:
    """Names the clause that decided: the first false one, else the first unknown one."""
    false = next((clause for clause in clauses if clause.verdict is Verdict.FALSE), None)
    if false is not None:
        return f"{false.text} does not hold: {false.actual}"
    unknown = next(clause for clause in clauses if clause.verdict is Verdict.UNKNOWN)
    return f"{unknown.text} cannot be told: {unknown.actual}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """A top-level clause, made ready once for all series and all rules that say it."""

    text: str
    test: Test
    attributes: tuple[expression.Attribute, ...]

    def clause(self, facts: SeriesFacts) -> Clause:
        """How it fares; asked once of a series, for many rules say the same."""
        found: Clause | None = facts.memory.get(self)
        if found is None:
            actual = "; ".join([facts.shown(each) for each in self.attributes])
            found = facts.memory[self] = Clause(text=self.text, verdict=self.test(facts), actual=actual)
        return found


@lru_cache(maxsize=4096)
def _parts(text: str) -> tuple[_Part, ...]:
    return tuple(_part(text[each.span.start : each.span.end]) for each in compile_rule(text).clauses)


@lru_cache(maxsize=16384)
def _part(text: str) -> _Part:
    root = compile_rule(text).root
    return _Part(text=" ".join(text.split()), test=prepared(root), attributes=expression.attributes_of(root))
