"""What DICOM's refusal codes mean to the person who has to mend it."""

from __future__ import annotations

from dicom_node.deliver.destination import Destination

#: A-ASSOCIATE-RJ by source and reason (PS3.8 Table 9-21).
_REJECTIONS = {
    (1, 1): "it gives no reason: look into its log",
    (1, 2): "it does not know the DICOM application context: is this a DICOM port?",
    (1, 3): "it does not know the calling AE title {calling}: enter {calling} with this node's address there",
    (1, 7): "it does not answer to the AE title {called}: correct the AE title of destination {name}",
    (2, 1): "it gives no reason, and says the fault may pass",
    (2, 2): "it does not speak this version of the DICOM protocol",
    (3, 1): "it is congested for now",
    (3, 2): "it has as many associations as it allows: raise its limit if this persists",
}

#: A-ABORT reasons of the service provider (PS3.8 Table 9-26).
_ABORTS = {
    0: "no reason given",
    1: "it did not recognise a PDU",
    2: "it did not expect a PDU",
    4: "it did not recognise a PDU parameter",
    5: "it did not expect a PDU parameter",
    6: "it found an invalid PDU parameter",
}

#: Result of a proposed presentation context (PS3.8 Table 9-18).
CONTEXT_RESULTS = {
    1: "it refused the presentation context",
    2: "it refused the presentation context without a reason",
    3: "it does not support the SOP class",
    4: "it does not support the transfer syntax",
}

#: Statuses that need more than their number (PS3.7 Annex C, PS3.4 B.2.3 and CC.2.5.4).
_STATUSES = {
    0x0105: "no such attribute",
    0x0106: "an attribute has an invalid value",
    0x0107: "it did not take all attributes",
    0x0110: "processing failure",
    0x0111: "it has this SOP instance already",
    0x0112: "no such SOP instance",
    0x0115: "an argument is invalid",
    0x0117: "the SOP Instance UID is invalid",
    0x0118: "no such SOP class",
    0x0119: "the SOP instance is of another SOP class",
    0x0120: "an attribute is missing",
    0x0121: "an attribute has no value",
    0x0122: "it does not support the SOP class",
    0x0124: "it does not authorise this node to do that",
    0x0131: "it cannot commit now, the work would be duplicate",
    0x0210: "duplicate message ID",
    0x0211: "it does not know the operation",
    0x0212: "it found an argument of the wrong type",
    0x0213: "it has no resources left",
    0xB000: "it coerced attributes",
    0xB006: "it discarded attributes",
    0xB007: "the data set does not match the SOP class",
    0xC309: "it takes new workitems only in the state SCHEDULED",
}
_RANGES = {0xA700: "it is out of resources", 0xA900: "the data set does not match the SOP class"}


def rejection(destination: Destination, result: int, source: int, reason: int) -> str:
    """Why an association was rejected, and what to do (PS3.8 9.3.4)."""
    why = _REJECTIONS.get((source, reason), f"source {source}, reason {reason}: look into its log")
    why = why.format(calling=destination.calling_ae, called=destination.ae_title, name=destination.name)
    lasting = "" if result == 1 else " (for now)"
    return f"{destination} rejected the association{lasting}: {why}"


def abortion(destination: Destination, source: int, reason: int) -> str:
    """Why the peer aborted (PS3.8 9.3.8)."""
    why = _ABORTS.get(reason, f"reason {reason}") if source == 2 else "its log should say why"
    return f"{destination} aborted the association: {why}"


def meaning(status: int) -> str:
    """A response status for people: its number and what it says."""
    text = _STATUSES.get(status) or _RANGES.get(status & 0xFF00)
    if text is None:
        text = "it cannot understand the data set" if status & 0xF000 == 0xC000 else "look into its log"
    return f"status 0x{status:04X}, {text}"
