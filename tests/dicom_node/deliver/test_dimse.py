"""Storing elsewhere: each object is known to have arrived, or known not to."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    SegmentationStorage,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt

from dicom_node.deliver.destination import Destination, Outgoing
from dicom_node.deliver.dimse import Interrupted, Outcome, Sent, check, outcome, send
from dicom_node.demo.pacs import StandInPacs
from storage.facts.errors import Misconfigured, Rejected, Transient
from tests.dicom_node.deliver.making import free_port, outgoing, to


def test_what_is_sent_arrives_byte_for_byte(tmp_path: Path, pacs: StandInPacs) -> None:
    files = [outgoing(tmp_path, 1, pixels=307_200), outgoing(tmp_path, 2, ComprehensiveSRStorage)]
    told: list[Sent] = []

    sent = send(files, to(pacs.port), told.append)

    assert [(s.sop_instance_uid, s.status) for s in sent] == [(f.sop_instance_uid, 0) for f in files]
    assert told == sent
    for file in files:
        [stored] = [o for o in pacs.objects() if o.sop_instance_uid == file.sop_instance_uid]
        assert dcmread(stored.path) == dcmread(file.path)


def test_five_hundred_objects_arrive_without_a_loss(tmp_path: Path, pacs: StandInPacs) -> None:
    files = [outgoing(tmp_path, n) for n in range(500)]

    sent = send(files, to(pacs.port))

    assert [s.sop_instance_uid for s in sent] == [f.sop_instance_uid for f in files]
    assert {s.status for s in sent} == {0}
    assert {o.sop_instance_uid for o in pacs.objects()} == {f.sop_instance_uid for f in files}
    assert pacs.received == 500


def test_many_objects_go_over_several_associations_and_are_answered_for_in_order(
    tmp_path: Path, pacs: StandInPacs
) -> None:
    files = [outgoing(tmp_path, n, pixels=131_072 if n % 2 else 2048) for n in range(60)]
    told: list[Sent] = []

    sent = send(files, to(pacs.port, associations=3), told.append)

    assert [s.sop_instance_uid for s in sent] == [f.sop_instance_uid for f in files]
    assert {s.status for s in sent} == {0}
    assert sorted(t.sop_instance_uid for t in told) == sorted(f.sop_instance_uid for f in files)
    for file in files:
        [stored] = [o for o in pacs.objects() if o.sop_instance_uid == file.sop_instance_uid]
        assert dcmread(stored.path) == dcmread(file.path)


def test_what_each_of_several_associations_got_answered_is_known_when_one_is_lost(
    tmp_path: Path, pacs: StandInPacs
) -> None:
    files = [outgoing(tmp_path, n) for n in range(40)]
    pacs.misbehaviour.abort_every = 25

    with pytest.raises(Interrupted) as caught:
        send(files, to(pacs.port, associations=2))
    pacs.misbehaviour.abort_every = 0
    known = {s.sop_instance_uid for s in caught.value.sent}

    assert len(known) == len(caught.value.sent)
    assert 24 <= len(known) < 40
    assert known <= {o.sop_instance_uid for o in pacs.objects()}
    send([f for f in files if f.sop_instance_uid not in known], to(pacs.port))
    assert len(pacs.objects()) == 40


def test_a_lost_answer_is_a_transient_fault_and_the_retry_doubles_nothing(tmp_path: Path, pacs: StandInPacs) -> None:
    files = [outgoing(tmp_path, n) for n in range(5)]
    pacs.misbehaviour.silent_every = 3

    with pytest.raises(Interrupted, match=r"archive \(PACS at .* gave no answer within 0.3 s") as caught:
        send(files, to(pacs.port, answer_seconds=0.3))
    pacs.misbehaviour.silent_every = 0
    known = {s.sop_instance_uid for s in caught.value.sent}
    rest = [f for f in files if f.sop_instance_uid not in known]
    send(rest, to(pacs.port))

    assert isinstance(caught.value, Transient)
    assert known == {f.sop_instance_uid for f in files[:2]}
    assert pacs.received == 3 + 3  # the third came twice
    assert len(pacs.objects()) == 5


def test_an_abort_in_the_middle_of_an_object_leaves_the_rest_to_be_sent(tmp_path: Path, pacs: StandInPacs) -> None:
    files = [outgoing(tmp_path, n, pixels=1 << 20) for n in range(4)]
    pacs.misbehaviour.abort_every = 3

    with pytest.raises(Interrupted, match=r"look into its log|log should say why") as caught:
        send(files, to(pacs.port))

    assert [s.sop_instance_uid for s in caught.value.sent] == [f.sop_instance_uid for f in files[:2]]
    assert "2 of 4 objects were answered" in str(caught.value)
    assert len(pacs.objects()) == 2


def test_a_pacs_that_is_out_of_resources_is_tried_again_later(tmp_path: Path, pacs: StandInPacs) -> None:
    files = [outgoing(tmp_path, n) for n in range(3)]
    pacs.misbehaviour.status, pacs.misbehaviour.status_every = 0xA700, 2

    with pytest.raises(Interrupted, match="0xA700, it is out of resources") as caught:
        send(files, to(pacs.port))

    assert len(caught.value.sent) == 1


def test_an_object_that_fails_for_now_does_not_hold_up_those_behind_it(tmp_path: Path, pacs: StandInPacs) -> None:
    files = [outgoing(tmp_path, n) for n in range(3)]
    pacs.misbehaviour.status, pacs.misbehaviour.status_every = 0x0110, 2

    with pytest.raises(Interrupted, match=f"{files[1].sop_instance_uid}: status 0x0110, processing failure") as caught:
        send(files, to(pacs.port))

    assert [s.sop_instance_uid for s in caught.value.sent] == [files[0].sop_instance_uid, files[2].sop_instance_uid]


@pytest.mark.parametrize("status", [0xA900, 0xC123, 0x0122, 0x0124])
def test_a_refused_object_does_not_hold_up_the_others(tmp_path: Path, pacs: StandInPacs, status: int) -> None:
    files = [outgoing(tmp_path, n) for n in range(3)]
    pacs.misbehaviour.status, pacs.misbehaviour.status_every = status, 2

    sent = send(files, to(pacs.port))

    assert [s.outcome for s in sent] == [Outcome.STORED, Outcome.REFUSED, Outcome.STORED]
    with pytest.raises(Rejected, match=f"refused 1 object: {files[1].sop_instance_uid}: status 0x{status:04X}"):
        check(sent, to(pacs.port))
    check([sent[0], sent[2]], to(pacs.port))


def test_an_object_whose_context_is_refused_is_reported_and_the_others_are_stored(tmp_path: Path) -> None:
    files = [outgoing(tmp_path, 1), outgoing(tmp_path, 2, SegmentationStorage), outgoing(tmp_path, 3)]
    with StandInPacs(tmp_path / "pacs") as pacs:
        pacs.stop()
        pacs.misbehaviour.refuse = frozenset({str(SegmentationStorage)})
        pacs.start()

        sent = send(files, to(pacs.port))

        assert [s.status for s in sent] == [0, 0x0122, 0]
        assert {o.sop_class_uid for o in pacs.objects()} == {CTImageStorage}


def test_sending_twice_makes_one_object(tmp_path: Path, pacs: StandInPacs) -> None:
    file = outgoing(tmp_path, 1)

    send([file], to(pacs.port))
    send([file], to(pacs.port))

    assert pacs.received == 2
    assert len(pacs.objects()) == 1


def test_a_pacs_that_is_down_is_named_with_what_to_check(tmp_path: Path) -> None:
    port = free_port()

    with pytest.raises(Interrupted, match=f"127.0.0.1:{port}.*nothing listens there: check the port") as caught:
        send([outgoing(tmp_path, 1)], to(port))

    assert caught.value.sent == ()


def test_a_host_that_nobody_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match=r"pacs\.invalid.*the host name is not known"):
        send([outgoing(tmp_path, 1)], to(104, host="pacs.invalid"))


@pytest.mark.parametrize("own", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_a_pacs_that_knows_only_the_default_transfer_syntax_is_served(tmp_path: Path, own: str) -> None:
    got = []
    ae = AE("PACS")
    ae.add_supported_context(CTImageStorage, ImplicitVRLittleEndian)
    handlers = [(evt.EVT_C_STORE, lambda event: got.append(event.dataset) or 0)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    file = outgoing(tmp_path, 1, syntax=own)

    sent = send([file], to(server.server_address[1]))
    server.shutdown()

    assert sent[0].status == 0
    wanted = dcmread(file.path)
    assert got[0].PixelData == wanted.PixelData
    assert got[0].SeriesDescription == wanted.SeriesDescription


def test_the_files_own_transfer_syntax_goes_before_the_default_one(tmp_path: Path) -> None:
    got = []
    ae = AE("PACS")
    ae.add_supported_context(CTImageStorage, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])  # prefers implicit
    handlers = [(evt.EVT_C_STORE, lambda event: got.append(event.context.transfer_syntax) or 0)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    send([outgoing(tmp_path, 1)], to(server.server_address[1]))
    server.shutdown()

    assert got == [ExplicitVRLittleEndian]


def test_a_compressed_object_is_never_sent_in_another_transfer_syntax(tmp_path: Path) -> None:
    file = outgoing(tmp_path, 1)
    claimed = Outgoing(path=file.path, sop_class_uid=file.sop_class_uid, sop_instance_uid=file.sop_instance_uid,
                       transfer_syntax_uid=JPEG2000Lossless)  # fmt: skip
    ae = AE("PACS")
    ae.add_supported_context(CTImageStorage, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    server = ae.start_server(("127.0.0.1", 0), block=False)

    sent = send([claimed], to(server.server_address[1]))
    server.shutdown()

    assert sent[0].status == 0x0122


def test_more_kinds_than_one_association_can_carry_are_sent_on_several(tmp_path: Path, pacs: StandInPacs) -> None:
    kinds = [str(cx.abstract_syntax) for cx in AllStoragePresentationContexts][:70]
    files = [outgoing(tmp_path, n, kind) for n, kind in enumerate(kinds)]  # two contexts for each

    sent = send(files, to(pacs.port))

    assert {s.status for s in sent} == {0}
    assert len(pacs.objects()) == 70


def test_a_file_that_is_gone_or_is_none_is_rejected_not_retried(tmp_path: Path, pacs: StandInPacs) -> None:
    file = outgoing(tmp_path, 1)
    file.path.write_bytes(b"not DICOM" * 100)
    with pytest.raises(Rejected, match=f"{file.sop_instance_uid} is no DICOM file"):
        send([file], to(pacs.port))

    file.path.unlink()
    with pytest.raises(Rejected, match=f"{file.sop_instance_uid} cannot be read"):
        send([file], to(pacs.port))


def test_a_file_that_changes_while_others_are_sent_is_not_sent_in_part(tmp_path: Path, pacs: StandInPacs) -> None:
    first, second = outgoing(tmp_path, 1), outgoing(tmp_path, 2, pixels=1 << 20)

    def grow(_answer: Sent) -> None:
        with second.path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(Rejected, match=f"{second.sop_instance_uid} changed since"):
        send([first, second], to(pacs.port), grow)
    assert [one.sop_instance_uid for one in pacs.objects()] == [first.sop_instance_uid]


def test_several_threads_deliver_at_once(tmp_path: Path, pacs: StandInPacs) -> None:
    parts = [[outgoing(tmp_path, 100 * t + n) for n in range(20)] for t in range(4)]
    threads = [threading.Thread(target=send, args=(part, to(pacs.port))) for part in parts]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(pacs.objects()) == 80


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ae_title": "MORE_THAN_16_CHARS"}, "AE title must be 1 to 16"),
        ({"ae_title": "  "}, "AE title must be 1 to 16"),
        ({"calling_ae": "A\\B"}, "calling AE title must be"),
        ({"calling_ae": "KÖLN"}, "calling AE title must be"),
        ({"host": "http://pacs"}, "not a host name"),
        ({"host": ""}, "not a host name"),
        ({"port": 0}, "port 0"),
        ({"port": 70000}, "port 70000"),
        ({"max_pdu": 100}, "PDU length"),
        ({"answer_seconds": 0.0}, "time-outs"),
    ],
)
def test_a_destination_that_cannot_be_called_is_misconfigured(change: dict[str, object], said: str) -> None:
    with pytest.raises(Misconfigured, match=f"destination archive: .*{said}"):
        to(**({"port": 104} | change))


def test_an_object_without_a_uid_cannot_spoil_an_association(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="sop_class_uid is no UID"):
        Outgoing(path=tmp_path, sop_class_uid="", sop_instance_uid="1.2", transfer_syntax_uid="1.2.840.10008.1.2")


@pytest.mark.parametrize(
    ("status", "wanted"),
    [(0x0000, Outcome.STORED), (0x0111, Outcome.STORED), (0xB000, Outcome.STORED), (0xB007, Outcome.STORED),
     (0x0110, Outcome.AGAIN), (0xA700, Outcome.AGAIN), (0xA7FF, Outcome.AGAIN), (0x0213, Outcome.AGAIN),
     (0xA900, Outcome.REFUSED), (0xA9FF, Outcome.REFUSED), (0xC000, Outcome.REFUSED), (0xCFFF, Outcome.REFUSED),
     (0x0117, Outcome.REFUSED), (0x0122, Outcome.REFUSED), (0x0124, Outcome.REFUSED), (0x0FFF, Outcome.AGAIN)],
)  # fmt: skip
def test_every_status_says_whether_to_send_again(status: int, wanted: Outcome) -> None:
    assert outcome(status) is wanted


def test_texts_never_carry_what_the_file_says_of_the_patient(tmp_path: Path, pacs: StandInPacs) -> None:
    pacs.misbehaviour.status = 0xC000
    destination: Destination = to(pacs.port)

    with pytest.raises(Rejected) as caught:
        check(send([outgoing(tmp_path, 1)], destination), destination)

    assert "Doe" not in str(caught.value)
    assert "4711" not in str(caught.value)
