"""Evaluation of a condition on a series: true, false or unknown, and never an exception.

The logic is Kleene's strong three-valued one (Kleene, "Introduction to Metamathematics", 1952, section 64): a missing
attribute makes what depends on it unknown, and only what does not depend on it can decide.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

from dicom_node.route.expression import (
    And,
    Attribute,
    Compare,
    Condition,
    Constant,
    Has,
    Literal,
    Not,
    Operand,
    Or,
    Scalar,
    Size,
    TextTest,
    Truth,
)
from dicom_node.route.reading import number_of
from dicom_node.route.values import Values
from dicom_node.route.vocabulary import Type


class Verdict(StrEnum):
    """What is known of a condition."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"


class Series(Protocol):
    """What an evaluation needs of a series."""

    def values(self, attribute: Attribute) -> Values:
        """The values of an attribute."""


_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


Test: TypeAlias = Callable[[Series], Verdict]


def decide(condition: Condition, series: Series) -> Verdict:
    """The verdict on a condition. Never raises; time is linear in the rule times the values it looks at."""
    return prepared(condition)(series)


def prepared(condition: Condition) -> Test:
    """The condition as a function, for asking it of many series."""
    match condition:
        case Compare(op="!="):
            equal = _comparison("==", condition)
            return lambda series: negated(equal(series))
        case Compare(op=op):
            return _comparison(op, condition)
        case And(parts=parts):
            tests = [prepared(part) for part in parts]
            return lambda series: _all(test(series) for test in tests)
        case Or(parts=parts):
            tests = [prepared(part) for part in parts]
            return lambda series: negated(_all(negated(test(series)) for test in tests))
        case Not(part=part):
            inner = prepared(part)
            return lambda series: negated(inner(series))
    return _leaf(condition)


def _leaf(condition: TextTest | Has | Truth | Constant) -> Test:
    match condition:
        case TextTest(subject=subject, test=passes):
            return _any_value(subject, lambda value: passes(_plain(value)))
        case Truth(attribute=attribute):
            return _any_value(attribute, lambda value: value is True)
        case Has(attribute=attribute):
            return lambda series: _known(series.values(attribute).size > 0)
        case Constant(value=value):
            return lambda _: _known(value)


def _any_value(attribute: Attribute, passes: Callable[[Any], bool]) -> Test:
    def test(series: Series) -> Verdict:
        found = series.values(attribute)
        for value in found.values:
            if passes(value):
                return Verdict.TRUE
        return Verdict.UNKNOWN if found.problem else Verdict.FALSE

    return test


def negated(verdict: Verdict) -> Verdict:
    """The opposite; the opposite of unknown is unknown."""
    if verdict is Verdict.UNKNOWN:
        return verdict
    return _known(verdict is Verdict.FALSE)


def _known(truth: bool) -> Verdict:
    return Verdict.TRUE if truth else Verdict.FALSE


def _any(hit: bool, doubtful: bool) -> Verdict:
    """True when some value passes; else unknown when some value could not be looked at."""
    if hit:
        return Verdict.TRUE
    return Verdict.UNKNOWN if doubtful else Verdict.FALSE


def _all(verdicts: Any) -> Verdict:
    result = Verdict.TRUE
    for verdict in verdicts:
        if verdict is Verdict.FALSE:
            return Verdict.FALSE
        if verdict is Verdict.UNKNOWN:
            result = Verdict.UNKNOWN
    return result


def _comparison(op: str, node: Compare) -> Test:
    """The test for any value on the left in this relation to any on the right.

    Most comparisons are between an attribute and constants of its type; these are folded once, here.
    """
    left = node.left
    constants = [each.value for each in node.right if isinstance(each, Literal)]
    if not isinstance(left, Attribute) or left.type is Type.ANY or len(constants) < len(node.right):
        return lambda series: _compare_any(op, node, series)
    if left.type is Type.CODE:
        constants = [str(each).upper() for each in constants]
    if op == "==":
        wanted = frozenset(constants)
        return _any_value(left, lambda value: value in wanted)
    relation, (limit,) = _ORDER[op], constants
    return _any_value(left, lambda value: relation(value, limit))


def _compare_any(op: str, node: Compare, series: Series) -> Verdict:
    """Whether any value on the left stands in this relation to any value on the right."""
    test = _ORDER[op]
    left, doubtful = _side(node.left, series)
    hit = False
    for operand in node.right:
        right, unsure = _side(operand, series)
        doubtful = doubtful or unsure
        one, two, lost = _alike(left, node.left.type, right, operand.type)
        doubtful = doubtful or lost
        hit = hit or _meets(test, one, two)
    return _any(hit, doubtful)


def _meets(test: Callable[[Any, Any], bool], left: tuple[Scalar, ...], right: tuple[Scalar, ...]) -> bool:
    if test is operator.eq and len(left) * len(right) > 64:
        return not set(left).isdisjoint(right)
    if len(left) * len(right) > 64:  # an order relation holds for some pair if it holds for the extremes
        left, right = (min(left), max(left)), (min(right), max(right))
    return any(test(one, two) for one in left for two in right)


def _side(operand: Operand, series: Series) -> tuple[tuple[Scalar, ...], bool]:
    """The values of one side, and whether some value is missing or of the wrong type."""
    match operand:
        case Literal(value=value):
            return (value,), False
        case Size(attribute=attribute):
            return (series.values(attribute).size,), False
        case Attribute():
            found = series.values(operand)
            return found.values, bool(found.problem)


def _alike(
    left: tuple[Scalar, ...], left_type: Type, right: tuple[Scalar, ...], right_type: Type
) -> tuple[tuple[Scalar, ...], tuple[Scalar, ...], bool]:
    """Both sides in a common form: private values take the other side's type, code strings compare in upper case.

    Two private values are numbers where both hold nothing else.
    """
    kinds = {left_type, right_type}
    if len(kinds) == 1 and Type.ANY not in kinds:
        return left, right, False
    if Type.NUMBER in kinds or (kinds == {Type.ANY} and not any(isinstance(each, str) for each in (*left, *right))):
        one, two = [tuple(n for n in map(number_of, side) if n is not None) for side in (left, right)]
        return one, two, len(one) < len(left) or len(two) < len(right)
    fold = str.upper if Type.CODE in kinds else str
    return tuple(fold(_plain(each)) for each in left), tuple(fold(_plain(each)) for each in right), False


def _plain(value: Scalar) -> str:
    """A value as text, with every digit that it has: what differs must not read the same."""
    if not isinstance(value, float):
        return str(value)
    written = format(Decimal(repr(value)), "f")
    return written.rstrip("0").rstrip(".") if "." in written else written
