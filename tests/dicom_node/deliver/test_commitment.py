"""The archive's word that it keeps what was sent."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from dicom_node.deliver.commitment import CommitReport, Reference, parse_report, request
from dicom_node.deliver.destination import Outgoing
from dicom_node.deliver.dimse import send
from dicom_node.demo.pacs import StandInPacs
from dicom_node.receive.contexts import STORAGE_COMMITMENT, accepted
from storage.facts.errors import Rejected, Transient
from tests.dicom_node.deliver.making import Peer, free_port, new_uid, outgoing, peer, to


class Listener:
    """The node's side: an SCP that takes commitment reports."""

    def __init__(self, port: int = 0) -> None:
        self.reports: list[CommitReport] = []
        self.came = threading.Event()
        ae = AE("NODE")
        handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, self._take)]
        wanted = [c for c in accepted() if c.abstract_syntax == STORAGE_COMMITMENT]
        self.server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers, contexts=wanted)
        self.port = int(self.server.server_address[1])

    def _take(self, event: evt.Event) -> tuple[int, None]:
        self.reports.append(parse_report(event.event_information))
        self.came.set()
        return 0x0000, None


@pytest.fixture
def node() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.server.shutdown()


def references(files: list[Outgoing]) -> list[Reference]:
    return [Reference(sop_class_uid=f.sop_class_uid, sop_instance_uid=f.sop_instance_uid) for f in files]


def test_what_the_archive_holds_is_committed_and_what_it_lacks_is_named(
    tmp_path: Path, pacs: StandInPacs, node: Listener
) -> None:
    files = [outgoing(tmp_path, n) for n in range(3)]
    pacs.node = to(node.port, name="node", ae_title="NODE", calling_ae="PACS")
    transaction = new_uid()
    send(files[:2], to(pacs.port))

    early = request(to(pacs.port), transaction, references(files), linger_seconds=0)

    assert early is None
    assert node.came.wait(10)
    assert node.reports == [
        CommitReport(
            transaction_uid=transaction,
            committed=tuple(f.sop_instance_uid for f in files[:2]),
            failed=((files[2].sop_instance_uid, 0x0112),),
        )
    ]


def test_another_sop_class_under_the_same_uid_is_not_committed(
    tmp_path: Path, pacs: StandInPacs, node: Listener
) -> None:
    file = outgoing(tmp_path, 1)
    pacs.node = to(node.port, name="node", ae_title="NODE", calling_ae="PACS")
    send([file], to(pacs.port))
    wrong = Reference(sop_class_uid="1.2.840.10008.5.1.4.1.1.4", sop_instance_uid=file.sop_instance_uid)

    request(to(pacs.port), new_uid(), [wrong], linger_seconds=0)

    assert node.came.wait(10)
    assert node.reports[0].failed == ((file.sop_instance_uid, 0x0119),)


def test_a_report_on_the_same_association_is_taken_and_answered(tmp_path: Path) -> None:
    transaction = new_uid()
    answered: list[dict[int, bytes]] = []

    def script(it: Peer) -> None:
        it.accept()
        _, asked = it.read_message()
        it.answer(1, kind=0x8130)
        _event_report(it, asked)
        _, data = it.read()
        answered.append(
            {number: data[data.index(struct.pack("<HH", 0, number)) + 8 :][:2] for number in (0x100, 0x120)}
        )
        assert it.read()[0] == 5

    with peer(script) as port:
        report = request(to(port), transaction, references([outgoing(tmp_path, 1)]))

    assert report is not None
    assert report.transaction_uid == transaction
    assert len(report.committed) == 1
    assert answered == [{0x100: b"\x00\x81", 0x120: struct.pack("<H", 9)}]


def test_a_report_that_overtakes_the_answer_is_not_lost(tmp_path: Path) -> None:
    def script(it: Peer) -> None:
        it.accept()
        _, asked = it.read_message()
        _event_report(it, asked)
        it.read()
        it.answer(1, kind=0x8130)
        assert it.read()[0] == 5

    with peer(script) as port:
        assert request(to(port), new_uid(), references([outgoing(tmp_path, 1)])) is not None


def test_an_archive_that_hangs_up_after_accepting_has_accepted(tmp_path: Path) -> None:
    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        it.answer(1, kind=0x8130)

    with peer(script) as port:
        assert request(to(port), new_uid(), references([outgoing(tmp_path, 1)])) is None


def test_an_archive_that_offers_no_commitment_is_rejected_with_what_to_set(tmp_path: Path, pacs: StandInPacs) -> None:
    pacs.stop()
    pacs.misbehaviour.refuse = frozenset({STORAGE_COMMITMENT})
    pacs.start()

    with pytest.raises(Rejected, match=r"does not offer Storage Commitment.*storage_commitment = false"):
        request(to(pacs.port), new_uid(), references([outgoing(tmp_path, 1)]))


def test_an_archive_that_is_down_or_overloaded_is_asked_again(tmp_path: Path, pacs: StandInPacs) -> None:
    wanted = references([outgoing(tmp_path, 1)])

    with pytest.raises(Transient, match="nothing listens there"):
        request(to(free_port()), new_uid(), wanted)
    pacs.node = None
    with pytest.raises(Transient, match="0x0110, processing failure"):
        request(to(pacs.port), new_uid(), wanted)


def test_a_report_without_a_transaction_is_rejected() -> None:
    with pytest.raises(Rejected, match="names no transaction"):
        parse_report(Dataset())


def test_a_report_of_one_that_cannot_be_read_is_rejected() -> None:
    broken = Dataset()
    broken.TransactionUID = "1.2.3"
    broken.ReferencedSOPSequence = [Dataset()]  # names no object

    with pytest.raises(Rejected, match="cannot be read"):
        parse_report(broken)


def test_an_unreadable_report_on_the_same_association_does_not_undo_the_acceptance(tmp_path: Path) -> None:
    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        it.answer(1, kind=0x8130)
        _event_report(it, b"\x08\x00\x95\x11UI\xff\xff")
        assert it.read()[0] == 4  # answered all the same
        it.read()

    with peer(script) as port:
        assert request(to(port), new_uid(), references([outgoing(tmp_path, 1)]), linger_seconds=0.3) is None


def _event_report(it: Peer, information: bytes) -> None:
    """N-EVENT-REPORT with the request's own references as event information: all committed."""
    body = struct.pack("<HHLH", 0, 0x0100, 2, 0x0100) + struct.pack("<HHLH", 0, 0x0110, 2, 9)
    body += struct.pack("<HHLH", 0, 0x0800, 2, 1) + struct.pack("<HHLH", 0, 0x1002, 2, 1)
    body = struct.pack("<HHLL", 0, 0, 4, len(body)) + body
    it.link.sendall(struct.pack(">BxLLBB", 4, len(body) + 6, len(body) + 2, 1, 3) + body)
    it.link.sendall(struct.pack(">BxLLBB", 4, len(information) + 6, len(information) + 2, 1, 2) + information)
