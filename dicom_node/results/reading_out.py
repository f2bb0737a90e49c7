"""Reads a report out as plain text, from the object itself: what a viewer that shows it as text would say."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import TextWrapper

from pydicom.dataset import Dataset

from dicom_node.results.reading import first, text_of
from storage.facts.units import behind

_WIDTH = 96
_CONTEXT = ("HAS OBS CONTEXT", "HAS ACQ CONTEXT")
_SILENT = {"UIDREF", "IMAGE", "SCOORD", "COMPOSITE"}
_UNSAID = {"Image Library", "Tracking Identifier", "Finding category"}
_PLAIN = {"Finding", "Conclusion", "Comment"}  #: texts that need no name
_ALGORITHM = {"Algorithm Family", "Algorithm Parameters", "Algorithm Manufacturer"}


def lines(report: Dataset) -> list[str]:
    """The report, line by line: title, then each section with what it says."""
    said = [_meaning(report)]
    for item in report.get("ContentSequence", []):
        if item.get("RelationshipType") == "CONTAINS" and _meaning(item) not in _UNSAID:
            said += _read(item, 0)
    return [line for index, line in enumerate(said) if not _again(said, index)]


def _again(said: list[str], index: int) -> bool:
    """Whether a group names the algorithm that an earlier one named."""
    line = said[index].strip()
    return line.startswith("Algorithm ") and line in (earlier.strip() for earlier in said[:index])


def _read(item: Dataset, depth: int) -> Iterator[str]:
    name, kind = _meaning(item), item.get("ValueType")
    if kind in _SILENT or name in _UNSAID or item.get("RelationshipType") in _CONTEXT:
        return
    if kind == "CONTAINER":
        inner = [line for child in item.get("ContentSequence", []) for line in _read(child, depth + 1)]
        if inner:
            yield from ["", f"{_indent(depth)}{_heading(item, name)}", *inner]
    elif name not in _ALGORITHM:
        yield from _wrapped(_sentence(item, name), depth)


def _heading(item: Dataset, name: str) -> str:
    """A measurement group is called by what it is about."""
    if name == "Measurement Group":
        for child in item.get("ContentSequence", []):
            if _meaning(child) == "Finding" and child.get("ValueType") == "CODE":
                return f"{_value(child)}:"
    return f"{name}:"


def _sentence(item: Dataset, name: str) -> str:
    kind = item.get("ValueType")
    if kind == "CODE" and name == "Finding":
        return ""  # stands in the heading of its group
    if kind == "TEXT" and name in _PLAIN:
        return text_of(item, "TextValue")
    about = [_value(c) for c in item.get("ContentSequence", []) if c.get("ValueType") == "CODE"]
    about = [one for one in about if f"({one})" not in name]
    of = f" of {', '.join(about)}" if about else ""
    return f"{name}{of}: {_value(item)}"


def _value(item: Dataset) -> str:
    kind = item.get("ValueType")
    if kind == "CODE":
        return text_of(first(item, "ConceptCodeSequence"), "CodeMeaning")
    if kind == "NUM":
        measured = first(item, "MeasuredValueSequence")
        unit = first(measured, "MeasurementUnitsCodeSequence")
        number = text_of(measured, "NumericValue").removesuffix(".0")  # a DS of pydicom is a float
        return f"{number or 'not computed'}{behind(text_of(unit, 'CodeValue'))}"
    return text_of(item, "TextValue")


def _meaning(item: Dataset) -> str:
    return text_of(first(item, "ConceptNameCodeSequence"), "CodeMeaning")


def _wrapped(sentence: str, depth: int) -> list[str]:
    hang, line = _indent(depth), " ".join(sentence.split())  # a text has line breaks of its own
    return TextWrapper(_WIDTH, initial_indent=hang, subsequent_indent=hang + "  ").wrap(line)


def _indent(depth: int) -> str:
    return "  " * depth
