"""What a header says about anatomy, contrast agent, kernel and pulse sequence, in words that can be matched."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from pydicom.dataset import Dataset

from inference.imaging.header import items, number, texts
from inference.packages.accepts import Sequence, Timing

_DESCRIPTIONS = ("SeriesDescription", "ProtocolName")
_NO_AGENT = frozenset({"NO", "NONE", "N", "WITHOUT", "NON"})


def matching(words: Iterable[str], patterns: Iterable[str]) -> str | None:
    """The first pattern that matches a word, without its stars, or None.

    The pattern and not the word is returned, for a description may hold a patient's name.
    """
    wanted = [pattern.upper() for pattern in patterns]
    found = (pattern for word in words for pattern in wanted if fnmatchcase(word, pattern))
    return next((pattern.strip("*") for pattern in found), None)


def words_of(header: Dataset, keywords: Iterable[str]) -> list[str]:
    """The words of some attributes, upper-case, taken apart at everything that is neither letter nor digit."""
    found = (text for keyword in keywords for text in texts(header, keyword))
    return [word for text in found for word in re.split(r"[^0-9A-Z*]+", text.upper()) if word]


def anatomy_words(header: Dataset) -> list[str]:
    """Words that may name a body region."""
    words = words_of(header, ("BodyPartExamined", "StudyDescription", *_DESCRIPTIONS))
    for item in items(header, "AnatomicRegionSequence"):
        words += words_of(item, ("CodeMeaning",))
    return words


def sequence_words(header: Dataset) -> list[str]:
    """Words that may name a pulse sequence."""
    return words_of(header, (*_DESCRIPTIONS, "SequenceName", "PulseSequenceName", "AcquisitionContrast"))


def has_agent(header: Dataset) -> bool | None:
    """Whether a contrast agent was given; None where the header does not say."""
    agent = texts(header, "ContrastBolusAgent")
    if agent:
        return agent[0].upper() not in _NO_AGENT
    return True if items(header, "ContrastBolusAgentSequence") else None


def kernel(header: Dataset) -> str | None:
    """The reconstruction kernel, upper-case."""
    return next((text.upper() for text in texts(header, "ConvolutionKernel")), None)


def is_timed(header: Dataset, timing: Timing) -> bool:
    """Whether everything that the timing asks for is stated and holds."""
    if not set(timing.scanning_sequence) <= set(texts(header, "ScanningSequence")):
        return False
    asked = (
        ("RepetitionTime", timing.repetition_time),
        ("EchoTime", timing.echo_time),
        ("InversionTime", timing.inversion_time),
    )
    for keyword, allowed in asked:
        value = number(header, keyword)
        if allowed is not None and (value is None or not allowed.holds(value)):
            return False
    return True


def is_known(header: Dataset, sequence: Sequence) -> bool:
    """Whether words or timing state the wanted contrast."""
    if matching(sequence_words(header), sequence.accept):
        return True
    return any(is_timed(header, timing) for timing in sequence.timing)
