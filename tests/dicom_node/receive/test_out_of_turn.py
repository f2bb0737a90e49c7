"""A data set that comes before its command, or beside it, ends the association; what pynetdicom serves goes on."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from dicom_node.deliver import command
from dicom_node.deliver.command import Fields
from dicom_node.receive.contexts import PERFORMED_STEP, UPS_PUSH
from tests.dicom_node.pieces import RELEASE_RP, RELEASE_RQ
from tests.dicom_node.receive.conftest import CT, VERIFICATION, MakeReceiver
from tests.dicom_node.receive.test_fragments import connected
from tests.dicom_node.receive.test_hardening import refusals
from tests.dicom_node.receive.test_plain import DATA, ECHO, HALVES, SERIES, STORE, fragment, pdu, said

EXPLICIT = "1.2.840.10008.1.2.1"
#: Context IDs 1, 3, 5 and 7.
PROPOSED = [(CT, [EXPLICIT]), (PERFORMED_STEP, [EXPLICIT]), (VERIFICATION, [EXPLICIT]), (UPS_PUSH, [EXPLICIT])]
STREAMING = pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "plain"])
STEP: Fields = {
    command.AFFECTED_CLASS: PERFORMED_STEP, command.COMMAND_FIELD: command.N_CREATE_RQ, command.MESSAGE_ID: 3,
    command.DATA_SET_TYPE: 1, command.AFFECTED_INSTANCE: "1.2.3.99",
}  # fmt: skip
FIND: Fields = {
    command.AFFECTED_CLASS: UPS_PUSH, command.COMMAND_FIELD: 0x0020, command.MESSAGE_ID: 4, command.PRIORITY: 0,
    command.DATA_SET_TYPE: 1,
}  # fmt: skip


def begun() -> bytes:
    dataset = Dataset()
    dataset.PerformedProcedureStepStatus = "IN PROGRESS"
    return encode(dataset, False, True) or b""


EARLY, BESIDE = "a data set before its command", "on another presentation context"
COMMAND = command.encode(STORE)
FAULTS: dict[str, tuple[list[bytes], str]] = {
    "a data set alone": ([pdu(fragment(1, 2, DATA))], EARLY),
    "a data set that does not end": ([pdu(fragment(1, 0, DATA))], EARLY),
    "a data set on a context never proposed": ([pdu(fragment(99, 2, DATA))], EARLY),
    "its command behind it": ([pdu(fragment(1, 2, DATA)), pdu(said())], EARLY),
    "its command behind it in the PDU": ([pdu(fragment(1, 2, DATA), said())], EARLY),
    "half a command": ([pdu(fragment(1, 1, COMMAND[:40])), pdu(fragment(1, 2, DATA))], EARLY),
    "half a command in the PDU": ([pdu(fragment(1, 1, COMMAND[:40]), fragment(1, 2, DATA))], EARLY),
    "a step on another context": ([pdu(said(STEP, 3)), pdu(fragment(1, 2, begun()))], BESIDE),
    "a step on another context in the PDU": ([pdu(said(STEP, 3), fragment(1, 2, begun()))], BESIDE),
    "a query on another context": ([pdu(said(FIND, 7)), pdu(fragment(3, 2, begun()))], BESIDE),
    "a step whose data set is a command": ([pdu(said(STEP, 3)), pdu(said(ECHO, 5))], "a command inside"),
}


@STREAMING
@pytest.mark.parametrize("split", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("what", FAULTS)
def test_a_data_set_out_of_turn_ends_the_association(
    make_receiver: MakeReceiver, what: str, streaming: bool, split: bool
) -> None:
    receiver = make_receiver(streaming=streaming)
    stream, why = FAULTS[what]
    with connected(receiver.scp.port) as peer:
        peer.associate(PROPOSED)
        peer.link.sendall(pdu(said()) + pdu(fragment(1, 2, DATA)))  # what was well before stays
        assert peer.message().number(command.STATUS) == 0
        raw = b"".join(stream)
        try:
            for piece in [bytes([one]) for one in raw[:300]] + [raw[300:]] if split else [raw]:
                peer.link.sendall(piece)
        except OSError:
            pass  # it has cut us off
        assert peer.read()[0] in (0, 7)

    receiver.settle()
    [noted] = refusals(receiver, "connection refused")
    assert why in noted
    assert receiver.desk.counters.turned_away == {"connection refused": 1}
    assert len(receiver.instances(SERIES)) == 1


@STREAMING
def test_a_data_set_after_an_answered_message_is_out_of_turn(make_receiver: MakeReceiver, streaming: bool) -> None:
    receiver = make_receiver(streaming=streaming)
    with connected(receiver.scp.port) as peer:
        peer.associate(PROPOSED)
        peer.link.sendall(pdu(said(ECHO, 5)))
        assert peer.message().number(command.STATUS) == 0
        peer.link.sendall(pdu(fragment(5, 2, DATA)))
        assert peer.read()[0] in (0, 7)

    receiver.settle()
    assert [EARLY in why for why in refusals(receiver, "connection refused")] == [True]


@STREAMING
@pytest.mark.parametrize("apart", [False, True], ids=["in one PDU", "apart"])
def test_what_pynetdicom_serves_goes_on_however_its_pieces_come(
    make_receiver: MakeReceiver, streaming: bool, apart: bool
) -> None:
    """Its command in two fragments, its data set in three, and objects between."""
    receiver = make_receiver(streaming=streaming)
    data, asked = begun(), command.encode(STEP)
    thirds = [data[: len(data) // 3], data[len(data) // 3 : len(data) // 2], data[len(data) // 2 :]]
    step = [fragment(3, 1, asked[:30]), fragment(3, 3, asked[30:])]
    step += [fragment(3, 2 * (number == 2), piece) for number, piece in enumerate(thirds)]
    query = [fragment(7, 3, command.encode(FIND)), fragment(7, 2, data)]
    with connected(receiver.scp.port) as peer:
        peer.associate(PROPOSED)
        for message, expected in ((step, 0), (query, 0x0211), (step, 0x0111)):
            pieces = [pdu(one) for one in message] if apart else [pdu(*message)]
            for piece in pieces:
                peer.link.sendall(piece[:9])
                peer.link.sendall(piece[9:])
            assert peer.message().number(command.STATUS) == expected
            peer.link.sendall(pdu(said()) + pdu(fragment(1, 0, HALVES[0]), fragment(1, 2, HALVES[1])))
            assert peer.message().number(command.STATUS) == 0
        peer.link.sendall(RELEASE_RQ)
        assert peer.read() == (6, RELEASE_RP[6:])

    receiver.settle()
    assert receiver.desk.counters.turned_away == {}


@STREAMING
def test_no_order_of_messages_that_are_whole_is_out_of_turn(make_receiver: MakeReceiver, streaming: bool) -> None:
    """All of them lie in the buffer at once: pynetdicom reads a command while the one before is still being served."""
    receiver = make_receiver(streaming=streaming)
    messages = [
        pdu(said({**FIND, command.MESSAGE_ID: 100 + number}, 7)) + pdu(fragment(7, 2, begun())) for number in range(20)
    ]
    messages += [pdu(said({**ECHO, command.MESSAGE_ID: 200 + number}, 5)) for number in range(20)]
    order = [messages[7 * number % 40] for number in range(40)]
    with connected(receiver.scp.port) as peer:
        peer.associate(PROPOSED)
        peer.link.sendall(b"".join(order))
        answers = {peer.message().number(command.ANSWERS) for _ in order}
        peer.link.sendall(RELEASE_RQ)
        assert peer.read() == (6, RELEASE_RP[6:])

    assert answers == {*range(100, 120), *range(200, 220)}
    receiver.settle()
    assert receiver.desk.counters.turned_away == {}
