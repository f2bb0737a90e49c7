"""What this node accepts: every storage SOP class in every transfer syntax, C-ECHO, Storage Commitment reports,
MPPS, Instance Availability Notification and the input readiness of UPS."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.uid import UID, AllTransferSyntaxes, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.peers import PeerSection

VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
PERFORMED_STEP = "1.2.840.10008.3.1.2.3.3"  # Modality Performed Procedure Step
AVAILABILITY = "1.2.840.10008.5.1.4.33"  # Instance Availability Notification
UPS_PUSH = "1.2.840.10008.5.1.4.34.6.1"  # Unified Procedure Step - Push
UPS_EVENT = "1.2.840.10008.5.1.4.34.6.4"  # Unified Procedure Step - Event
#: What every peer may say, whatever it may store.
SERVICES = frozenset({VERIFICATION, STORAGE_COMMITMENT, PERFORMED_STEP, AVAILABILITY, UPS_PUSH, UPS_EVENT})

#: The acceptor's order wins: explicit first, so that a sender does not re-encode; implicit last.
TRANSFER_SYNTAXES: list[str | UID] = [
    ExplicitVRLittleEndian,
    *(uid for uid in AllTransferSyntaxes if uid not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)),
    ImplicitVRLittleEndian,
]

#: Retired or newer storage SOP classes that peers still send (PS3.4 B.5, PS3.6 Table A-1).
FURTHER_STORAGE = (
    "1.2.840.10008.5.1.4.1.1.3",  # Ultrasound Multi-frame Image Storage (Retired)
    "1.2.840.10008.5.1.4.1.1.5",  # Nuclear Medicine Image Storage (Retired)
    "1.2.840.10008.5.1.4.1.1.6",  # Ultrasound Image Storage (Retired)
    "1.2.840.10008.5.1.4.1.1.8",  # Standalone Overlay Storage (Retired)
    "1.2.840.10008.5.1.4.1.1.9",  # Standalone Curve Storage (Retired)
    "1.2.840.10008.5.1.4.1.1.10",  # Standalone Modality LUT Storage (Retired)
    "1.2.840.10008.5.1.4.1.1.11",  # Standalone VOI LUT Storage (Retired)
    "1.2.840.10008.5.1.4.1.1.12.3",  # X-Ray Angiographic Bi-Plane Image Storage (Retired)
    "1.2.840.10008.5.1.4.1.1.77.1",  # VL Image Storage (Retired)
    "1.2.840.10008.5.1.4.1.1.77.2",  # VL Multi-frame Image Storage (Retired)
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation Storage
    "1.2.840.10008.5.1.4.1.1.66.8",  # Height Map Segmentation Storage
)


def storage_classes() -> list[str]:
    """Every storage SOP class that the node takes."""
    return list(dict.fromkeys([*(str(cx.abstract_syntax) for cx in AllStoragePresentationContexts), *FURTHER_STORAGE]))


def accepted() -> list[PresentationContext]:
    """Every presentation context that the SCP supports."""
    contexts = [build_context(uid, TRANSFER_SYNTAXES) for uid in storage_classes()]
    for uid in (VERIFICATION, PERFORMED_STEP, AVAILABILITY, UPS_PUSH):
        contexts.append(build_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]))
    for uid in (STORAGE_COMMITMENT, UPS_EVENT):
        reports = build_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        reports.scu_role, reports.scp_role = True, True  # the peer calls us as SCP (PS3.4 J.3.3 and CC.2.4)
        contexts.append(reports)
    return contexts


def offered(contexts: Iterable[PresentationContext], peer: PeerSection) -> list[PresentationContext]:
    """What of it a peer is offered: all services, and the storage that its ``sop_classes`` and ``transfer_syntaxes``
    name."""
    found = []
    for context in contexts:
        abstract = str(context.abstract_syntax)
        if abstract in SERVICES:
            found.append(context)
            continue
        syntaxes = [
            uid for uid in context.transfer_syntax or [] if not peer.transfer_syntaxes or uid in peer.transfer_syntaxes
        ]
        if syntaxes and (not peer.sop_classes or abstract in peer.sop_classes):
            found.append(build_context(abstract, list(syntaxes)))
    return found
