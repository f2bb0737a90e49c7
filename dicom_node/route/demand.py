"""What a condition demands of single attributes: enough to tell that it can never hold, or that it implies another.

Only attributes with one value are looked at (value multiplicity 1 in PS3.6, and derived facts): for others, several
tests can hold at once, each for another value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydicom.datadict import dictionary_VM, tag_for_keyword

from dicom_node.route.expression import (
    Attribute,
    Compare,
    Condition,
    Constant,
    Has,
    Literal,
    Not,
    Rule,
    Scalar,
    TextTest,
    Truth,
)
from dicom_node.route.vocabulary import DERIVED, Type

_INFINITE = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The values that an attribute may have: one of ``only`` (None: any), none of ``never``, within the limits."""

    only: frozenset[Scalar] | None = None
    never: frozenset[Scalar] = frozenset()
    low: float = -_INFINITE
    low_open: bool = False  #: the limit itself does not do
    high: float = _INFINITE
    high_open: bool = False
    absent: bool = False  #: it must be missing
    present: bool = False  #: it must be there

    def allows(self, value: Scalar) -> bool:
        """Whether a value will do."""
        if (self.only is not None and value not in self.only) or value in self.never:
            return False
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        above = value > self.low or (value == self.low and not self.low_open)
        below = value < self.high or (value == self.high and not self.high_open)
        return above and below

    def is_only(self, value: Scalar) -> bool:
        """Whether this is the one value that will do."""
        return self.only is not None and list(self.only) == [value]

    @property
    def impossible(self) -> bool:
        """Whether no value will do."""
        if self.absent:
            return self.present
        if self.only is not None:
            return not any(self.allows(value) for value in self.only)
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))

    def within(self, other: Demand) -> bool:
        """Whether every value that will do here will do there."""
        if self.impossible or other.impossible:
            return self.impossible
        if self.absent or other.absent:
            return self.absent and other.absent
        if other.present and not self.present:
            return False
        if self.only is not None:
            return all(other.allows(value) for value in self.only if self.allows(value))
        if other.only is not None or not other.never <= self.never:
            return False
        low = self.low > other.low or (self.low == other.low and (self.low_open or not other.low_open))
        high = self.high < other.high or (self.high == other.high and (self.high_open or not other.high_open))
        return low and high

    def meet(self, other: Demand) -> Demand:
        """What both demand."""
        only = other.only if self.only is None else self.only if other.only is None else self.only & other.only
        low, low_open = max((self.low, self.low_open), (other.low, other.low_open))
        high, high_closed = min((self.high, not self.high_open), (other.high, not other.high_open))
        return Demand(
            only=only,
            never=self.never | other.never,
            low=low,
            low_open=low_open,
            high=high,
            high_open=not high_closed,
            absent=self.absent or other.absent,
            present=self.present or other.present,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What a whole condition demands."""

    of: Mapping[str, Demand]  #: attribute to what it must be
    others: frozenset[str]  #: the clauses that ``of`` does not say in full, as they are written
    problem: str  #: why it can never hold; empty when it can

    def imply(self, other: Demands) -> bool:
        """Whether whatever meets these meets the others, as far as can be told."""
        if not other.others <= self.others:
            return False
        return all(label in self.of and self.of[label].within(demand) for label, demand in other.of.items())


def demands(rule: Rule) -> Demands:
    """What the clauses of a rule demand, and whether that can never be met."""
    found: dict[str, Demand] = {}
    others: set[str] = set()
    problem = ""
    for clause in rule.clauses:
        text = rule.text[clause.span.start : clause.span.end]
        if isinstance(clause, Constant):
            problem = problem or ("" if clause.value else "a clause is false")
            continue
        attribute, demand, whole = _demand(clause)
        if not whole:
            others.add(" ".join(text.split()))
        if attribute is None:
            continue
        label = attribute.label
        found[label] = found.get(label, Demand()).meet(demand)
        if found[label].impossible and not problem:
            problem = f"no value of {label} meets all that is asked of it"
    return Demands(of=found, others=frozenset(others), problem=problem)


_NOTHING: tuple[None, Demand, bool] = (None, Demand(), False)


def _demand(clause: Condition) -> tuple[Attribute | None, Demand, bool]:
    """The attribute that a clause is about, what it demands of it, and whether that says all that the clause says."""
    match clause:
        case Has(attribute=attribute):
            return attribute, Demand(present=True), True
        case Not(part=Has(attribute=attribute)):
            return attribute, Demand(absent=True), True
        case Truth(attribute=attribute):
            return attribute, Demand(only=frozenset({True}), present=True), True
        case Not(part=Truth(attribute=attribute)):
            return attribute, Demand(only=frozenset({False}), present=True), True
        case TextTest(subject=subject):
            return subject, Demand(present=True), False
        case Not(part=Compare(op="==") as inner):
            return _of_comparison(inner, "!=")
        case Compare(op=op):
            return _of_comparison(clause, op)
    return _NOTHING


def _of_comparison(node: Compare, op: str) -> tuple[Attribute | None, Demand, bool]:
    left = node.left
    values = [each.value for each in node.right if isinstance(each, Literal)]
    if not isinstance(left, Attribute) or len(values) < len(node.right):
        return _NOTHING
    there = Demand(present=True)
    if not _has_one_value(left) or left.type is Type.ANY:
        return left, there, False
    if left.type is Type.CODE:
        values = [str(value).upper() for value in values]
    if op in ("==", "!="):
        known = frozenset(values)
        return left, replace(there, only=known) if op == "==" else replace(there, never=known), True
    (limit,) = values
    if isinstance(limit, str):
        return left, there, False  # dates and times: their order is not looked at
    if op in ("<", "<="):
        return left, replace(there, high=float(limit), high_open=op == "<"), True
    return left, replace(there, low=float(limit), low_open=op == ">"), True


def _has_one_value(attribute: Attribute) -> bool:
    step = attribute.steps[0]
    if len(attribute.steps) > 1 or step.creator:
        return False
    tag = tag_for_keyword(step.key)
    return step.key in DERIVED or step.index is not None or (tag is not None and dictionary_VM(tag) == "1")
