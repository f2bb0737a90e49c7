"""What a report must be to be read right: TID 1500, 1410, 1419 and 4019 of PS3.16, and what viewers crash on.

OHIF, seen with 3.13: one group of a measurement report without outline, tracking identifier or image leaves the whole
viewport black.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_node.results import check_group
from dicom_node.results.reading import code_of, first, text_of

_BASIC_TEXT = "1.2.840.10008.5.1.4.1.1.88.11"
_MEASUREMENTS = (("126000", "DCM"), "1500")
_TITLES = {
    _BASIC_TEXT: (("18748-4", "LN"), "2000"),
    "1.2.840.10008.5.1.4.1.1.88.33": _MEASUREMENTS,
    "1.2.840.10008.5.1.4.1.1.88.34": _MEASUREMENTS,
}
#: Relationships of the content that we write (PS3.3 A.35.1 and A.35.13): what may stand under what, and how.
_RELATIONS = {
    ("CONTAINER", "CONTAINS"): {"CODE", "NUM", "SCOORD", "SCOORD3D", "TEXT", "UIDREF", "IMAGE", "CONTAINER"},
    ("CONTAINER", "HAS OBS CONTEXT"): {"TEXT", "CODE", "UIDREF"},
    ("CONTAINER", "HAS ACQ CONTEXT"): {"TEXT", "CODE", "UIDREF"},
    ("CONTAINER", "HAS CONCEPT MOD"): {"TEXT", "CODE"},
    ("NUM", "HAS CONCEPT MOD"): {"TEXT", "CODE"},
    ("NUM", "HAS PROPERTIES"): {"TEXT", "CODE", "NUM"},
    ("SCOORD", "SELECTED FROM"): {"IMAGE"},
}
_BASIC_TYPES = {"CONTAINER", "TEXT", "CODE", "UIDREF"}  #: IMAGE is allowed, but OHIF goes black over it
_VALUES = {
    "TEXT": "TextValue", "CODE": "ConceptCodeSequence", "NUM": "MeasuredValueSequence", "UIDREF": "UID",
    "IMAGE": "ReferencedSOPSequence", "SCOORD": "GraphicData", "SCOORD3D": "GraphicData",
    "CONTAINER": "ContentSequence",
}  # fmt: skip
VOLUMETRIC_SERIES = 9011
_UNNAMED = {"IMAGE", "SCOORD"}  #: value types whose concept name is optional
_STATUS = {("111222", "DCM"), ("111223", "DCM"), ("111224", "DCM"), ("111225", "DCM")}
_CATEGORY = {("RID49480", "RADLEX"), ("RID49481", "RADLEX"), ("RID49482", "RADLEX")}
#: CID 100, as far as used.
_PROCEDURES = {("363679005", "SCT"), ("25045-6", "LN"), ("25056-3", "LN"), ("44136-0", "LN"), ("49118-3", "LN")}
_DEVICE_UID, _OBSERVER, _LANGUAGE = ("121012", "DCM"), ("121005", "DCM"), ("121049", "DCM")
_ALGORITHM = {("111001", "DCM"): "Algorithm Name", ("111003", "DCM"): "Algorithm Version"}


def name(item: Dataset) -> tuple[str, str]:
    """The concept name of a content item."""
    return code_of(first(item, "ConceptNameCodeSequence"))


def children(item: Dataset) -> list[Dataset]:
    """The content items right under one."""
    return list(item.get("ContentSequence") or [])


def descendants(item: Dataset) -> Iterator[Dataset]:
    """All content items under one, depth first."""
    for child in children(item):
        yield child
        yield from descendants(child)


def faults(dataset: Dataset) -> Iterator[str]:
    """What is wrong with a Basic Text or Comprehensive 3D SR, one sentence each."""
    title, template = _TITLES[str(dataset.SOPClassUID)]
    if dataset.get("Modality") != "SR" or dataset.get("ValueType") != "CONTAINER":
        yield "it is no SR document with a container at its root"
    if name(dataset) != title:
        yield f"its title is not {title}"
    if text_of(first(dataset, "ContentTemplateSequence"), "TemplateIdentifier") != template:
        yield f"ContentTemplateSequence does not name TID {template}"
    for keyword, wanted in (("VerificationFlag", "UNVERIFIED"), ("PreliminaryFlag", "PRELIMINARY")):
        if dataset.get(keyword) != wanted:
            yield f"{keyword} is not {wanted}"
    if dataset.get("CompletionFlag") not in ("COMPLETE", "PARTIAL"):
        yield "CompletionFlag is missing"
    yield from _items(dataset, dataset.SOPClassUID == _BASIC_TEXT)
    yield from _evidence(dataset)
    yield from _context(dataset)
    yield from _outcome(dataset)
    if dataset.SOPClassUID == _BASIC_TEXT:
        yield from _text(dataset)
    else:
        yield from _measurements(dataset)


def _items(parent: Dataset, basic: bool) -> Iterator[str]:
    """Value types, values, names and relationships, all the way down."""
    for child in children(parent):
        kind, relation = text_of(child, "ValueType"), text_of(child, "RelationshipType")
        what = f"{kind or 'an item'} {text_of(first(child, 'ConceptNameCodeSequence'), 'CodeMeaning')!r}"
        if kind not in _RELATIONS.get((text_of(parent, "ValueType"), relation), set()):
            yield f"{what} may not stand under {text_of(parent, 'ValueType')} as {relation or 'nothing'}"
        if basic and kind not in _BASIC_TYPES:
            yield f"{what} is not allowed in a Basic Text SR"
        if kind in _VALUES and not child.get(_VALUES[kind]):
            yield f"{what} has no {_VALUES[kind]}"
        if kind not in _UNNAMED and not all(name(child)):
            yield f"{what} has no concept name"
        if kind == "CONTAINER" and child.get("ContinuityOfContent") not in ("SEPARATE", "CONTINUOUS"):
            yield f"{what} has no ContinuityOfContent"
        yield from _items(child, basic)


def _evidence(dataset: Dataset) -> Iterator[str]:
    """Every object referred to is in the evidence, under the same SOP class (PS3.3 C.17.2.3)."""
    listed = {
        (text_of(one, "ReferencedSOPInstanceUID"), text_of(one, "ReferencedSOPClassUID"))
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence") or []
        for series in study.get("ReferencedSeriesSequence") or []
        for one in series.get("ReferencedSOPSequence") or []
    }
    if not listed:
        yield "CurrentRequestedProcedureEvidenceSequence is missing or empty"
    images = [item for item in descendants(dataset) if item.get("ValueType") in ("IMAGE", "COMPOSITE")]
    if not images and dataset.SOPClassUID != _BASIC_TEXT:
        yield "it refers to no image"
    for item in images:
        target = first(item, "ReferencedSOPSequence")
        pair = (text_of(target, "ReferencedSOPInstanceUID"), text_of(target, "ReferencedSOPClassUID"))
        if pair not in listed:
            yield f"image {pair[0]} is referred to but is not in the evidence"


def _context(dataset: Dataset) -> Iterator[str]:
    """Language and device observer (TID 1204, 1002, 1004)."""
    given = {name(child): child for child in children(dataset)}
    if _LANGUAGE not in given:
        yield "the language is not stated (TID 1204)"
    observer = code_of(first(given.get(_OBSERVER, Dataset()), "ConceptCodeSequence"))
    if observer != ("121007", "DCM") or not text_of(given.get(_DEVICE_UID, Dataset()), "UID"):
        yield "the device observer is not identified (TID 1004)"


def _outcome(dataset: Dataset) -> Iterator[str]:
    """Run status (CID 6042) once, presence from CID 240, urgency from CID 7035, the algorithm (TID 4019)."""
    items = list(descendants(dataset))
    coded = [(name(i), code_of(first(i, "ConceptCodeSequence"))) for i in items if i.get("ValueType") == "CODE"]
    states = [value for key, value in coded if key == ("111004", "DCM")]
    if len(states) != 1 or states[0] not in _STATUS:
        yield "the run status (111004, DCM) is not stated exactly once from CID 6042"
    elif states[0] != ("111222", "DCM") and ("111052", "DCM") not in {key for key, _ in coded}:
        yield "the run did not succeed, but no reason (111052, DCM) is given"
    if any(key == ("260870009", "SCT") and value not in _CATEGORY for key, value in coded):
        yield "the priority is not from CID 7035"
    for key, label in _ALGORITHM.items():
        if key not in {name(item) for item in items}:
            yield f"{label} is missing (TID 4019)"


def _text(dataset: Dataset) -> Iterator[str]:
    sections = [child for child in children(dataset) if child.get("ValueType") == "CONTAINER"]
    findings = [section for section in sections if name(section) == ("121070", "DCM")]
    if len(findings) != 1 or not any(item.get("ValueType") == "TEXT" for item in children(findings[0])):
        yield "there is no Findings section with a sentence in it: silence could be read as normal"


def _is_volumetric(dataset: Dataset) -> bool:
    """Whether it is the report for readers that follow the volume template: the number of its series says so."""
    return bool(dataset.get("SeriesNumber") == VOLUMETRIC_SERIES)


def _measurements(dataset: Dataset) -> Iterator[str]:
    given = {name(child): child for child in children(dataset)}
    procedure = code_of(first(given.get(("121058", "DCM"), Dataset()), "ConceptCodeSequence"))
    if procedure not in _PROCEDURES:
        yield "Procedure reported (121058, DCM) is missing or not from CID 100"
    containers = [child for child in children(dataset) if name(child) == ("126010", "DCM")]
    if len(containers) != 1:
        yield f"there are {len(containers)} Imaging Measurements containers (126010, DCM), not one"
        return
    groups = children(containers[0])
    if not groups:
        yield "Imaging Measurements has no group"
    tracked = []
    for index, group in enumerate(groups, 1):
        if name(group) != ("125007", "DCM"):
            yield f"item {index} of Imaging Measurements is no Measurement Group (125007, DCM)"
            continue
        found = check_group.faults(group, volumetric=_is_volumetric(dataset))
        yield from (f"group {index}: {fault}" for fault in found)
        tracked += [text_of(child, "UID") for child in children(group) if name(child) == ("112040", "DCM")]
    if len(set(tracked)) < len(tracked):
        yield "two groups have the same tracking UID: viewers merge them"
