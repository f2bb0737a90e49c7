"""Commitment reports that come twice, late, for others or incomplete, taken by the stage with a real ledger."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from dicom_node.deliver import command, commitment
from dicom_node.deliver.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, CommitReport, Reference
from dicom_node.deliver.stage import commit, take_reports
from dicom_node.demo.pacs import StandInPacs
from storage.facts.task import Kind, Later, Next, Task
from storage.ledger import Ledger
from tests.dicom_node.deliver.making import Peer, peer, to
from tests.dicom_node.results.test_fallback import Site

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def site(ledger: Ledger, tmp_path: Path) -> Iterator[Site]:
    with StandInPacs(tmp_path / "pacs") as pacs:
        yield Site(ledger=ledger, pacs=pacs, commitment=True)


def information(transaction: str, committed: Sequence[str], failed: Sequence[str] = ()) -> Dataset:
    def references(uids: Sequence[str]) -> list[Reference]:
        return [Reference(sop_class_uid=CT, sop_instance_uid=uid) for uid in uids]

    report = commitment.action_information(transaction, references(committed))
    if failed:
        report.FailedSOPSequence = commitment.action_information("1.2", references(failed)).ReferencedSOPSequence
        for item in report.FailedSOPSequence:
            item.FailureReason = 0x0112
    return report


def delivered(site: Site) -> tuple[Next, list[str]]:
    """A result that is there; the COMMIT task, enqueued, and the objects."""
    done = site.deliver(site.say())
    [asked] = done.follow
    with site.ledger.begin("test") as tx:
        tx.queue.enqueue(asked)
        return asked, sorted(tx.predictions.delivered("run", "pacs"))


def asks(site: Site, item: Next, transaction: str) -> None:
    with site.ledger.begin("test") as tx:
        tx.predictions.request_commitment(transaction, item.key, "pacs")


def state(site: Site) -> tuple[set[str], set[str]]:
    """What counts as delivered, and what of it is not committed yet."""
    with site.ledger.begin_reading() as tx:
        return tx.predictions.delivered("run", "pacs"), tx.predictions.uncommitted("run", "pacs")


def claimed(site: Site) -> Task:
    with site.ledger.begin("test") as tx:
        task = tx.queue.claim([Kind.COMMIT], 30.0)
    assert task is not None
    return task


def test_a_report_for_an_unknown_transaction_changes_nothing(site: Site) -> None:
    _, uids = delivered(site)
    assert take_reports(site.ledger, "test")(2, information("1.2.99", (), uids)) == 0x0110
    assert state(site) == (set(uids), set(uids))


def test_a_report_that_comes_twice_is_taken_twice_and_means_the_same(site: Site) -> None:
    item, uids = delivered(site)
    asks(site, item, "1.2.1")
    take = take_reports(site.ledger, "test")
    assert [take(1, information("1.2.1", uids)) for _ in range(2)] == [0, 0]
    assert state(site) == (set(uids), set())


def test_a_late_report_does_not_undo_what_was_kept_in_the_end(site: Site) -> None:
    item, uids = delivered(site)
    asks(site, item, "1.2.1")
    asks(site, item, "1.2.2")
    take = take_reports(site.ledger, "test")
    assert take(1, information("1.2.2", uids)) == 0
    task = claimed(site)
    with site.ledger.begin("test") as tx:
        tx.queue.finish(task, (), {})

    assert take(2, information("1.2.1", uids[1:], uids[:1])) == 0

    assert state(site) == (set(uids), set())
    assert [row["failed"] for row in site.said("storage commitment")] == [{}, {}]


def test_what_a_report_calls_failed_is_sent_again_while_somebody_waits(site: Site) -> None:
    item, uids = delivered(site)
    asks(site, item, "1.2.1")
    assert take_reports(site.ledger, "test")(2, information("1.2.1", uids[1:], uids[:1])) == 0
    assert state(site) == (set(uids[1:]), set())


def test_what_a_report_leaves_out_is_asked_for_again_but_not_at_once(site: Site) -> None:
    """An archive that always leaves it out would else be asked as fast as it answers."""
    item, uids = delivered(site)
    asks(site, item, "1.2.1")
    take_reports(site.ledger, "test")(1, information("1.2.1", uids[1:]))
    before = time.time()
    task = claimed(site)

    result = commit(site.ledger, site.routes, "test").work(task)

    assert isinstance(result, Later)
    assert before < result.at <= time.time() + 5.0
    assert "left out" in result.why
    assert site.said("commitment requested") == []
    assert state(site) == (set(uids), {uids[0]})


def test_a_report_on_an_earlier_request_is_taken_on_the_association_of_a_later_one() -> None:
    taken: list[CommitReport] = []

    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        it.answer(1, kind=0x8130)
        for transaction in ("1.2.1", "1.2.7", "1.2.2"):
            it.link.sendall(event(information(transaction, ["1.2.3"])))
        statuses = [command.decode(it.read()[1][6:])[command.STATUS] for _ in range(3)]
        assert [struct.unpack("<H", one)[0] for one in statuses] == [0, 0x0110, 0]
        assert it.read()[0] == 5

    def take(report: CommitReport) -> bool:
        taken.append(report)
        return report.transaction_uid == "1.2.1"

    with peer(script) as port:
        asked = [Reference(sop_class_uid=CT, sop_instance_uid="1.2.3")]
        report = commitment.request(to(port), "1.2.2", asked, 10.0, take)

    assert report is not None
    assert report.transaction_uid == "1.2.2"
    assert [one.transaction_uid for one in taken] == ["1.2.1", "1.2.7"]


def event(report: Dataset) -> bytes:
    """An N-EVENT-REPORT-RQ in two PDUs."""
    head = command.encode(
        {
            command.COMMAND_FIELD: command.N_EVENT_REPORT_RQ, command.MESSAGE_ID: 9, command.EVENT_TYPE: 1,
            command.AFFECTED_CLASS: PUSH_MODEL, command.AFFECTED_INSTANCE: PUSH_MODEL_INSTANCE,
            command.DATA_SET_TYPE: command.A_DATA_SET,
        }
    )  # fmt: skip
    data = encode(report, False, True) or b""
    return b"".join(
        struct.pack(">BxLLBB", 4, len(raw) + 6, len(raw) + 2, 1, control) + raw
        for raw, control in ((head, 3), (data, 2))
    )
