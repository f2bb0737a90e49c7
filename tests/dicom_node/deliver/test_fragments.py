"""Messages in whatever pieces: what peers answer is what is read, and what is sent is what they get."""

from __future__ import annotations

import random
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dsutils import encode

from dicom_node.deliver import command, commitment
from dicom_node.deliver.association import Association, Body, Proposal
from dicom_node.deliver.command import Fields
from dicom_node.deliver.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, CommitReport, Reference
from dicom_node.deliver.destination import Outgoing
from dicom_node.deliver.dimse import send
from dicom_node.deliver.query import Inquiry
from dicom_node.deliver.retrieval import move
from storage.facts.errors import Transient
from tests.dicom_node.deliver.making import Peer, new_uid, outgoing, peer, to
from tests.dicom_node.deliver.test_association import _certificate
from tests.dicom_node.deliver.test_foreign import _program, _running, free_port
from tests.dicom_node.pieces import Sent, Shape, any_shape, cut, pdus, trickle

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
PENDING = 0xFF00


class Chopped:
    """A connection on which each write leaves in pieces, apart in time."""

    def __init__(self, link: socket.socket, draw: random.Random, pieces: int) -> None:
        self._link, self._draw, self._pieces = link, draw, pieces

    def sendall(self, data: bytes) -> None:
        trickle(self._link, cut(data, self._draw, self._pieces), 0.0002)

    def recv(self, size: int) -> bytes:
        return self._link.recv(size)


def answering(script: Callable[[Peer], None], draw: random.Random, pieces: int) -> Callable[[Peer], None]:
    """The script, by a peer whose bytes come in pieces."""

    def run(it: Peer) -> None:
        it.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        it.link = Chopped(it.link, draw, pieces)  # type: ignore[assignment]
        it.accept()
        script(it)

    return run


def response(kind: int, status: int, data: bytes | None = None, more: Fields | None = None) -> Sent:
    fields = {command.COMMAND_FIELD: kind, command.ANSWERS: 1, command.STATUS: status, **(more or {})}
    return Sent(context=1, fields=fields, data=data)


def merged(stream: Sequence[bytes], maximum: int) -> list[bytes]:
    """The fragments of several messages in as few PDUs as may be."""
    made = [b""]
    for pdu in stream:
        if len(made[-1]) + len(pdu) - 6 > maximum:
            made.append(b"")
        made[-1] += pdu[6:]
    return [struct.pack(">BxL", 4, len(values)) + values for values in made]


@pytest.mark.parametrize("together", [False, True], ids=["a message a PDU", "several messages a PDU"])
@pytest.mark.parametrize("seed", range(4))
def test_answers_in_any_pieces_are_each_read_as_they_were_sent(seed: int, together: bool) -> None:
    draw = random.Random(seed)
    found = {f"1.2.{seed}.{number}": f"CT{number}" for number in range(draw.choice([0, 1, 40]))}

    def script(it: Peer) -> None:
        it.read_message()
        messages = []
        for uid, modality in found.items():
            dataset = Dataset()
            dataset.SeriesInstanceUID, dataset.Modality, dataset.NumberOfSeriesRelatedInstances = (
                uid,
                modality,
                len(uid),
            )
            dataset.add_new(0x00990010, "LO", "FILLER")
            dataset.add_new(0x00991001, "OB", draw.randbytes(2 * draw.choice([1, 10, 300])))
            status = draw.choice([PENDING, 0xFF01])
            messages.append(response(0x8020, status, encode(dataset, False, True)))
        shapes = [Shape() if together else any_shape(draw) for _ in [*messages, None]]
        stream = [
            pdu for one, shape in zip([*messages, response(0x8020, 0)], shapes, strict=True)
            for pdu in pdus(one, shape, draw)
        ]  # fmt: skip
        it.link.sendall(b"".join(merged(stream, 3000) if together else stream))
        assert it.read()[0] == 5

    with peer(answering(script, draw, 12)) as port, Inquiry(to(port)) as inquiry:
        answers = inquiry.series("1.2")

    assert {a.series_uid: (a.modality, a.instances) for a in answers} == {u: (m, len(u)) for u, m in found.items()}


