"""What makes one series of a study better than another: one line of a rule's order of preference.

A line is a condition (series for which it is true come first), or ``least``/``greatest`` with a number, or
``earliest``/``latest`` with a date or time. A value that is missing comes last, whatever the word.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from dicom_node.route.build import Builder
from dicom_node.route.expression import Attribute, Operand, Size, attributes_of
from dicom_node.route.facts import SeriesFacts
from dicom_node.route.language import MAX_TEXT, RuleError, compile_rule, parse
from dicom_node.route.reading import number_of
from dicom_node.route.source import Fault
from dicom_node.route.texts import closest
from dicom_node.route.verdict import Verdict, prepared
from dicom_node.route.vocabulary import Type

MAX_PREFERENCES = 20  #: of one rule or role
LAST = float("inf")  #: grade of a value that is missing

#: Word of an order to what it is about, and its sign: the smaller grade wins.
WORDS = {
    "least": ("a number", 1.0),
    "greatest": ("a number", -1.0),
    "earliest": ("a date or time", 1.0),
    "latest": ("a date or time", -1.0),
}
_EXAMPLES = {
    "least": "least SliceThickness",
    "greatest": "greatest coverage_mm",
    "earliest": "earliest AcquisitionTime",
    "latest": "latest StudyDate",
}
_TYPES = {"a number": (Type.NUMBER, Type.ANY), "a date or time": (Type.DATE, Type.TIME)}
_WORD = re.compile(r"\s*([a-z]+)\s+(?=[A-Za-z_])")

#: Names for what is wished most often; kept as what they stand for.
NAMED = {
    "thinnest": "least SliceThickness",
    "thickest": "greatest SliceThickness",
    "finest": "least slice_spacing_mm",
    "longest": "greatest coverage_mm",
    "largest": "greatest number_of_frames",
    "smooth": 'kernel_class in ["soft", "standard"]',
    "soft": 'kernel_class == "soft"',
    "standard": 'kernel_class == "standard"',
    "sharp": 'kernel_class == "sharp"',
    "axial": 'orientation == "AXIAL"',
    "original": "!is_derived",
    "without-contrast": 'contrast == "no"',
    "with-contrast": 'contrast == "yes"',
    "newest": "latest StudyDate",
    "first": "least SeriesNumber",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """How one series fares by one preference."""

    order: float  #: the smaller the better
    shown: str  #: for people: the values behind it


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """One compiled line."""

    text: str
    names: frozenset[str]  #: every name it mentions
    order: Callable[[SeriesFacts], float]
    attributes: tuple[Attribute, ...]
    ordered: bool  #: begins with one of WORDS

    def grade(self, facts: SeriesFacts) -> Grade:
        """How a series fares; never raises."""
        return Grade(order=self.order(facts), shown="; ".join([facts.shown(each) for each in self.attributes]))


def spelled_out(text: str) -> str:
    """The line that a name such as ``thinnest`` stands for; any other line on one line, as it is."""
    tidy = " ".join(text.split())
    return NAMED.get(tidy, tidy)


@lru_cache(maxsize=1024)
def compile_preference(text: str) -> Preference:
    """Parse and type-check one line. Raises RuleError with a caret under the fault."""
    text = spelled_out(text)
    match = _WORD.match(text)
    if match is None:
        return _condition(text)
    word = match[1]
    if word not in WORDS:
        close = closest(word, [*WORDS, *NAMED])
        hint = f"Did you mean {close}?" if close else f"Write a condition, or one of {', '.join(WORDS)} and a name."
        raise RuleError(text, f"{word!r} is no order. {hint}", match.start(1))
    return _ordered(text, word, match.end())


def _condition(text: str) -> Preference:
    try:
        rule = compile_rule(text)
    except RuleError as error:
        if text in WORDS:
            raise RuleError(text, f"{text} of what? Write for example {_EXAMPLES[text]}", len(text)) from None
        close = closest(text, NAMED) if error.fault.startswith("unknown name") and text.islower() else None
        if close:
            raise RuleError(text, f"there is no order {text!r}. Did you mean {close}?", 0) from None
        if ", not a condition" in error.fault:
            fault = f"{error.fault.partition(',')[0]}: write `least {text}` or `greatest {text}`, or compare it"
            raise RuleError(text, fault, error.start) from None
        raise
    test = prepared(rule.root)
    return Preference(
        text=text,
        names=rule.names,
        order=lambda facts: 0.0 if test(facts) is Verdict.TRUE else 1.0,
        attributes=attributes_of(rule.root),
        ordered=False,
    )


def _ordered(text: str, word: str, start: int) -> Preference:
    if len(text) > MAX_TEXT:
        raise RuleError(text, f"the line is longer than {MAX_TEXT} characters", MAX_TEXT)
    tree = parse(" " * start + text[start:], text)
    builder = Builder(text)
    try:
        operand = builder.operand(tree.children[0])
    except Fault as fault:
        raise RuleError(text, fault.message, fault.start) from None
    wanted, sign = WORDS[word]
    attribute = operand.attribute if isinstance(operand, Size) else operand
    if not isinstance(attribute, Attribute) or operand.type not in _TYPES[wanted]:
        raise RuleError(text, f"{word} wants {wanted}, and this is {operand.type.value}{_hint(operand)}", start)
    return Preference(
        text=text, names=builder.names, order=_order(operand, sign), attributes=(attribute,), ordered=True
    )


def _hint(operand: Operand) -> str:
    words = [word for word, (wanted, _) in WORDS.items() if operand.type in _TYPES[wanted]]
    return f": write {' or '.join(words)}" if words else ": compare it, for example with =="


def _order(operand: Operand, sign: float) -> Callable[[SeriesFacts], float]:
    """The grade of a series: its best value, to 0.001, below which a header's decimals mean nothing."""
    if isinstance(operand, Size):
        counted = operand.attribute
        return lambda facts: sign * facts.values(counted).size
    assert isinstance(operand, Attribute)  # the caller has looked

    def order(facts: SeriesFacts) -> float:
        numbers = [number_of(each) for each in facts.values(operand).values]
        return min((round(sign * each, 3) for each in numbers if each is not None), default=LAST)

    return order
