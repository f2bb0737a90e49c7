"""A derived fact with the sentence that justifies it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dicom_node.route.expression import Scalar
from dicom_node.route.reading import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A fact that the node derived. None means missing: the evidence then says what was lacking."""

    value: Scalar | None
    evidence: str


#: Where people and scanners write in words what a series is, from the particular to the general.
DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "StudyDescription")

_LOOKED_AT = 256  #: characters of a description; LO holds 64, so more is no description


def said(reading: Reading, pattern: re.Pattern[str], keywords: tuple[str, ...] = DESCRIPTIONS) -> str:
    """A sentence that says in which attribute the pattern was found; empty when in none.

    Underscores count as blanks, for scanners use both.
    """
    for keyword in keywords:
        text = reading.text(keyword)[:_LOOKED_AT]
        match = pattern.search(text.replace("_", " "))
        if match is not None:
            return f'{keyword} says "{text[match.start() : match.end()]}"'
    return ""


def words(*patterns: str) -> re.Pattern[str]:
    """Any of these as whole words, without regard to case."""
    return re.compile(r"(?<![A-Za-z])(?:" + "|".join(patterns) + r")(?![A-Za-z])", re.IGNORECASE)
