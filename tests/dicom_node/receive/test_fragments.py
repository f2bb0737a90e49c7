"""Messages in whatever pieces: what a peer sent is what is stored and what notices say, byte for byte."""

from __future__ import annotations

import random
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import encode

from dicom_node.deliver import command
from dicom_node.deliver.command import Fields
from dicom_node.deliver.tls import Files, client_context
from dicom_node.receive.contexts import PERFORMED_STEP, STORAGE_COMMITMENT, UPS_EVENT, UPS_PUSH
from dicom_node.receive.events import Event, Noticed
from dicom_node.receive.index import Index
from tests.dicom_node.pieces import (
    RELEASE_RP,
    RELEASE_RQ,
    RawPeer,
    Sent,
    Shape,
    any_shape,
    association_request,
    cut,
    pdus,
    trickle,
)
from tests.dicom_node.receive.conftest import CT, MR, VERIFICATION, MakeReceiver, Receiver
from tests.dicom_node.receive.test_hardening import Authority, authority, tls_settings
from tests.dicom_node.receive.test_scp import a_slice, data_set_bytes
from tests.dicom_node.receive.test_wire import link_on

__all__ = ["authority"]  # a fixture
EXPLICIT, IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)
CLASSES = (CT, MR, VERIFICATION, PERFORMED_STEP, UPS_PUSH, UPS_EVENT)
#: Context IDs: each class in explicit, then in implicit VR.
PROPOSED = [(uid, [syntax]) for uid in CLASSES for syntax in (EXPLICIT, IMPLICIT)]
STEP, WORKITEM, SERIES = "1.2.3.99", "1.2.3.98", "1.2.3.1"
STREAMING = pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "plain"])


def context_of(uid: str, syntax: str) -> int:
    return 2 * PROPOSED.index((uid, [syntax])) + 1


@contextmanager
def connected(port: int, tls: ssl.SSLContext | None = None) -> Iterator[RawPeer]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as clear:
        clear.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is None:
            yield RawPeer(clear)
            return
        with tls.wrap_socket(clear, server_hostname="127.0.0.1") as link:
            yield RawPeer(link)


