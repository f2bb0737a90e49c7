"""From the parser's tree to the typed tree: names are looked up, types are checked, limits are kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dicom_node.route import texts
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
    Rule,
    Size,
    Span,
    TextTest,
    Truth,
)
from dicom_node.route.paths import Paths
from dicom_node.route.source import Source
from dicom_node.route.vocabulary import DERIVED, Type, vr_of

MAX_DEPTH = 24  #: nesting of conditions
MAX_ITEMS = 200  #: of one list
MAX_NODES = 1000  #: of one rule

_FUNCTIONS = ("has", "size", "date", "time", "tag")
_METHODS = ("contains", "startsWith", "endsWith", "matches")
_NEGATION = "! needs a condition: put parentheses around the comparison, !(… == …), or write !="
_TEXTUAL = (Type.TEXT, Type.CODE, Type.ANY)


class Builder:
    """Makes one rule. The tree is lark's; its shape is that of grammar.lark."""

    def __init__(self, text: str) -> None:
        self._source = Source(text)
        self._paths = Paths(self._source)
        self._nodes = 0

    @property
    def names(self) -> frozenset[str]:
        """Every name that was mentioned so far."""
        return frozenset(self._paths.names)

    def rule(self, tree: Any) -> Rule:
        """The whole rule. Raises Fault."""
        root = self.condition(tree.children[0], 0)
        clauses = root.parts if isinstance(root, And) else (root,)
        return Rule(text=self._source.text, root=root, clauses=clauses, names=self.names)

    def condition(self, node: Any, depth: int) -> Condition:
        """A node that must be true or false."""
        self._count(node, depth)
        span = self._source.span(node)
        match node.data:
            case "all_of":
                return And(parts=tuple(self.condition(each, depth + 1) for each in node.children), span=span)
            case "any_of":
                return Or(parts=tuple(self.condition(each, depth + 1) for each in node.children), span=span)
            case "negation":
                return Not(part=self._negated(node.children[0], depth), span=span)
            case "compare":
                return self._compare(node, span)
            case "within":
                return self._within(node, span)
            case "method":
                return self._text_test(node, span)
            case "true" | "false":
                return Constant(value=node.data == "true", span=span)
            case "call" if str(node.children[0]) == "has":
                return Has(attribute=self._attribute_argument(node), span=span)
        return self._truth(node, span)

    def _negated(self, node: Any, depth: int) -> Condition:
        if node.data in ("name", "member", "item") and self._paths.attribute(node).type is not Type.TRUTH:
            raise self._source.fault(node, _NEGATION)
        return self.condition(node, depth + 1)

    def _truth(self, node: Any, span: Span) -> Condition:
        operand = self.operand(node)
        if isinstance(operand, Attribute) and operand.type is Type.TRUTH:
            return Truth(attribute=operand, span=span)
        if isinstance(operand, Attribute):
            raise self._source.fault(
                node, f"{operand.label} is {operand.type}, not a condition: compare it, or ask has(…)"
            )
        raise self._source.fault(node, f"{self._source.quote(span)} is {operand.type.value}, not a condition")

    def operand(self, node: Any) -> Operand:
        """A node that stands for a value."""
        self._count(node, 0)
        span = self._source.span(node)
        match node.data:
            case "number":
                return Literal(value=self._number(node), type=Type.NUMBER, span=span)
            case "text" | "raw_text":
                return Literal(value=self._source.literal_text(node), type=Type.TEXT, span=span)
            case "true" | "false":
                return Literal(value=node.data == "true", type=Type.TRUTH, span=span)
            case "name" | "member" | "item":
                return self._paths.attribute(node)
            case "call":
                return self._call(node, span)
            case "negation":
                raise self._source.fault(node, _NEGATION)
            case "list":
                raise self._source.fault(node, "a list can only stand to the right of 'in'")
        raise self._source.fault(node, f"{self._source.quote(span)} is a condition; a value is wanted here")

    def _call(self, node: Any, span: Span) -> Operand:
        name = str(node.children[0])
        match name:
            case "date":
                return Literal(value=self._calendar(node, texts.date_of), type=Type.DATE, span=span)
            case "time":
                return Literal(value=self._calendar(node, texts.time_of), type=Type.TIME, span=span)
            case "size":
                return Size(attribute=self._attribute_argument(node), span=span)
            case "tag":
                return self._paths.attribute(node)
            case "has":
                raise self._source.fault(node, "has(…) is already a condition: it is compared with nothing")
        close = texts.closest(name, (*_FUNCTIONS, *_METHODS))
        raise self._source.fault(node, f"there is no function {name!r}." + (f" Did you mean {close}?" if close else ""))

    def _number(self, node: Any) -> int | float:
        written = str(node.children[0])
        value = float(written)
        if not math.isfinite(value):
            raise self._source.fault(node, "the number is too large")
        return int(written) if written.lstrip("-").isdecimal() and len(written) < 16 else value

    def _calendar(self, node: Any, read: Callable[[str], str]) -> str:
        (argument,) = self._source.arguments(node, 1, 1)
        try:
            return read(self._source.literal_text(argument))
        except ValueError as error:
            raise self._source.fault(argument, str(error)) from None

    def _attribute_argument(self, node: Any) -> Attribute:
        (argument,) = self._source.arguments(node, 1, 1)
        if argument.data not in ("name", "member", "item", "call"):
            raise self._source.fault(argument, f"{node.children[0]}(…) wants the name of an attribute")
        return self._paths.attribute(argument)

    def _compare(self, node: Any, span: Span) -> Condition:
        left, op, right = self.operand(node.children[0]), str(node.children[1]), self.operand(node.children[2])
        self._check_pair(node.children[0], left, node.children[2], right)
        if op not in ("==", "!=") and Type.TRUTH in (left.type, right.type):
            raise self._source.fault(node, "true and false have no order: use == or !=")
        if isinstance(left, Literal) and isinstance(right, Literal):
            raise self._source.fault(node, "both sides are constants: compare with an attribute")
        return Compare(op=op, left=left, right=(right,), span=span)

    def _within(self, node: Any, span: Span) -> Condition:
        first, second = node.children
        left = self.operand(first)
        if second.data == "list":
            given = list(second.children[0].children)
            if not 0 < len(given) <= MAX_ITEMS:
                raise self._source.fault(second, f"a list has 1 to {MAX_ITEMS} items")
            if not isinstance(left, Attribute | Size):
                raise self._source.fault(first, "the left of 'in […]' is the name of an attribute")
        else:
            given = [second]
        right = tuple(self.operand(each) for each in given)
        for each, operand in zip(given, right, strict=True):
            if second.data == "list" and not isinstance(operand, Literal):
                raise self._source.fault(each, "a list holds constants")
            if second.data != "list" and not isinstance(operand, Attribute):
                raise self._source.fault(each, "the right of 'in' is a list or the name of an attribute")
            self._check_pair(first, left, each, operand)
        return Compare(op="==", left=left, right=right, span=span)

    def _check_pair(self, left_node: Any, left: Operand, right_node: Any, right: Operand) -> None:
        for node, operand in ((left_node, left), (right_node, right)):
            if operand.type in (Type.SEQUENCE, Type.BYTES):
                raise self._source.fault(
                    node, f"{self._source.quote(operand.span)} is {operand.type.value}: it has no value to compare"
                )
        kinds = {Type.TEXT if each.type is Type.CODE else each.type for each in (left, right)} - {Type.ANY}
        if len(kinds) > 1:
            node, named, other = right_node, left, right
            if isinstance(left, Literal):
                node, named, other = left_node, right, left
            raise self._source.fault(node, self._mismatch(named, other))
        for named, node, other in ((left, right_node, right), (right, left_node, left)):
            self._check_enumerated(named, node, other)

    def _mismatch(self, named: Operand, other: Operand) -> str:
        vr = vr_of(named.steps[-1].key) if isinstance(named, Attribute) else None
        wanted = {
            Type.NUMBER: "compare it with a number, without quotes",
            Type.TEXT: 'compare it with text in quotes, "…"',
            Type.CODE: 'compare it with text in quotes, "…"',
            Type.DATE: 'compare it with date("2026-01-31")',
            Type.TIME: 'compare it with time("13:05:00")',
            Type.TRUTH: "use it alone, or !… for its opposite",
        }.get(named.type, "compare it with something of its kind")
        kind = f"{named.type.value.removesuffix(' (CS)')}{f' ({vr})' if vr else ''}"
        other_kind = other.type.value.removesuffix(" (CS)")
        one, two = self._source.quote(named.span), self._source.quote(other.span)
        return f"{one} is {kind}, but {two} is {other_kind}: {wanted}"

    def _check_enumerated(self, named: Operand, node: Any, other: Operand) -> None:
        """A derived name with few values is never compared with one that it cannot have."""
        if not isinstance(named, Attribute) or not isinstance(other, Literal):
            return
        fact = DERIVED.get(named.steps[0].key)
        if fact is not None and fact.values and other.value not in fact.values:
            close = texts.closest(str(other.value), fact.values)
            hint = f'Did you mean "{close}"?' if close else f"It is one of {', '.join(fact.values)}."
            raise self._source.fault(node, f"{named.label} is never {self._source.quote(other.span)}. {hint}")

    def _text_test(self, node: Any, span: Span) -> Condition:
        subject_node, name = node.children[0], str(node.children[1])
        if name not in _METHODS:
            close = texts.closest(name, _METHODS)
            raise self._source.fault(
                node.children[1], f"there is no method {name!r}." + (f" Did you mean {close}?" if close else "")
            )
        subject = self._paths.attribute(subject_node)
        if subject.type not in _TEXTUAL:
            raise self._source.fault(subject_node, f"{subject.label} is {subject.type.value}: .{name}(…) wants text")
        (argument,) = self._source.arguments(node, 1, 1)
        wanted = self._source.literal_text(argument)
        if subject.type is Type.CODE and name != "matches":
            wanted = wanted.upper()
        try:
            return TextTest(subject=subject, test=texts.test_of(name, wanted), span=span)
        except ValueError as error:
            raise self._source.fault(argument, str(error)) from None

    def _count(self, node: Any, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._source.fault(node, f"the rule has more than {MAX_NODES} parts: split it")
        if depth > MAX_DEPTH:
            raise self._source.fault(node, f"the rule is nested more than {MAX_DEPTH} deep: split it")
