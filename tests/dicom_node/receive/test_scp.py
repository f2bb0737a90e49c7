"""What a sender is told, and what is then on disk and in the ledger. Real sockets, real bytes."""

from __future__ import annotations

import socket
import struct
import time
import warnings
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode

from dicom_node.config import ReceiveSection
from dicom_node.receive import stream
from dicom_node.receive.events import Closed, Missed, Opened
from dicom_node.receive.index import Index
from dicom_node.receive.landing import Landed, Origin, read_landed
from storage.facts.task import Kind
from storage.views import trail
from tests.dicom_node.receive.conftest import CT, MakeReceiver, Receiver

SERIES = "1.2.826.0.1.1.7"


def a_slice(number: int = 1, *, series: str = SERIES, rows: int = 64, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = CT
    dataset.SOPInstanceUID = f"{series}.{number}"
    dataset.StudyInstanceUID = "1.2.826.0.1.1"
    dataset.SeriesInstanceUID = series
    dataset.Modality = "CT"
    dataset.PatientName = "DOE^JANE"
    dataset.InstanceNumber = number
    dataset.ImagePositionPatient = [0, 0, number]
    dataset.Rows = dataset.Columns = rows
    dataset.BitsAllocated = 16
    dataset.add_new(0x7FE00010, "OW", bytes(2 * rows * rows))
    return dataset


def data_set_bytes(path: Path) -> bytes:
    raw = path.read_bytes()
    return raw[144 + struct.unpack("<L", raw[140:144])[0] :]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_bytes_are_stored_as_received(receiver: Receiver, syntax: str) -> None:
    sent = a_slice(syntax=syntax)
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax == ImplicitVRLittleEndian, True
    pydicom.filewriter.write_dataset(buffer, sent)

    assoc = receiver.associate()
    status = assoc.send_c_store(sent)
    assoc.release()
    receiver.settle()

    assert status.Status == 0x0000
    [instance] = receiver.instances(SERIES)
    stored = receiver.data / instance.path
    assert data_set_bytes(stored) == buffer.getvalue()
    meta = pydicom.filereader.read_file_meta_info(stored)
    assert meta.TransferSyntaxUID == syntax
    assert (meta.SourceApplicationEntityTitle, meta.ReceivingApplicationEntityTitle) == ("PACS", "DICOM_NODE")
    assert instance.header["ImagePositionPatient"] == [0.0, 0.0, 1.0]
    assert instance.size == stored.stat().st_size
    assert list(receiver.incoming.folder.iterdir()) == []


def test_many_small_pdus_and_an_echo_between_objects_are_one_conversation(receiver: Receiver) -> None:
    assoc = receiver.associate(max_pdu=4096)
    statuses = []
    for number in range(1, 6):
        statuses.append(assoc.send_c_store(a_slice(number)).Status)
        statuses.append(assoc.send_c_echo().Status)
    assoc.release()
    receiver.settle()

    assert statuses == [0] * 10
    assert len(receiver.instances(SERIES)) == 5


def test_a_series_is_expected_once_its_first_object_is_here(receiver: Receiver) -> None:
    assoc = receiver.associate()
    for number in (1, 2, 3):
        assoc.send_c_store(a_slice(number))
    assoc.release()
    time.sleep(0.3)
    receiver.settle()

    with receiver.ledger.begin("test") as tx:
        due = tx.queue.next_due([Kind.ASSEMBLE])
        evidence = tx.studies.evidence(SERIES)
    assert evidence is not None
    assert (evidence.series.instances, evidence.open_associations, evidence.last_ending) == (3, 0, "released")
    assert due == pytest.approx(evidence.last_closed_at + ReceiveSection().quiet_seconds, abs=0.01)
    assert evidence.series.calling_ae == "PACS"


def test_the_same_object_twice_is_one_object(receiver: Receiver) -> None:
    assoc = receiver.associate()
    first, again = assoc.send_c_store(a_slice()).Status, assoc.send_c_store(a_slice()).Status
    assoc.release()
    receiver.settle()

    assert (first, again) == (0, 0)
    assert len(receiver.instances(SERIES)) == 1


def test_other_bytes_under_a_known_uid_are_kept_beside_and_never_overwrite(receiver: Receiver) -> None:
    changed = a_slice()
    changed.InstanceNumber = 99
    assoc = receiver.associate()
    assoc.send_c_store(a_slice())
    status = assoc.send_c_store(changed).Status
    assoc.release()
    receiver.settle()

    assert status == 0
    [instance] = receiver.instances(SERIES)
    assert instance.header["InstanceNumber"] == 1
    files = sorted((receiver.data / instance.path).parent.iterdir())
    assert {pydicom.dcmread(file).InstanceNumber for file in files} == {1, 99}


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [("STRANGER", "DICOM_NODE", 3), ("PACS", "OTHER_NODE", 7)],
)
def test_a_stranger_or_a_wrong_called_title_is_rejected_with_the_reason(
    receiver: Receiver, calling: str, called: str, reason: int
) -> None:
    assoc = receiver.associate(calling=calling, called=called)
    receiver.settle()

    assert assoc.is_rejected
    primitive = assoc.acceptor.primitive
    assert primitive is not None
    assert (primitive.result, primitive.result_source, primitive.diagnostic) == (1, 1, reason)
    with receiver.ledger.read() as session:
        [row] = [r for r in trail(session) if r.action == "association refused"]
    assert row.details["peer"] == calling


