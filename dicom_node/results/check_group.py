"""What one measurement group must hold: TID 1410 with TID 1419 numbers and TID 4019."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.results.reading import code_of, first, text_of

_ONCE = {  # concept name: value type, relationship, what it is called
    ("112039", "DCM"): ("TEXT", "HAS OBS CONTEXT", "Tracking Identifier"),
    ("112040", "DCM"): ("UIDREF", "HAS OBS CONTEXT", "Tracking Unique Identifier"),
    ("121071", "DCM"): ("CODE", "CONTAINS", "Finding"),
    ("111001", "DCM"): ("TEXT", "HAS CONCEPT MOD", "Algorithm Name"),
    ("111003", "DCM"): ("TEXT", "HAS CONCEPT MOD", "Algorithm Version"),
    ("111000", "DCM"): ("CODE", "HAS CONCEPT MOD", "Algorithm Family"),
}
_REGION = ("111030", "DCM")
_PROBABILITY = ("122157", "DCM")


def faults(group: Dataset) -> Iterator[str]:
    """What is wrong with a group, one sentence each."""
    items = list(group.get("ContentSequence") or [])
    names = [code_of(first(item, "ConceptNameCodeSequence")) for item in items]
    for concept, (kind, relation, called) in _ONCE.items():
        found = [item for item, name in zip(items, names, strict=True) if name == concept]
        if len(found) != 1:
            yield f"{called} is there {len(found)} times, not once"
        elif (found[0].get("ValueType"), found[0].get("RelationshipType")) != (kind, relation):
            yield f"{called} is not a {kind} that {relation}"
        elif kind == "UIDREF" and not UID(text_of(found[0], "UID")).is_valid:
            yield f"{called} is no valid UID"
    outlines = [item for item in items if item.get("ValueType") == "SCOORD"]
    if len(outlines) != 1:
        yield f"it has {len(outlines)} outlines (SCOORD), not one: viewers go blank or show only the first"
    for outline in outlines:
        yield from _outline(outline)
    for item, name in zip(items, names, strict=True):
        if item.get("ValueType") == "NUM":
            yield from _number(item, name)


def _outline(outline: Dataset) -> Iterator[str]:
    if code_of(first(outline, "ConceptNameCodeSequence")) != _REGION:
        yield "its outline is not named Image Region (111030, DCM)"
    images = list(outline.get("ContentSequence") or [])
    if len(images) != 1 or images[0].get("ValueType") != "IMAGE":
        yield "its outline is not selected from exactly one image"
    if outline.get("GraphicType") != "POLYLINE":
        yield "its outline is no POLYLINE"
    points = [float(v) for v in outline.get("GraphicData") or []]
    if len(points) < 8 or len(points) % 2 or points[:2] != points[-2:]:
        yield "its outline is not closed or has fewer than three corners"
    if not all(math.isfinite(v) and v >= 0 for v in points):
        yield "its outline leaves the image"


def _number(item: Dataset, name: tuple[str, str]) -> Iterator[str]:
    called = text_of(first(item, "ConceptNameCodeSequence"), "CodeMeaning")
    measured = first(item, "MeasuredValueSequence")
    value, unit = measured.get("NumericValue"), code_of(first(measured, "MeasurementUnitsCodeSequence"))
    if value is None or not math.isfinite(float(value)):
        yield f"{called} has no finite value"
    elif name == _PROBABILITY and not (0 <= float(value) <= 1 and unit[0] == "1"):
        yield f"{called} is not between 0 and 1 without unit"
    if not unit[0] or unit[1] != "UCUM":
        yield f"{called} has no UCUM unit"
