"""From the text of a rule to its typed tree, or to an error that shows the fault.

The surface is a subset of the Common Expression Language (cel-spec). The parser is imported on first use, because most
commands never parse a rule and importing it takes longer than they do.
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from dicom_node.route.build import Builder
from dicom_node.route.expression import Rule
from dicom_node.route.source import Fault
from storage.facts.errors import Misconfigured

if TYPE_CHECKING:
    from lark import Lark, Token, Tree
    from lark.exceptions import UnexpectedInput

MAX_TEXT = 4000  #: characters of one rule

#: What newcomers type, and what the language wants instead.
_HINTS = {
    "=": "compare with ==",
    "&": "'and' is written &&",
    "|": "'or' is written ||",
    "and": "'and' is written &&",
    "or": "'or' is written ||",
    "not": "'not' is written !(…)",
    "is": "compare with ==",
    "<>": "'not equal' is written !=",
    "?": "there is no conditional operator: write two rules",
    "+": "there is no arithmetic: compare with a number",
    "*": "there is no arithmetic: compare with a number",
    "/": "there is no arithmetic: compare with a number",
    "-": "there is no arithmetic: compare with a number",
    '"': 'the text has no closing quote, or a backslash stands before a line end; regular expressions: r"…"',
    "'": "the text has no closing quote",
}


class RuleError(Misconfigured):
    """A rule that cannot be compiled. The message shows the rule with a caret under the fault."""

    def __init__(self, text: str, fault: str, start: int) -> None:
        super().__init__(f"{fault}\n{pointer(text, start)}")
        self.fault, self.start = fault, start


def pointer(text: str, start: int) -> str:
    """The line of ``text`` that holds position ``start``, and a caret line under it; long lines are cut around it."""
    begin = text.rfind("\n", 0, start) + 1
    end = text.find("\n", start)
    line = text[begin : len(text) if end < 0 else end].replace("\t", " ")
    column = start - begin
    if len(line) > 100:
        cut = max(0, column - 50)
        line, column = line[cut : cut + 100], column - cut
    return f"  {line}\n  {' ' * column}^"


@lru_cache(maxsize=4096)
def compile_rule(text: str) -> Rule:
    """Parse and type-check a condition.

    Raises RuleError for anything that is not a well-typed condition over known names within the limits of length,
    depth and list size. The result is immutable and shared.
    """
    if len(text) > MAX_TEXT:
        raise RuleError(text, f"the rule is longer than {MAX_TEXT} characters", MAX_TEXT)
    if not text.strip():
        raise RuleError(text, 'the rule is empty; to match every series write "true"', 0)
    tree = parse(text, text)
    try:
        return Builder(text).rule(tree)
    except Fault as fault:
        raise RuleError(text, fault.message, fault.start) from None


@cache
def _parser() -> Lark:
    # Imported here, not above: it costs more start-up time than all our own modules.
    from lark import Lark

    grammar = resources.files("dicom_node.route").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=False)


def parse(text: str, shown: str) -> Tree[Token]:
    """The tree of a text. Raises RuleError, which shows ``shown``: the same text with what the parser must not see."""
    parser = _parser()
    from lark.exceptions import UnexpectedInput

    try:
        return parser.parse(text)
    except UnexpectedInput as error:
        start = error.pos_in_stream
        at_end = start is None or start < 0 or start >= len(text) or _ended(error)
        start = len(text.rstrip()) if at_end or start is None else start
        raise RuleError(shown, _syntax_message(text, start, at_end), start) from None


def _ended(error: UnexpectedInput) -> bool:
    return getattr(getattr(error, "token", None), "type", "") == "$END"


def _syntax_message(text: str, start: int, at_end: bool) -> str:
    if at_end:
        return "the rule ends too early"
    rest = text[start : start + 40]
    word = rest[:2] if rest[:2] == "<>" else rest[0]
    if rest[0].isalnum() or rest[0] == "_":
        word = next((rest[:n] for n, c in enumerate(rest) if not (c.isalnum() or c == "_")), rest)
    hint = _HINTS.get(word.casefold()) or _hint_before(text, start)
    return f"{word!r} cannot stand here" + (f": {hint}" if hint else "")


def _hint_before(text: str, start: int) -> str:
    """A hint from the character just before the fault: ``= =``, ``<>`` and the like fail one character late."""
    before = text[:start].rstrip()[-1:]
    return "'not equal' is written !=" if before == "<" and text[start] == ">" else ""