class Conversation:
    """What a peer sends on an association, and what it must find afterwards."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.objects: dict[str, bytes] = {}  #: SOP Instance UID and data set
        self.notices: list[bytes] = []  #: data sets
        self._number = 0

    def store(self, syntax: str = EXPLICIT) -> Sent:
        """An object of random bytes."""
        self._number += 1
        dataset = a_slice(self._number, series=SERIES, rows=2)
        dataset["PixelData"].value = self.draw.randbytes(2 * self.draw.choice([1, 30, 2000, 20_000]))
        raw = encode(dataset, syntax == IMPLICIT, True) or b""
        self.objects[dataset.SOPInstanceUID] = raw
        return self._sent(CT, syntax, command.store_request(CT, dataset.SOPInstanceUID), raw)

    def echo(self) -> Sent:
        fields: Fields = {command.COMMAND_FIELD: command.C_ECHO_RQ, command.AFFECTED_CLASS: VERIFICATION}
        return self._sent(VERIFICATION, EXPLICIT, fields, None)

    def notice(self, number: int, syntax: str = EXPLICIT) -> Sent:
        """N-CREATE and N-SETs of a procedure step, and of a workitem with an N-EVENT-REPORT; the same each time."""
        step = number % 2 == 0
        affected, requested = (command.AFFECTED_CLASS, command.AFFECTED_INSTANCE), (
            command.REQUESTED_CLASS, command.REQUESTED_INSTANCE)  # fmt: skip
        uid, instance = (PERFORMED_STEP, STEP) if step else (UPS_PUSH, WORKITEM)
        kind, names = (command.N_CREATE_RQ, affected) if number < 2 else (0x0120, requested)
        if number % 4 == 3:
            uid, kind, names = UPS_EVENT, command.N_EVENT_REPORT_RQ, affected
        fields: dict[int, int | str] = {command.COMMAND_FIELD: kind, names[0]: uid, names[1]: instance}
        if kind == command.N_EVENT_REPORT_RQ:
            fields[command.EVENT_TYPE] = 1
        raw = encode(self._said(step=step), syntax == IMPLICIT, True) or b""
        self.notices.append(raw)
        return self._sent(uid, syntax, fields, raw)

    def query(self) -> Sent:
        """A C-FIND, which this node does not answer."""
        fields: Fields = {command.COMMAND_FIELD: 0x0020, command.AFFECTED_CLASS: UPS_PUSH, command.PRIORITY: 0}
        return self._sent(UPS_PUSH, EXPLICIT, fields, encode(self._said(step=False), False, True))

    def _said(self, *, step: bool) -> Dataset:
        dataset = Dataset()
        dataset.add_new(0x00090010, "LO", "FILLER")
        dataset.add_new(0x00091001, "OB", self.draw.randbytes(2 * self.draw.choice([1, 50, 3000, 9000])))
        if step:
            dataset.PerformedProcedureStepStatus = "IN PROGRESS"
        else:
            dataset.ProcedureStepState, dataset.InputReadinessState = "SCHEDULED", "INCOMPLETE"
        return dataset

    def _sent(self, uid: str, syntax: str, fields: Fields, data: bytes | None) -> Sent:
        self._number += 1
        numbered = {**fields, command.MESSAGE_ID: self._number}
        return Sent(context=context_of(uid, syntax), fields=numbered, data=data)

    def everything(self) -> Iterator[Sent]:
        """Objects with all that is no object between them."""
        for number in range(7):
            yield self.store(self.draw.choice([EXPLICIT, IMPLICIT]))
            yield self.notice(number, self.draw.choice([EXPLICIT, IMPLICIT]))
            if self.draw.random() < 0.4:
                yield self.draw.choice([self.echo, self.query])()


def has_its_answer(peer: RawPeer, sent: Sent) -> None:
    answer = peer.message()
    expected = 0x0211 if sent.fields[command.COMMAND_FIELD] == 0x0020 else 0x0000
    assert answer.number(command.COMMAND_FIELD) == int(sent.fields[command.COMMAND_FIELD]) | command.RESPONSE
    assert answer.number(command.ANSWERS) == sent.fields[command.MESSAGE_ID]
    assert (answer.context_id, answer.number(command.STATUS)) == (sent.context, expected)
    assert answer.data == b""


def stored(receiver: Receiver) -> dict[str, bytes]:
    receiver.settle()
    return {i.sop_instance_uid: data_set_bytes(receiver.data / i.path) for i in receiver.instances(SERIES)}


@pytest.fixture(name="heard")
def listening(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The data sets of notices as they come to the ledger."""
    heard: list[bytes] = []
    take = Index.take

    def listen(index: Index, events: list[Event]) -> object:
        heard.extend(event.data for event in events if isinstance(event, Noticed))
        return take(index, events)

    monkeypatch.setattr(Index, "take", listen)
    return heard


@STREAMING
@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_sent_in_whatever_pieces_is_what_arrives(
    make_receiver: MakeReceiver, heard: list[bytes], seed: int, streaming: bool
) -> None:
    draw = random.Random(seed)
    receiver, said = make_receiver(streaming=streaming), Conversation(draw)
    with connected(receiver.scp.port) as peer:
        peer.associate(PROPOSED, 20, draw)
        for sent in said.everything():
            raw = b"".join(pdus(sent, any_shape(draw), draw))
            trickle(peer.link, cut(raw, draw, draw.choice([0, 1, 6])))
            has_its_answer(peer, sent)
        trickle(peer.link, [RELEASE_RQ[:5], RELEASE_RQ[5:]])
        assert peer.read() == (6, RELEASE_RP[6:])

    assert stored(receiver) == said.objects
    assert heard == said.notices
    assert receiver.desk.counters.turned_away == {}


