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
_PROBABILITY, _THRESHOLD, _CERTAINTY = ("122157", "DCM"), ("122411", "DCM"), ("111012", "DCM")
_SEGMENT, _SURFACE = ("121191", "DCM"), ("121231", "DCM")
_SURFACES = {"POINT", "ELLIPSOID", "ELLIPSE", "POLYGON"}


def faults(group: Dataset, *, volumetric: bool = False) -> Iterator[str]:
    """What is wrong with a group, one sentence each.

    Only a group of the ``volumetric`` report may do without an outline on an image.
    """
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
    if volumetric:
        yield from _places(items, names)
    elif len(outlines) != 1:
        yield f"it has {len(outlines)} outlines (SCOORD), not one: viewers go blank or show only the first"
    for outline in outlines:
        yield from _outline(outline)
    for item, name in zip(items, names, strict=True):
        if item.get("ValueType") == "NUM":
            yield from _number(item, name)
    yield from _subjects(items, names)


def _places(items: list[Dataset], names: list[tuple[str, str]]) -> Iterator[str]:
    """Segments and surfaces of TID 1411, regions in the patient of TID 1410."""
    segments = [item for item, name in zip(items, names, strict=True) if name == _SEGMENT]
    surfaces = [item for item in items if item.get("ValueType") == "SCOORD3D"]
    if segments and surfaces:
        yield "it refers to a segment and to a surface: only one of them can be measured"
    for segment in segments:
        if not first(segment, "ReferencedSOPSequence").get("ReferencedSegmentNumber"):
            yield "its segment has no number"
    for surface in surfaces:
        points = [float(v) for v in surface.get("GraphicData") or []]
        if surface.get("GraphicType") not in _SURFACES or not points or len(points) % 3:
            yield "its surface is no shape of three coordinates a point"
        elif surface.GraphicType == "POLYGON" and (len(points) < 12 or points[:3] != points[-3:]):
            yield "its polygon in the patient is not closed"
        if not UID(text_of(surface, "ReferencedFrameOfReferenceUID")).is_valid:
            yield "its surface lies in no frame of reference"
        named = code_of(first(surface, "ConceptNameCodeSequence"))
        if named not in (_SURFACE, _REGION):
            yield "its surface is named neither Volume Surface nor Image Region"


def _subjects(items: list[Dataset], names: list[tuple[str, str]]) -> Iterator[str]:
    """Of what a probability, a certainty or an operating point is must be clear: two of the same are one too many."""
    for concept, called in ((_PROBABILITY, "probabilities"), (_THRESHOLD, "thresholds"), (_CERTAINTY, "certainties")):
        subjects = [_subject(item) for item, name in zip(items, names, strict=True) if name == concept]
        if len(set(subjects)) < len(subjects):
            yield f"two {called} are of the same, or do not say of what they are"


def _subject(item: Dataset) -> tuple[str, str]:
    """The finding that modifies a number; empty codes where it is the group's."""
    for child in item.get("ContentSequence") or []:
        if child.get("RelationshipType") == "HAS CONCEPT MOD" and child.get("ValueType") == "CODE":
            return code_of(first(child, "ConceptCodeSequence"))
    return "", ""


def _outline(outline: Dataset) -> Iterator[str]:
    if code_of(first(outline, "ConceptNameCodeSequence")) != _REGION:
        yield "its outline is not named Image Region (111030, DCM)"
    images = list(outline.get("ContentSequence") or [])
    if len(images) != 1 or images[0].get("ValueType") != "IMAGE":
        yield "its outline is not selected from exactly one image"
    points = [float(v) for v in outline.get("GraphicData") or []]
    if outline.get("GraphicType") not in ("POLYLINE", "POINT"):
        yield "its outline is neither POLYLINE nor POINT"
    if outline.get("GraphicType") == "POINT":
        if len(points) != 2:
            yield "its point has not two coordinates"
    elif len(points) < 8 or len(points) % 2 or points[:2] != points[-2:]:
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
    elif name == _CERTAINTY and not (0 <= float(value) <= 100 and unit[0] == "%"):
        yield f"{called} is not between 0 and 100 percent"
    if not unit[0] or unit[1] != "UCUM":
        yield f"{called} has no UCUM unit"
