"""A rule as a typed tree: what the parser makes and the evaluator walks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from dicom_node.route.vocabulary import Type

Scalar: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where in the rule's text something stands, 0-based, end exclusive."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One stage of the way to a value: a name, and which value or item of it."""

    key: str  #: keyword, derived name, or ggggeeee of a private tag
    index: int | None = None  #: 0-based; None: any of them
    creator: str = ""  #: private creator; empty: the tag exactly as written


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """A value of the series, by name."""

    steps: tuple[Step, ...]
    type: Type
    label: str  #: as the rule writes it
    quotable: bool  #: whether an explanation may show its text
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """A constant. Dates are YYYYMMDD and times HHMMSS, so that text order is their order."""

    value: Scalar
    type: Type
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many values or items an attribute has; 0 when it is missing."""

    attribute: Attribute
    span: Span
    type: Type = Type.NUMBER


Operand: TypeAlias = Attribute | Literal | Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """``left op right``; ``in`` is a comparison for equality with any of several operands."""

    op: str  #: one of == != < <= > >=
    left: Operand
    right: tuple[Operand, ...]
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTest:
    """``attribute.method("text")``, true when any value passes."""

    subject: Attribute
    test: Callable[[str], bool]
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Has:
    """Whether an attribute is there with a value; never unknown."""

    attribute: Attribute
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """An attribute that is itself true or false."""

    attribute: Attribute
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """``true`` or ``false``."""

    value: bool
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    """``!part``."""

    part: Condition
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class And:
    """``part && part && …``."""

    parts: tuple[Condition, ...]
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Or:
    """``part || part || …``."""

    parts: tuple[Condition, ...]
    span: Span


Condition: TypeAlias = Compare | TextTest | Has | Truth | Constant | Not | And | Or


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A compiled condition."""

    text: str
    root: Condition
    clauses: tuple[Condition, ...]  #: the parts that are joined by && at the top, in order
    names: frozenset[str]  #: every name it mentions, of all levels


def attributes_of(condition: Condition) -> tuple[Attribute, ...]:
    """The attributes that a condition mentions, each once, in order."""
    found: dict[str, Attribute] = {}
    pending: list[Condition | Operand] = [condition]
    while pending:
        node = pending.pop()
        match node:
            case Attribute(label=label):
                found.setdefault(label, node)
            case Not(part=part):
                pending.append(part)
            case And(parts=parts) | Or(parts=parts):
                pending += reversed(parts)
            case Compare(left=left, right=right):
                pending += [*reversed(right), left]
            case Size(attribute=attribute) | Has(attribute=attribute) | Truth(attribute=attribute):
                pending.append(attribute)
            case TextTest(subject=subject):
                pending.append(subject)
            case Literal() | Constant():
                pass
    return tuple(found.values())