def test_by_tls_too_whatever_is_sent_is_what_arrives(
    make_receiver: MakeReceiver, authority: Authority, heard: list[bytes]
) -> None:
    draw = random.Random(1)
    receiver, said = make_receiver(tls=tls_settings(authority)), Conversation(draw)
    files = Files(certificate=authority.issue("pacs"), key=None, trusted=authority.trusted)
    assert receiver.scp.tls_port is not None
    with connected(receiver.scp.tls_port, client_context(files, name="node")) as peer:
        peer.associate(PROPOSED, 20, draw)
        for sent in said.everything():
            raw = b"".join(pdus(sent, any_shape(draw), draw))
            trickle(peer.link, cut(raw, draw, draw.choice([0, 1, 6])))
            has_its_answer(peer, sent)
        peer.link.sendall(RELEASE_RQ)
        assert peer.read() == (6, RELEASE_RP[6:])

    assert stored(receiver) == said.objects
    assert heard == said.notices


@STREAMING
def test_a_large_association_request_is_answered_context_by_context_wherever_it_is_cut(
    make_receiver: MakeReceiver, streaming: bool
) -> None:
    draw = random.Random(7)
    receiver = make_receiver(streaming=streaming)
    offers: list[tuple[str, list[str]]] = [(CT, [EXPLICIT]), (MR, ["1.2.3.4"]), ("1.2.3.5", [IMPLICIT, EXPLICIT])]
    proposed = [draw.choice([*offers, (STORAGE_COMMITMENT, [IMPLICIT])]) for _ in range(128)]
    expected = {CT: (0, EXPLICIT), MR: (4, ""), "1.2.3.5": (3, ""), STORAGE_COMMITMENT: (0, IMPLICIT)}
    raw = association_request(proposed, more=5000)
    with connected(receiver.scp.port) as peer:
        trickle(peer.link, [raw[i : i + 1] for i in range(400)], 0)
        peer.take(raw[400:], 500, draw)
        assert peer.results == {2 * n + 1: expected[uid] for n, (uid, _) in enumerate(proposed)}
        sent = Sent(context=2 * proposed.index((CT, [EXPLICIT])) + 1, fields={}, data=b"")
        said = Conversation(draw).store()
        trickle(peer.link, pdus(Sent(context=sent.context, fields=said.fields, data=said.data), Shape(), draw))
        assert peer.message().number(command.STATUS) == 0


@STREAMING
@pytest.mark.parametrize("seed", range(3))
def test_messages_that_come_in_one_go_are_each_answered(
    make_receiver: MakeReceiver, heard: list[bytes], seed: int, streaming: bool
) -> None:
    draw = random.Random(seed)
    receiver, said = make_receiver(streaming=streaming), Conversation(draw)
    with connected(receiver.scp.port) as peer:
        peer.associate(PROPOSED)
        sent = list(said.everything())
        raw = b"".join(pdu for one in sent for pdu in pdus(one, any_shape(draw), draw))
        trickle(peer.link, cut(raw, draw, 5))
        answers = {peer.message().number(command.ANSWERS) for _ in sent}
        peer.link.sendall(RELEASE_RQ)
        assert peer.read() == (6, RELEASE_RP[6:])

    assert answers == {one.fields[command.MESSAGE_ID] for one in sent}
    assert stored(receiver) == said.objects
    assert sorted(heard) == sorted(said.notices)  # an event report may overtake


@STREAMING
def test_a_release_may_come_with_the_last_bytes_of_an_object(make_receiver: MakeReceiver, streaming: bool) -> None:
    draw = random.Random(3)
    receiver, said = make_receiver(streaming=streaming), Conversation(draw)
    with connected(receiver.scp.port) as peer:
        peer.associate(PROPOSED)
        sent = said.store()
        peer.link.sendall(b"".join(pdus(sent, Shape(maximum=500), draw)) + RELEASE_RQ)
        has_its_answer(peer, sent)
        assert peer.read() == (6, RELEASE_RP[6:])

    assert stored(receiver) == said.objects


