"""Without the streaming path, what peers send in a wrong order is turned away as it is by that path."""

from __future__ import annotations

import itertools
import random
import socket
import struct
import time
from collections.abc import Sequence

import pytest
from pynetdicom.dsutils import encode

from dicom_node.deliver import command
from dicom_node.deliver.command import Fields
from tests.dicom_node.pieces import RawPeer
from tests.dicom_node.receive.conftest import CT, MR, VERIFICATION, MakeReceiver, Receiver
from tests.dicom_node.receive.test_hardening import refusals
from tests.dicom_node.receive.test_scp import SERIES, a_slice, data_set_bytes

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
#: Context IDs 1, 3 and 5; 7 is refused, 9 never proposed.
PROPOSED = [(CT, [EXPLICIT]), (MR, [EXPLICIT]), (VERIFICATION, [IMPLICIT]), ("1.2.3.4.5", [EXPLICIT])]
WHOLE = a_slice(1)
DATA = encode(WHOLE, False, True) or b""
HALVES = DATA[: len(DATA) // 2], DATA[len(DATA) // 2 :]
STORE = {**command.store_request(CT, str(WHOLE.SOPInstanceUID)), command.MESSAGE_ID: 1, command.DATA_SET_TYPE: 1}
ECHO = {
    command.COMMAND_FIELD: command.C_ECHO_RQ, command.MESSAGE_ID: 7, command.AFFECTED_CLASS: VERIFICATION,
    command.DATA_SET_TYPE: command.NO_DATA_SET,
}  # fmt: skip
STREAMING = pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "plain"])


def fragment(context: int, control: int, data: bytes) -> bytes:
    return struct.pack(">LBB", len(data) + 2, context, control) + data


def pdu(*fragments: bytes) -> bytes:
    return struct.pack(">BxL", 4, sum(map(len, fragments))) + b"".join(fragments)


def said(fields: Fields = STORE, context: int = 1) -> bytes:
    return fragment(context, 3, command.encode(fields))


def without(*elements: int) -> Fields:
    return {element: value for element, value in STORE.items() if element not in elements}


#: What no path may take, and what each says of it.
WRONG: dict[str, tuple[list[bytes], str]] = {
    "another context": ([pdu(said()), pdu(fragment(3, 2, DATA))], "on another presentation context"),
    "a context never proposed": ([pdu(said()), pdu(fragment(9, 2, DATA))], "on another presentation context"),
    "another context at first": (
        [pdu(said()), pdu(fragment(3, 0, HALVES[0])), pdu(fragment(1, 2, HALVES[1]))],
        "on another presentation context",
    ),
    "another context at last": (
        [pdu(said()), pdu(fragment(1, 0, HALVES[0])), pdu(fragment(3, 2, HALVES[1]))],
        "on another presentation context",
    ),
    "a command on no context": ([pdu(said(context=9)), pdu(fragment(9, 2, DATA))], "was not accepted"),
    "a command on a refused context": ([pdu(said(context=7)), pdu(fragment(7, 2, DATA))], "was not accepted"),
    "a command inside": (
        [pdu(said()), pdu(fragment(1, 0, HALVES[0])), pdu(said()), pdu(fragment(1, 2, HALVES[1]))],
        "a command inside of a data set",
    ),
    "two messages": ([pdu(said(), fragment(1, 2, DATA), said(ECHO, 5))], "more than one message in a PDU"),
    "an endless command": ([pdu(fragment(1, 1, bytes(8000)))] * 4, "an endless command"),
    "no message ID": ([pdu(said(without(command.MESSAGE_ID))), pdu(fragment(1, 2, DATA))], "without a message ID"),
}
#: What pynetdicom, given it, would take for something else, leave without an answer, or end its thread on.
MUDDLED: dict[str, tuple[list[bytes], str]] = {
    "data before the command": (
        [pdu(fragment(1, 0, HALVES[0])), pdu(said()), pdu(fragment(1, 2, HALVES[1]))],
        "a data set before its command",
    ),
    "data within the command": (
        [pdu(fragment(1, 1, command.encode(STORE)[:40])), pdu(fragment(1, 0, DATA))],
        "a data set before its command",
    ),
    "two echoes": ([pdu(said(ECHO, 5), said(ECHO, 5))], "more than one message in a PDU"),
    "an empty PDU": ([pdu(said()), pdu(), pdu(fragment(1, 2, DATA))], "a PDU without a fragment"),
    "an empty fragment": ([pdu(said()), pdu(struct.pack(">LB", 1, 1))], "a fragment without a header"),
    "no SOP class": ([pdu(said(without(command.AFFECTED_CLASS)))], "does not name its object"),
    "no SOP instance": ([pdu(said(without(command.AFFECTED_INSTANCE)))], "does not name its object"),
    "no command field": ([pdu(said(without(command.COMMAND_FIELD)))], "an unknown command"),
    "no such command": ([pdu(said({**STORE, command.COMMAND_FIELD: 0x7777}))], "an unknown command"),
    "no word of a data set": ([pdu(said(without(command.DATA_SET_TYPE)))], "whether a data set follows"),
}