def test_a_known_title_from_another_address_is_rejected(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(peers=[{"ae_title": "PACS", "addresses": ["10.0.0.0/8"]}])

    assert receiver.associate().is_rejected


def test_more_associations_than_allowed_are_rejected_for_now(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(maximum_associations=2)
    held = [receiver.associate(), receiver.associate()]

    refused = receiver.associate()
    held[0].release()
    time.sleep(0.3)
    after = receiver.associate()

    assert refused.is_rejected
    assert after.is_established
    held[1].release()
    after.release()


def test_a_disk_that_is_nearly_full_answers_out_of_resources_and_the_association_lives_on(
    make_receiver: MakeReceiver,
) -> None:
    receiver = make_receiver(refuse_below_mb=10**9)
    assoc = receiver.associate()
    status = assoc.send_c_store(a_slice(rows=256))
    echo = assoc.send_c_echo().Status
    assoc.release()
    receiver.settle()

    assert status.Status == 0xA700
    assert "free space" in status.ErrorComment
    assert echo == 0
    assert list(receiver.incoming.folder.iterdir()) == []
    assert receiver.desk.counters.refused == {"A700": 1}


def test_a_data_set_that_is_not_what_the_request_says_is_refused(receiver: Receiver) -> None:
    wrong_class, nameless = a_slice(), a_slice()
    nameless.SeriesInstanceUID = None
    assoc = receiver.associate()
    statuses = [_send_as(assoc, wrong_class, sop_instance_uid="1.2.3.4.5"), assoc.send_c_store(nameless).Status]
    assoc.release()
    receiver.settle()

    assert statuses == [0xA900, 0xC000]
    assert receiver.instances(SERIES) == []
    assert list(receiver.incoming.folder.iterdir()) == []


def _send_as(assoc: object, dataset: Dataset, sop_instance_uid: str) -> int:
    """Send a data set under another SOP Instance UID than its own."""
    message = C_STORE()
    message.MessageID = 77
    message.AffectedSOPClassUID = dataset.SOPClassUID
    message.AffectedSOPInstanceUID = sop_instance_uid
    message.Priority = 2
    message.DataSet = BytesIO(encode(dataset, False, True) or b"")
    context = next(cx for cx in assoc.accepted_contexts if cx.abstract_syntax == CT)  # type: ignore[attr-defined]
    assoc._reactor_checkpoint.clear()  # type: ignore[attr-defined]
    assoc.dimse.send_msg(message, context.context_id)  # type: ignore[attr-defined]
    _, answer = assoc.dimse.get_msg(block=True)  # type: ignore[attr-defined]
    assoc._reactor_checkpoint.set()  # type: ignore[attr-defined]
    return int(answer.Status)


def test_an_aborted_association_loses_only_the_object_in_flight(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()
    assoc = receiver.associate()
    assoc.send_c_store(a_slice(1))
    raw = _half_a_store(assoc)
    assoc.dul.socket.socket.sendall(raw)  # type: ignore[union-attr]
    time.sleep(0.2)
    parts = [p.suffix for p in receiver.incoming.folder.iterdir()]
    assoc.abort()
    time.sleep(0.3)
    receiver.settle()

    assert parts.count(".part") == 1
    assert list(receiver.incoming.folder.iterdir()) == []
    assert [i.sop_instance_uid for i in receiver.instances(SERIES)] == [f"{SERIES}.1"]
    with receiver.ledger.begin_reading() as tx:
        evidence = tx.studies.evidence(SERIES)
    assert evidence is not None
    assert evidence.last_ending == "aborted"


def _half_a_store(assoc: object) -> bytes:
    context = next(cx for cx in assoc.accepted_contexts if cx.abstract_syntax == CT)  # type: ignore[attr-defined]

    def element(number: int, value: bytes) -> bytes:
        return struct.pack("<HHL", 0, number, len(value)) + value

    body = (
        element(0x0002, CT.encode() + b"\0" * (len(CT) % 2)) + element(0x0100, b"\x01\0") + element(0x0110, b"\x09\0")
    )
    body += element(0x0700, b"\x02\0") + element(0x0800, b"\x01\0") + element(0x1000, b"1.2.34\0\0"[:6])
    body = element(0x0000, struct.pack("<L", len(body))) + body
    command = struct.pack(">BBLLBB", 4, 0, len(body) + 6, len(body) + 2, context.context_id, 3) + body
    return command + struct.pack(">BBLLBB", 4, 0, 1006, 1002, context.context_id, 0) + b"\x08\x00" * 500


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "plain"])
@pytest.mark.parametrize("kind", [1, 4])
def test_a_length_beyond_reason_is_not_believed(make_receiver: MakeReceiver, kind: int, streaming: bool) -> None:
    receiver = make_receiver(streaming=streaming)
    with socket.create_connection(("127.0.0.1", receiver.scp.port), timeout=10) as peer:
        peer.sendall(struct.pack(">BBL", kind, 0, 0xFFFFFFF0) + b"\0" * 1000)
        peer.settimeout(10)
        answer = peer.recv(64)

    assert answer[:1] in (b"\x07", b"")  # A-ABORT, or closed at once
    assert receiver.desk.counters.turned_away == {"connection refused": 1}
    assoc = receiver.associate()
    assert assoc.is_established
    assoc.release()


def test_a_fragment_longer_than_its_pdu_ends_the_association_and_nothing_else(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()
    good, bad = receiver.associate(), receiver.associate()
    bad.dul.socket.socket.sendall(struct.pack(">BBLLBB", 4, 0, 20, 4000, 1, 0) + b"\0" * 14)  # type: ignore[union-attr]
    time.sleep(0.5)

    assert bad.is_aborted
    assert good.send_c_store(a_slice()).Status == 0
    good.release()


def test_what_was_acknowledged_but_not_yet_in_the_ledger_is_entered_at_the_next_start(
    make_receiver: MakeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = make_receiver()
    monkeypatch.setattr(receiver.index, "_write", lambda _batch: None)  # as if killed
    assoc = receiver.associate()
    for number in (1, 2):
        assoc.send_c_store(a_slice(number))
    assoc.release()
    time.sleep(0.2)
    [one, two] = sorted(receiver.incoming.folder.glob("*.dcm"))
    assert read_landed(one).origin.calling_ae == "PACS"
    two.with_suffix(".part").write_bytes(b"never acknowledged")
    (receiver.incoming.folder / "broken.dcm").write_bytes(b"\0" * 200)
    monkeypatch.undo()

    receiver.incoming.sweep()
    entered = receiver.index.recover()
    again = receiver.index.recover()

    assert (entered, again) == (2, 0)
    assert [i.sop_instance_uid for i in receiver.instances(SERIES)] == [f"{SERIES}.1", f"{SERIES}.2"]
    assert all((receiver.data / i.path).is_file() for i in receiver.instances(SERIES))
    assert [p.name for p in (receiver.data / "quarantine").iterdir()] == ["broken.dcm"]


def test_what_peers_send_is_neither_quoted_nor_remembered_by_pydicom(
    make_receiver: MakeReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    make_receiver()
    remembered = vars(pydicom.valuerep).setdefault("__warningregistry__", {})
    before = set(remembered) | {"version"}
    with warnings.catch_warnings(record=True) as heard:
        for number in range(20):
            pydicom.valuerep.validate_value("UI", f"1.2.DOE^JANE.{number}", pydicom.config.WARN)

    assert heard == []
    assert set(remembered) <= before
    assert "DOE^JANE" not in caplog.text


def test_a_look_into_incoming_enters_a_slice_at_a_time_and_says_how_much_is_left(
    make_receiver: MakeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = make_receiver()
    monkeypatch.setattr(receiver.index, "_write", lambda _batch: None)
    monkeypatch.setattr("dicom_node.receive.index.BATCH", 2)
    assoc = receiver.associate()
    for number in range(5):
        assoc.send_c_store(a_slice(number))
    assoc.release()
    receiver.settle()
    monkeypatch.undo()
    monkeypatch.setattr("dicom_node.receive.index.BATCH", 2)

    left = [receiver.index.take([Missed()]) for _ in range(3)]

    assert left == [[3], [1], [0]]
    assert [i.sop_instance_uid for i in receiver.instances(SERIES)] == [f"{SERIES}.{number}" for number in range(5)]


def land(receiver: Receiver, origin: Origin, number: int) -> Landed:
    sink = receiver.incoming.open(origin, CT, f"{SERIES}.{number}", ExplicitVRLittleEndian)
    sink.write([memoryview(encode(a_slice(number), False, True) or b"")])
    sink.close()
    return sink.landed()


def test_completeness_is_looked_at_once_in_a_while_and_what_was_put_off_is_made_up_for(
    make_receiver: MakeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[tuple[str, ...]] = []
    receiver = make_receiver()
    receiver.settle()
    index = Index(receiver.ledger, lambda _tx, series: looked.append(tuple(series)))
    origin = Origin(association="A-1", calling_ae="PACS", called_ae="DICOM_NODE", address="127.0.0.1")
    index.take([Opened(origin=origin, at=1.0)])

    for number in (1, 2):
        index.take([land(receiver, origin, number)])
    index.take([])
    soon = [series for series in looked if series]
    monkeypatch.setattr("dicom_node.receive.index.EXPECT_SECONDS", 0.0)
    index.take([])
    index.take([])
    later = [series for series in looked if series]
    index.take([Closed(association="A-1", ending="released")])

    assert soon == [(SERIES,)]
    assert later == [(SERIES,), (SERIES,)]
    assert looked[-1] == (SERIES,)
    assert len([series for series in looked if series]) == 3


def test_the_digest_of_a_recovered_file_is_the_digest_of_the_received_bytes(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()
    assoc = receiver.associate()
    assoc.send_c_store(a_slice())
    assoc.release()
    receiver.settle()

    [instance] = receiver.instances(SERIES)
    found = read_landed(receiver.data / instance.path).instance
    assert (found.digest, found.path, found.size) == (instance.digest, instance.path, instance.size)


def test_the_streaming_path_fits_the_installed_pynetdicom() -> None:
    assert stream.fits() == []


def test_no_patient_name_is_in_the_ledger_or_its_trail_before_the_series_is_complete(receiver: Receiver) -> None:
    assoc = receiver.associate()
    assoc.send_c_store(a_slice())
    assoc.release()
    receiver.settle()
    receiver.ledger.close()

    everything = b"".join(p.read_bytes() for p in receiver.data.glob("ledger.db*"))
    assert b"JANE" not in everything
