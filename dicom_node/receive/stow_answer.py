"""What a STOW-RS sender is answered: the Store Instances Response (PS3.18 10.5.3), as DICOM JSON or XML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from dicom_node.receive.intake import OUT_OF_RESOURCES
from dicom_node.receive.parts import Stored, succeeded

JSON, XML = "application/dicom+json", "application/dicom+xml"
#: Keyword and VR of what the response has (PS3.6).
_ATTRIBUTES = {
    "00081150": ("ReferencedSOPClassUID", "UI"),
    "00081155": ("ReferencedSOPInstanceUID", "UI"),
    "00081190": ("RetrieveURL", "UR"),
    "00081197": ("FailureReason", "US"),
    "00081198": ("FailedSOPSequence", "SQ"),
    "00081199": ("ReferencedSOPSequence", "SQ"),
    "0008119A": ("OtherFailuresSequence", "SQ"),
}


def status_of(stored: Sequence[Stored]) -> int:
    """The HTTP status (PS3.18 Table 10.5.3-1): 200 all stored, 202 some, 409 none, 400 for a body without parts.

    503 where none is stored for want of room alone: to a sender a conflict is final, and this is not.
    """
    good = sum(succeeded(one) for one in stored)
    if not stored:
        return 400
    if all(one.status & 0xFF00 == OUT_OF_RESOURCES for one in stored):
        return 503
    return 200 if good == len(stored) else 202 if good else 409


def media_type(accept: str) -> str:
    """DICOM JSON unless the sender asks for XML alone."""
    return XML if XML in accept and JSON not in accept else JSON


def document(stored: Sequence[Stored], media: str) -> bytes:
    """The response. Parts that do not tell who they are, are among the other failures.

    Retrieve URL is of type 2 (PS3.18 Table I.1-1): there, and empty, for nothing is retrieved from this node.
    """
    sequences: dict[str, list[dict[str, Any]]] = {"00081199": [], "00081198": [], "0008119A": []}
    for one in stored:
        item: dict[str, Any] = {"00081150": one.sop_class_uid, "00081155": one.sop_instance_uid}
        if succeeded(one):
            sequences["00081199"].append(item | {"00081190": None})
        elif one.sop_instance_uid:
            sequences["00081198"].append(item | {"00081197": one.status})
        else:
            sequences["0008119A"].append({"00081197": one.status})
    filled = {tag: items for tag, items in sorted(sequences.items()) if items}
    return _json(filled) if media == JSON else _xml(filled)


def _json(sequences: dict[str, list[dict[str, Any]]]) -> bytes:
    """PS3.18 Annex F."""
    found: dict[str, Any] = {"00081190": {"vr": "UR"}}
    for tag, items in sequences.items():
        found[tag] = {"vr": "SQ", "Value": [{t: _value(t, value) for t, value in item.items()} for item in items]}
    return json.dumps(found).encode()


def _value(tag: str, value: Any) -> dict[str, Any]:
    vr = _ATTRIBUTES[tag][1]
    return {"vr": vr} if value is None else {"vr": vr, "Value": [value]}


def _xml(sequences: dict[str, list[dict[str, Any]]]) -> bytes:
    """PS3.19 Annex A.1."""
    root = ElementTree.Element("NativeDicomModel", {"xmlns": "http://dicom.nema.org/PS3.19/models/NativeDICOM"})
    _attribute(root, "00081190")
    for tag, items in sequences.items():
        sequence = _attribute(root, tag)
        for number, item in enumerate(items, 1):
            node = ElementTree.SubElement(sequence, "Item", {"number": str(number)})
            for inner, value in item.items():
                attribute = _attribute(node, inner)
                if value is not None:
                    ElementTree.SubElement(attribute, "Value", {"number": "1"}).text = str(value)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _attribute(parent: ElementTree.Element, tag: str) -> ElementTree.Element:
    keyword, vr = _ATTRIBUTES[tag]
    return ElementTree.SubElement(parent, "DicomAttribute", {"tag": tag, "vr": vr, "keyword": keyword})