@pytest.mark.parametrize("pieces", [0, 400])
def test_a_retrieval_reads_its_pending_answers_on_the_way(pieces: int) -> None:
    draw = random.Random(pieces)

    def script(it: Peer) -> None:
        it.read_message()
        remaining = {0x1020: 2, 0x1021: 1}
        stream = [response(0x8021, PENDING, more=remaining)] * 5 + [response(0x8021, 0, more={0x1021: 7, 0x1022: 2})]
        it.link.sendall(b"".join(pdu for one in stream for pdu in pdus(one, any_shape(draw), draw)))
        assert it.read()[0] == 5

    with peer(answering(script, draw, pieces)) as port:
        assert move(to(port), "NODE", "1.2", "1.2.3") == (7, 2)


@pytest.mark.parametrize("together", [False, True], ids=["a message a PDU", "several messages a PDU"])
@pytest.mark.parametrize("first", ["answer", "report"])
@pytest.mark.parametrize("seed", range(2))
def test_a_report_in_any_pieces_with_the_answer_is_read_as_it_was_sent(seed: int, first: str, together: bool) -> None:
    draw, transaction = random.Random(seed), new_uid()
    references = [Reference(sop_class_uid=CT, sop_instance_uid=f"1.2.3.{n}") for n in range(30)]
    expected = CommitReport(
        transaction_uid=transaction,
        committed=tuple(r.sop_instance_uid for r in references[1:]),
        failed=((references[0].sop_instance_uid, 0x0112),),
    )
    report = commitment.action_information(transaction, references[1:])
    report.FailedSOPSequence = commitment.action_information("1.2", references[:1]).ReferencedSOPSequence
    report.FailedSOPSequence[0].FailureReason = 0x0112

    def script(it: Peer) -> None:
        it.read_message()
        said = Sent(
            context=1,
            fields={
                command.COMMAND_FIELD: command.N_EVENT_REPORT_RQ, command.AFFECTED_CLASS: PUSH_MODEL,
                command.AFFECTED_INSTANCE: PUSH_MODEL_INSTANCE, command.MESSAGE_ID: 9, command.EVENT_TYPE: 2,
            },
            data=encode(report, False, True),
        )  # fmt: skip
        both = [response(0x8130, 0), said]
        ordered = both if first == "answer" else both[::-1]
        stream = [pdu for one in ordered for pdu in pdus(one, Shape() if together else any_shape(draw), draw)]
        it.link.sendall(b"".join(merged(stream, 16000) if together else stream))
        kind, data = it.read()
        assert (kind, struct.pack("<HHLH", 0, 0x0900, 2, 0) in data) == (4, True)
        assert it.read()[0] == 5

    with peer(answering(script, draw, 15)) as port:
        assert commitment.request(to(port), transaction, references, 10.0) == expected


@pytest.mark.parametrize("length", [0, 1, 600])
def test_a_fragment_that_does_not_fit_its_pdu_is_never_taken_for_a_whole_one(length: int) -> None:
    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        [pdu] = pdus(response(0x8020, 0), Shape(), random.Random(0))
        it.link.sendall(pdu[:6] + struct.pack(">L", length) + pdu[10:])
        assert it.read()[0] == 7

    with peer(script) as port, pytest.raises(Transient, match="does not fit its PDU"), Inquiry(to(port)) as inquiry:
        inquiry.series("1.2")