def test_an_object_of_any_size_may_have_its_command_in_pieces(make_receiver: MakeReceiver) -> None:
    draw = random.Random(4)
    receiver, said = make_receiver(), Conversation(draw)
    with connected(receiver.scp.port) as peer:
        peer.associate(PROPOSED)
        for pieces in (2, 5):
            sent = said.store()
            raw = (sent.data or b"") + b"\xe1\x7f\x01\x10OB\0\0" + struct.pack("<L", 6 << 20) + draw.randbytes(6 << 20)
            said.objects[str(sent.fields[command.AFFECTED_INSTANCE])] = raw
            longer = Sent(context=sent.context, fields=sent.fields, data=raw)
            peer.link.sendall(b"".join(pdus(longer, Shape(command_pieces=pieces, together=True), draw)))
            has_its_answer(peer, sent)

    assert stored(receiver) == said.objects


def test_a_data_set_on_another_context_than_its_command_is_not_stored(make_receiver: MakeReceiver) -> None:
    draw = random.Random(5)
    receiver, said = make_receiver(), Conversation(draw)
    with connected(receiver.scp.port) as peer:
        peer.associate(PROPOSED)
        sent = said.store()
        head, *data = pdus(sent, Shape(maximum=500), draw)
        other = context_of(CT, IMPLICIT)  # another transfer syntax
        peer.link.sendall(head + b"".join(pdu[:10] + bytes([other]) + pdu[11:] for pdu in data))
        assert peer.read()[0] == 7

    assert stored(receiver) == {}


@pytest.mark.parametrize("pieces", [1, 3])
def test_an_operation_that_no_service_has_is_answered_so_and_the_association_goes_on(
    make_receiver: MakeReceiver, pieces: int
) -> None:
    draw = random.Random(6)
    receiver, said = make_receiver(), Conversation(draw)
    fields: Fields = {
        command.COMMAND_FIELD: 0x0150, command.REQUESTED_CLASS: PERFORMED_STEP, command.REQUESTED_INSTANCE: STEP,
        command.MESSAGE_ID: 77,
    }  # fmt: skip
    with connected(receiver.scp.port) as peer:
        peer.associate(PROPOSED)
        delete = Sent(context=context_of(PERFORMED_STEP, EXPLICIT), fields=fields)
        for sent in (said.store(), said.notice(0), said.store()):
            for one in (sent, delete):
                peer.link.sendall(b"".join(pdus(one, Shape(command_pieces=pieces), draw)))
                if one is sent:
                    has_its_answer(peer, sent)
            answer = peer.message()
            assert answer.number(command.COMMAND_FIELD) == 0x8150
            assert (answer.number(command.ANSWERS), answer.number(command.STATUS)) == (77, 0x0211)
            assert answer.text(command.AFFECTED_INSTANCE) == STEP

    assert stored(receiver) == said.objects


_STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "recv", "fill", "more"]), st.integers(min_value=1, max_value=90)), max_size=60
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(steps=_STEPS, seed=st.integers(0, 1000))
def test_the_buffer_gives_what_the_network_gave_in_any_order_of_calls(steps: list[tuple[str, int]], seed: int) -> None:
    expected, draw = bytearray(), random.Random(seed)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as theirs,
        listener.accept()[0] as ours,
    ):
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = link_on(ours, 16)
        link.buffer = bytearray(64)  # so small that its end is often met
        link.view = memoryview(link.buffer)
        for step, size in steps:
            if step == "write":
                theirs.sendall(more := draw.randbytes(size))
                expected += more
            elif step == "more" and not link.unread and expected:
                link.more()
            elif step == "fill" and (need := min(size, 64, len(expected))):
                link.fill(need)
                assert link.view[link.start : link.end] == expected[: link.unread]
            elif step == "recv":
                size = min(size, len(expected))
                assert link.recv(size) == expected[:size]
                del expected[:size]
        theirs.close()
        assert link.recv(len(expected) + 1) == expected
