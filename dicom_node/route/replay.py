"""Which rules match which of many series, without the explanations: fast enough for months of recorded traffic.

Clauses about the same attributes form a group. What a group's clauses make of some values is one bit each, kept for the
next series with these values, as traffic repeats itself; a rule matches where all of its bits are set. Which rules
these are is kept as well.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from dicom_node.route.expression import Attribute, Condition, attributes_of
from dicom_node.route.facts import SeriesFacts
from dicom_node.route.floor import bars
from dicom_node.route.language import RuleError, compile_rule
from dicom_node.route.verdict import Test, Verdict, prepared
from storage.facts.routing import Match, Rule, RuleSet

_REMEMBERED = 20_000  #: answers that one group remembers


@dataclass(slots=True)
class _Group:
    """The clauses about the same attributes."""

    attributes: tuple[Attribute, ...]
    tests: list[tuple[int, Test]] = field(default_factory=list)  #: each with its bit
    memory: dict[Hashable, int] = field(default_factory=dict)

    def holding(self, facts: SeriesFacts) -> int:
        """The bits of the clauses that are true of a series."""
        key = tuple([facts.key(attribute) for attribute in self.attributes])
        bits = self.memory.get(key)
        if bits is None:
            bits = sum(bit for bit, test in self.tests if test(facts) is Verdict.TRUE)
            if len(self.memory) < _REMEMBERED:
                self.memory[key] = bits
        return bits


class Replay:
    """Some rule sets, made ready to be asked about series after series."""

    def __init__(self, sets: Sequence[RuleSet]) -> None:
        self._groups: dict[tuple[str, ...], _Group] = {}
        self._answers: dict[tuple[int, frozenset[str]], list[list[Rule]]] = {}
        self._bits: dict[str, int] = {}
        self._conditions: dict[str, tuple[int, frozenset[str]] | None] = {}
        self._sets = [(each.match is Match.FIRST, list(self._asked(each))) for each in sets]

    def _asked(self, rules: RuleSet) -> list[tuple[Rule, int, frozenset[str]]]:
        """The rules that are on and compile, each with the bits that it needs and the names that it mentions."""
        found = []
        for rule in rules.rules:
            known = self._condition(rule.expression) if rule.enabled else None
            if known is not None:
                found.append((rule, *known))
        return found

    def _condition(self, text: str) -> tuple[int, frozenset[str]] | None:
        """None for one that does not compile: it matches nothing, as in the router."""
        if text not in self._conditions:
            try:
                compiled = compile_rule(text)
            except RuleError:
                self._conditions[text] = None
                return None
            pieces = [(text[each.span.start : each.span.end], each) for each in compiled.clauses]
            bits = 0
            for piece, clause in pieces:
                bits |= self._bit(piece, clause)
            self._conditions[text] = bits, compiled.names
        return self._conditions[text]

    def _bit(self, text: str, clause: Condition) -> int:
        if text not in self._bits:
            bit = self._bits[text] = 1 << len(self._bits)
            attributes = attributes_of(clause)
            group = self._groups.setdefault(tuple(each.label for each in attributes), _Group(attributes))
            group.tests.append((bit, prepared(clause)))
        return self._bits[text]

    def matches(self, facts: SeriesFacts) -> list[list[Rule]]:
        """For each set, the rules that route the series, in their order. The lists are not to be changed."""
        needed = bars(facts)
        if needed is None:
            return [[] for _ in self._sets]
        true = 0
        for group in self._groups.values():
            true |= group.holding(facts)
        found = self._answers.get((true, needed))
        if found is None:
            found = self._asked_of(true, needed)
            if len(self._answers) < _REMEMBERED:
                self._answers[true, needed] = found
        return found

    def _asked_of(self, true: int, needed: frozenset[str]) -> list[list[Rule]]:
        found = []
        for first_only, rules in self._sets:
            matching = [rule for rule, bits, names in rules if bits & true == bits and needed <= names]
            found.append(_up_to_the_first(matching) if first_only else matching)
        return found


def _up_to_the_first(matching: list[Rule]) -> list[Rule]:
    """The first rule that delivers, and the shadow rules before it."""
    for at, rule in enumerate(matching):
        if not rule.shadow:
            return matching[: at + 1]
    return matching
