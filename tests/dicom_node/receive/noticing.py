"""Peers that say something of objects, objects that arrive, and what the node then knows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role
from pynetdicom.association import Association

from dicom_node.config import ReceiveSection
from dicom_node.receive.assembly import evidence_of
from dicom_node.receive.completeness import AskTheSource, QuietTime
from dicom_node.receive.contexts import AVAILABILITY, PERFORMED_STEP, UPS_EVENT, UPS_PUSH
from storage.facts.arrival import Arrival, Stated
from storage.facts.study import Instance
from storage.ledger import Ledger
from tests.dicom_node.receive.conftest import CT, MakeReceiver, Receiver

STUDY, SERIES = "1.2.3", "1.2.3.1"
SETTINGS = ReceiveSection()
POLICY = AskTheSource(quiet=QuietTime(settings=SETTINGS), askable=frozenset({"PACS"}))


@pytest.fixture
def receiver(make_receiver: MakeReceiver) -> Receiver:
    """One that takes anybody."""
    return make_receiver(accept_unknown_peers=True)


@contextmanager
def associated(receiver: Receiver, calling: str = "SCANNER") -> Iterator[Association]:
    ae = AE(ae_title=calling)
    for uid in (PERFORMED_STEP, AVAILABILITY, UPS_PUSH, UPS_EVENT):
        ae.add_requested_context(uid)
    reporting = [build_role(UPS_EVENT, scp_role=True)]
    assoc = ae.associate("127.0.0.1", receiver.scp.port, ae_title="DICOM_NODE", ext_neg=reporting)  # type: ignore[arg-type]
    assert assoc.is_established
    yield assoc
    assoc.release()


def references(numbers: range) -> list[Dataset]:
    items = []
    for number in numbers:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, f"{SERIES}.{number}"
        items.append(item)
    return items


def arrive(ledger: Ledger, *numbers: int, series: str = SERIES, at: float = 0.0) -> None:
    arrivals = [
        Arrival(
            instance=Instance(
                sop_instance_uid=f"{series}.{n}", sop_class_uid=CT, transfer_syntax_uid="1.2.840.10008.1.2.1",
                series_uid=series, study_uid=STUDY, path=f"{series}/{n}", size=1, digest=f"{n:064x}",
                header={"Modality": "CT"},
            ),
            association=None, calling_ae="PACS", called_ae="N", received_at=at or time.time(),
        )
        for n in numbers
    ]  # fmt: skip
    with ledger.begin("test") as tx:
        tx.studies.record(arrivals)


def stated(ledger: Ledger, series: str = SERIES) -> Stated:
    with ledger.begin_reading() as tx:
        evidence = evidence_of(tx, series)
    assert evidence is not None
    return evidence.stated