def send(receiver: Receiver, stream: Sequence[bytes]) -> list[int | None]:
    """Statuses of the answers to the stream and an echo behind it; None at the end where the node aborted."""
    statuses: list[int | None] = []
    with socket.create_connection(("127.0.0.1", receiver.scp.port), timeout=20) as link:
        peer = RawPeer(link)
        peer.associate(PROPOSED)
        try:
            for one in [*stream, pdu(said(ECHO, 5))]:
                link.sendall(one)
        except OSError:
            pass  # it has cut us off
        while True:
            kind, data = peer.read()
            if kind != 4:
                assert kind in (0, 7)
                return [*statuses, None]
            fields = command.decode(data[6:])
            statuses.append(struct.unpack("<H", fields[command.STATUS])[0])
            if fields[command.COMMAND_FIELD] == b"\x30\x80":
                return statuses


@STREAMING
@pytest.mark.parametrize("what", WRONG)
def test_a_message_that_does_not_belong_together_is_never_stored(
    make_receiver: MakeReceiver, what: str, streaming: bool
) -> None:
    receiver = make_receiver(streaming=streaming)
    stream, why = WRONG[what]

    assert send(receiver, stream) == [None]
    assert send(receiver, [pdu(said()), pdu(fragment(1, 2, DATA))]) == [0, 0]
    receiver.settle()
    [noted] = refusals(receiver, "connection refused")
    assert why in noted
    assert len(receiver.instances(SERIES)) == 1


@pytest.mark.parametrize("what", MUDDLED)
def test_the_plain_path_aborts_what_would_be_left_without_an_answer(make_receiver: MakeReceiver, what: str) -> None:
    receiver = make_receiver(streaming=False)
    stream, why = MUDDLED[what]

    assert send(receiver, stream) == [None]
    assert send(receiver, [pdu(said()), pdu(fragment(1, 2, DATA))]) == [0, 0]
    receiver.settle()
    [noted] = refusals(receiver, "connection refused")
    assert why in noted


@STREAMING
def test_whatever_becomes_of_its_fragments_an_object_is_stored_whole_or_not(
    make_receiver: MakeReceiver, streaming: bool
) -> None:
    receiver = make_receiver(streaming=streaming)
    draw, answered = random.Random(4), 0
    sent: dict[str, bytes] = {}
    for number in range(60):
        dataset = a_slice(number, rows=2)
        raw = sent[str(dataset.SOPInstanceUID)] = encode(dataset, False, True) or b""
        fields = {**STORE, command.AFFECTED_INSTANCE: str(dataset.SOPInstanceUID)}
        marks = sorted({0, len(raw), *(draw.randrange(len(raw)) for _ in range(draw.randint(0, 3)))})
        pieces = [raw[a:b] for a, b in itertools.pairwise(marks)]
        fragments = [said(fields), *(fragment(1, 0, piece) for piece in pieces[:-1]), fragment(1, 2, pieces[-1])]
        at, other = draw.randrange(1, len(fragments)), fragments[draw.randrange(len(fragments))]
        match draw.randrange(4):
            case 0:
                fragments[at] = fragments[at][:4] + b"\3" + fragments[at][5:]
            case 1:
                fragments.insert(at, said(fields))
            case 2:
                fragments.append(other)
        cut = draw.randrange(1, len(fragments) + 1)
        statuses = send(receiver, [pdu(*fragments[:cut]), *(pdu(one) for one in fragments[cut:])])
        answered += statuses[:1] == [0]
    receiver.settle()

    found = receiver.instances(SERIES)
    assert 10 < answered <= len(found) < 60
    assert all(data_set_bytes(receiver.data / one.path) == sent[one.sop_instance_uid] for one in found)


@STREAMING
def test_an_association_that_breaks_off_while_it_is_answered_ends(make_receiver: MakeReceiver, streaming: bool) -> None:
    receiver = make_receiver(streaming=streaming)
    for _ in range(30):
        send(receiver, [pdu(said()) + pdu(fragment(1, 2, DATA)) + pdu(said(context=9))])

    until = time.monotonic() + 20
    while receiver.scp.associations and time.monotonic() < until:
        time.sleep(0.05)
    assert receiver.scp.associations == 0  # and no thread ended by an error: the runner would say so
