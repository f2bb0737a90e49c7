"""The text of a rule as the parser cut it: positions, quotations, literals, and faults that point at them."""

from __future__ import annotations

from typing import Any

from dicom_node.route import texts
from dicom_node.route.expression import Span


class Fault(Exception):
    """What is wrong, and where; the compiler shows it with a caret."""

    def __init__(self, message: str, start: int) -> None:
        super().__init__(message)
        self.message, self.start = message, start


class Source:
    """One rule's text, and questions about the nodes of its tree (trees and tokens of the parser)."""

    def __init__(self, text: str) -> None:
        self.text = text

    def span(self, node: Any) -> Span:
        """Where a node stands."""
        if not hasattr(node, "children"):
            return Span(start=node.start_pos, end=node.end_pos)
        if node.meta.empty:
            return Span(start=0, end=0)
        return Span(start=node.meta.start_pos, end=node.meta.end_pos)

    def quote(self, span: Span) -> str:
        """A piece of the rule as it was written, on one line and not longer than an error message bears."""
        piece = " ".join(self.text[span.start : span.end].split())
        return piece if len(piece) <= 80 else piece[:79] + "…"

    def fault(self, node: Any, message: str) -> Fault:
        """The Fault that points at a node."""
        return Fault(message, self.span(node).start)

    def literal_text(self, node: Any) -> str:
        """The content of a text literal. Raises Fault for any other node."""
        if node.data == "raw_text":
            return str(node.children[0])[2:-1]
        if node.data != "text":
            raise self.fault(node, "text in quotes is wanted here")
        try:
            return texts.unescape(str(node.children[0])[1:-1])
        except ValueError as error:
            raise self.fault(node, str(error)) from None

    def index(self, token: Any) -> int:
        """The number in square brackets."""
        if not str(token).isdecimal() or len(str(token)) > 4:
            raise self.fault(token, "an index is a whole number from 0")
        return int(str(token))

    def arguments(self, node: Any, least: int, most: int) -> list[Any]:
        """The nodes in the parentheses of a call or method."""
        given = list(node.children[-1].children)
        if not least <= len(given) <= most:
            wanted = str(least) if least == most else f"{least} or {most}"
            raise self.fault(node, f"{wanted} argument(s) are wanted in the parentheses, not {len(given)}")
        return given
