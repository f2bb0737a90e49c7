"""Peers that answer strangely: no object is lost, and none is taken for stored that may not be."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.uid import UID
from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation, SCP_SCU_RoleSelectionNegotiation

from dicom_node.deliver import command
from dicom_node.deliver.association import Association, Body, Proposal
from dicom_node.deliver.destination import Outgoing
from dicom_node.deliver.dimse import Interrupted, Outcome, Unsendable, send
from storage.facts.errors import Transient
from tests.dicom_node.deliver.making import Peer, outgoing, peer, to

CT, EXPLICIT, IMPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
Answer = Callable[[Peer, int], None]


def serving(number: int, answer: Answer, end: int = 5) -> Callable[[Peer], None]:
    """Takes so many objects, and answers each so; then the sender releases (5) or aborts (7)."""

    def script(it: Peer) -> None:
        it.accept()
        for n in range(number):
            fields, _ = it.read_message()
            assert struct.unpack("<H", fields[0x0110])[0] == n + 1
            answer(it, n + 1)
        assert it.read()[0] == end

    return script


def files_in(folder: Path, number: int) -> list[Outgoing]:
    return [outgoing(folder, n) for n in range(number)]


def test_answers_that_come_twice_are_each_taken_once(tmp_path: Path) -> None:
    files = files_in(tmp_path, 4)

    def twice(it: Peer, number: int) -> None:
        it.answer(number, status=0xA900 if number == 2 else 0)
        it.answer(number)

    with peer(serving(4, twice)) as port:
        sent = send(files, to(port))

    assert [(one.sop_instance_uid, one.status) for one in sent] == [
        (file.sop_instance_uid, 0xA900 if n == 1 else 0) for n, file in enumerate(files)
    ]


@pytest.mark.parametrize("first", [77, 3, 0, 65535])
def test_an_answer_to_what_was_not_sent_yet_acknowledges_nothing(tmp_path: Path, first: int) -> None:
    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        it.answer(1)
        it.read_message()
        it.answer(first)
        assert it.read()[0] == 7

    with peer(script) as port, pytest.raises(Interrupted, match="not asked") as caught:
        send(files_in(tmp_path, 3), to(port))
    assert len(caught.value.sent) == 1


def test_an_answer_that_names_another_object_acknowledges_none(tmp_path: Path) -> None:
    with (
        peer(serving(1, lambda it, number: it.answer(number, uid="1.2.3"), end=7)) as port,
        pytest.raises(Interrupted, match="another object") as caught,
    ):
        send(files_in(tmp_path, 1), to(port))
    assert caught.value.sent == ()


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0x0107, 0x0116, 0x0111])
def test_an_object_stored_with_a_warning_is_stored(tmp_path: Path, status: int) -> None:
    """A new UID is one of the values that an archive may coerce."""
    uid = "1.2.3" if status == 0xB000 else ""
    with peer(serving(2, lambda it, number: it.answer(number, status=status, uid=uid))) as port:
        sent = send(files_in(tmp_path, 2), to(port))
    assert [(one.status, one.outcome) for one in sent] == [(status, Outcome.STORED)] * 2


def test_a_status_that_promises_another_answer_acknowledges_nothing(tmp_path: Path) -> None:
    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        it.answer(1, status=0xFF00)
        it.answer(1, status=0xFF00)
        it.answer(1)
        it.read_message()
        it.answer(2)
        assert it.read()[0] == 5

    files = files_in(tmp_path, 2)
    with peer(script) as port, pytest.raises(Interrupted, match="did not take object") as caught:
        send(files, to(port))
    assert [one.sop_instance_uid for one in caught.value.sent] == [files[1].sop_instance_uid]


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_an_abort_in_the_middle_of_an_answer_is_none(tmp_path: Path, cut: int) -> None:
    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        it.answer(1)
        it.read_message()
        whole = Recorder()
        Peer(whole).answer(2)  # type: ignore[arg-type]
        it.link.sendall(whole.data[: min(cut, len(whole.data) - 1)])

    with peer(script) as port, pytest.raises(Interrupted, match="closed the connection") as caught:
        send(files_in(tmp_path, 2), to(port))
    assert len(caught.value.sent) == 1


class Recorder:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.data = b""

    def sendall(self, data: bytes) -> None:
        self.data += data


def test_an_answer_in_fragments_of_a_byte_is_read(tmp_path: Path) -> None:
    def bit_by_bit(it: Peer, number: int) -> None:
        whole = Recorder()
        Peer(whole).answer(number, status=0xB007)  # type: ignore[arg-type]
        body = whole.data[12:]
        for at, byte in enumerate(body):
            control = 3 if at == len(body) - 1 else 1
            it.link.sendall(struct.pack(">BxLLBBB", 4, 7, 3, 1, control, byte))

    with peer(serving(2, bit_by_bit)) as port:
        assert [one.status for one in send(files_in(tmp_path, 2), to(port))] == [0xB007] * 2


@pytest.mark.parametrize("result", [1, 2, 3, 4])
def test_where_no_context_is_accepted_each_object_is_refused_and_named(tmp_path: Path, result: int) -> None:
    def script(it: Peer) -> None:
        it.accept(result=result)
        assert it.read()[0] == 5

    with peer(script) as port:
        sent = send(files_in(tmp_path, 2), to(port))
    assert [(one.outcome, one.of_class) for one in sent] == [(Outcome.REFUSED, True)] * 2


@pytest.mark.parametrize("maximum", [1, 6, 7])
def test_a_peer_that_takes_no_byte_at_a_time_is_told_of(tmp_path: Path, maximum: int) -> None:
    def script(it: Peer) -> None:
        it.accept(maximum_pdu=maximum)
        it.read()

    with peer(script) as port, pytest.raises(Transient, match=f"no more than {maximum} bytes"):
        send(files_in(tmp_path, 1), to(port))


@pytest.mark.parametrize("maximum", [8, 9, 0, 2**31, 2**32 - 1])
def test_a_peer_that_takes_few_or_any_bytes_gets_each(tmp_path: Path, maximum: int) -> None:
    got = []

    def script(it: Peer) -> None:
        it.accept(maximum_pdu=maximum)
        got.append(it.read_message()[1])
        it.answer(1)
        assert it.read()[0] == 5

    file = outgoing(tmp_path, 1)
    with peer(script) as port:
        assert send([file], to(port))[0].status == 0
    assert file.path.read_bytes().endswith(got[0])


@pytest.mark.parametrize("window", [(0, 0), (1, 1), (8, 8)])
def test_a_window_or_roles_that_nobody_asked_for_change_nothing(tmp_path: Path, window: tuple[int, int]) -> None:
    asynchronous = AsynchronousOperationsWindowNegotiation()
    asynchronous.maximum_number_operations_invoked, asynchronous.maximum_number_operations_performed = window
    reversal = SCP_SCU_RoleSelectionNegotiation()
    reversal.sop_class_uid, reversal.scu_role, reversal.scp_role = UID(CT), False, True

    def script(it: Peer) -> None:
        it.accept(more=[asynchronous, reversal])
        for number in (1, 2):
            it.read_message()
            it.answer(number)
        assert it.read()[0] == 5

    with peer(script) as port:
        assert [one.status for one in send(files_in(tmp_path, 2), to(port))] == [0, 0]


def test_what_was_acknowledged_is_known_although_a_later_file_cannot_be_sent(tmp_path: Path) -> None:
    files = [*files_in(tmp_path, 1), outgoing(tmp_path, 2)]

    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        files[1].path.unlink()
        it.answer(1)
        assert it.read()[0] == 7

    with peer(script) as port, pytest.raises(Unsendable, match="cannot be read") as caught:
        send(files, to(port))
    assert [one.sop_instance_uid for one in caught.value.sent] == [files[0].sop_instance_uid]


def twice(association: Association) -> None:
    for _ in range(2):
        association.ask(association.accepted[0], command.store_request(CT, "1.2.3"), Body.of(b""))


def test_a_peer_that_repeats_itself_for_ever_is_not_listened_to_for_ever() -> None:
    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        it.answer(1)
        it.read_message()
        for _ in range(200):
            it.answer(1)
        it.read()

    with (
        peer(script) as port,
        pytest.raises(Transient, match="again and again"),
        Association(to(port), [Proposal(abstract_syntax=CT, transfer_syntaxes=(EXPLICIT,))]) as association,
    ):
        twice(association)