def a_file(folder: Path, number: int, draw: random.Random, size: int) -> tuple[Outgoing, bytes]:
    """A file of random pixels, and its data set."""
    file = outgoing(folder, number)
    dataset = dcmread(file.path)
    dataset.PixelData = draw.randbytes(size)
    dataset.save_as(file.path, enforce_file_format=True)
    raw = file.path.read_bytes()
    return file, raw[144 + struct.unpack_from("<L", raw, 140)[0] :]


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize(
    ("maximum", "most"), [(20, 2000), (127, 90_000), (4097, 600_000), (131_071, 4 << 20), (0, 1 << 20)]
)
def test_a_peer_gets_each_byte_in_pdus_that_it_can_take(tmp_path: Path, maximum: int, most: int, secure: bool) -> None:
    draw = random.Random(maximum)
    files = [a_file(tmp_path, n, draw, size) for n, size in enumerate((2, most, most // 3 & ~1))]
    got, context = [], None
    certificate, key = _certificate(tmp_path) if secure else (None, None)

    def script(it: Peer) -> None:
        it.link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        if certificate is not None:
            served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            served.load_cert_chain(certificate, key)
            it.link = served.wrap_socket(it.link, server_side=True)
        it.link = Slow(it.link)  # type: ignore[assignment]
        it.accept(maximum_pdu=maximum)
        for number in range(len(files)):
            fields, data = it.read_message()
            got.append((fields[0x1000].rstrip(b"\0").decode(), data))
            it.answer(number + 1)
        assert it.read()[0] == 5
        assert not maximum or max(it.lengths) <= maximum
        with suppress(OSError):
            it.link.close()

    if certificate is not None:
        context = ssl.create_default_context(cafile=str(certificate))
    with peer(script) as port:
        sent = send([file for file, _ in files], to(port, tls=context))

    assert [answer.status for answer in sent] == [0, 0, 0]
    assert got == [(file.sop_instance_uid, data) for file, data in files]


class Slow:
    """A connection that is read in small bites, with a pause now and then."""

    def __init__(self, link: socket.socket) -> None:
        self._link, self._reads = link, 0
        self.sendall, self.close = link.sendall, link.close

    def recv(self, size: int) -> bytes:
        self._reads += 1
        if self._reads % 50 == 0:
            time.sleep(0.001)
        return self._link.recv(min(size, 5000))


def test_an_empty_data_set_is_sent_as_one() -> None:
    def script(it: Peer) -> None:
        it.accept()
        fields, data = it.read_message()
        assert (fields[0x0800], data) == (b"\x01\x00", b"")
        it.answer(1)
        assert it.read()[0] == 5

    with (
        peer(script) as port,
        Association(to(port), [Proposal(abstract_syntax=CT, transfer_syntaxes=(EXPLICIT,))]) as association,
    ):
        fields = command.store_request(CT, "1.2.3")
        assert association.ask(association.accepted[0], fields, Body.of(b"")).number(command.STATUS) == 0


@pytest.mark.parametrize("maximum", [0, 64, 4096, 16_383])
def test_pynetdicom_gets_each_byte(tmp_path: Path, maximum: int) -> None:
    draw, got = random.Random(maximum), {}

    def store(event: evt.Event) -> int:
        got[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
        return 0

    ae = AE("PACS")
    ae.add_supported_context(CT, EXPLICIT)
    ae.maximum_pdu_size = maximum
    files = [a_file(tmp_path, n, draw, size) for n, size in enumerate((2, 3000, 20_000 if maximum == 64 else 500_000))]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    sent = send([file for file, _ in files], to(server.server_address[1]))
    server.shutdown()

    assert [answer.status for answer in sent] == [0, 0, 0]
    assert got == {file.sop_instance_uid: data for file, data in files}


def test_storescp_with_small_pdus_gets_each_byte(tmp_path: Path) -> None:
    draw, port, folder = random.Random(9), free_port(), tmp_path / "storescp"
    folder.mkdir()
    program = Path(_program("dcmdump")).with_name("storescp")  # pynetdicom installs another one of that name
    line = [str(program), "-od", str(folder), "--bit-preserving", "--max-pdu", "4096", "--aetitle", "SCP", str(port)]
    files = [a_file(tmp_path, n, draw, size) for n, size in enumerate((2, 66_000, 1_000_001 // 2 * 2))]
    with _running(line, port, "SCP", tmp_path / "log"):
        sent = send([file for file, _ in files], to(port, ae_title="SCP"))

    assert [answer.status for answer in sent] == [0, 0, 0]
    raw = {path.name.partition(".")[2]: path.read_bytes() for path in folder.iterdir()}
    for file, data in files:
        [stored] = [value for name, value in raw.items() if name == file.sop_instance_uid]
        assert stored[144 + struct.unpack_from("<L", stored, 140)[0] :] == data
