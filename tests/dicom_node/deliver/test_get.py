"""A C-GET with an archive that follows a script: what it sends on the association that asks, fragment by fragment."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import pytest

from dicom_node.deliver import pieces
from dicom_node.deliver.association import EXPLICIT, Context, Proposal
from dicom_node.deliver.command import COMMENT, STATUS, encode
from dicom_node.deliver.retrieval import get
from storage.facts.errors import Rejected, Transient
from tests.dicom_node.deliver.making import Peer, elements, peer, to

CT = "1.2.840.10008.5.1.4.1.1.2"
GET_RSP, STORE_RSP = 0x8010, 0x8001
DONE = {0x0900: 0, 0x1021: 2, 0x1022: 0}


@dataclass
class Status:
    code: int
    comment: str


@dataclass
class Object:
    """One object as it came, and what became of it."""

    sop_instance: str
    status: Status
    data: bytes = b""
    fragments: int = 0
    end: str = ""

    def write(self, parts: Sequence[memoryview]) -> None:
        self.data += b"".join(parts)
        self.fragments += len(parts)

    def close(self) -> Status:
        self.end = "closed"
        return self.status

    def tell(self) -> None:
        self.end = "told"

    def abort(self) -> None:
        self.end = "aborted"


@dataclass
class Shelf:
    """Takes what comes, and answers the objects in turn with these statuses."""

    statuses: list[Status] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)

    def offer(self, sop_classes: Collection[str]) -> Sequence[Proposal]:
        assert not sop_classes, "this archive answers no question"
        return [Proposal(abstract_syntax=CT, transfer_syntaxes=(EXPLICIT,), scp_role=True, scu_role=False)]

    def begin(self, context: Context, sop_class: str, sop_instance: str) -> Object:
        assert (context.abstract_syntax, sop_class) == (CT, CT)
        status = self.statuses.pop(0) if self.statuses else Status(0, "")
        self.objects.append(Object(sop_instance, status))
        return self.objects[-1]


def pdv(data: bytes, control: int, context: int = 3) -> bytes:
    return struct.pack(">LBB", len(data) + 2, context, control) + data


def pdu(*fragments: bytes) -> bytes:
    return struct.pack(">BxL", 4, sum(map(len, fragments))) + b"".join(fragments)


def response(said: dict[int, int], context: int = 1, data_set: bool = False) -> bytes:
    fields = {0x0100: GET_RSP, 0x0120: 1, 0x0800: 1 if data_set else 0x0101, **said}
    return pdu(pdv(encode(fields), 3, context))


def request(number: int, uid: str = "", data_set: bool = True) -> bytes:
    """A C-STORE-RQ's command set."""
    fields: dict[int, int | str] = {
        0x0002: CT, 0x0100: 1, 0x0110: number, 0x0700: 0, 0x0800: 1 if data_set else 0x0101,
        0x1000: uid or f"1.2.{number}",
    }  # fmt: skip
    return encode(fields)


def asked(script: Callable[[Peer], None], shelf: Shelf) -> tuple[int, int]:
    """The archive refuses to be asked for SOP classes; on the second association it follows the script."""
    turns = iter([lambda link: link.accept(result=3), script])

    def serve(link: Peer) -> None:
        next(turns)(link)

    with peer(serve, connections=2) as port:
        return get(to(port), shelf, "1.2", "1.2.3")


def told(link: Peer) -> dict[int, bytes]:
    """The command that came."""
    kind, data = link.read()
    assert kind == 4, f"PDU {kind}"
    return elements(data[6:])


def begin(link: Peer) -> None:
    link.accept()
    fields, identifier = link.read_message()
    assert fields[0x0100] == b"\x10\x00"
    assert b"1.2.3" in identifier


def end(link: Peer) -> None:
    assert link.read()[0] == 5
    link.link.sendall(struct.pack(">BxLL", 6, 4, 0))


def test_objects_of_any_fragmentation_come_between_pending_responses() -> None:
    def script(link: Peer) -> None:
        begin(link)
        whole = request(7)
        link.link.sendall(pdu(pdv(whole[:11], 1)) + pdu(pdv(whole[11:], 3), pdv(b"ab", 0)) + pdu(pdv(b"cd", 2)))
        first = told(link)
        link.link.sendall(response({0x0900: 0xFF00, 0x1020: 1, 0x1021: 1}))
        link.link.sendall(pdu(pdv(request(8), 3)) + pdu(pdv(b"e" * 1000, 0), pdv(b"", 0), pdv(b"f", 2)))
        second = told(link)
        link.link.sendall(response(DONE))
        end(link)
        assert [struct.unpack("<H", one[0x0120])[0] for one in (first, second)] == [7, 8]
        assert {one[0x0100] for one in (first, second)} == {struct.pack("<H", STORE_RSP)}
        assert first[0x1000].rstrip(b"\0") == b"1.2.7"

    shelf = Shelf()
    assert asked(script, shelf) == (2, 0)
    assert [(o.sop_instance, o.data, o.end) for o in shelf.objects] == [
        ("1.2.7", b"abcd", "told"), ("1.2.8", b"e" * 1000 + b"f", "told"),
    ]  # fmt: skip


def test_an_object_longer_than_any_message_is_not_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MESSAGE_BYTES", 1000)

    def script(link: Peer) -> None:
        begin(link)
        link.link.sendall(pdu(pdv(request(1), 3)) + 50 * pdu(pdv(b"x" * 100, 0)) + pdu(pdv(b"x", 2)))
        told(link)
        link.link.sendall(response(DONE))
        end(link)

    shelf = Shelf()
    assert asked(script, shelf) == (1, 0)
    assert (len(shelf.objects[0].data), shelf.objects[0].fragments) == (5001, 51)


def test_what_is_refused_is_answered_with_its_reason_and_counted() -> None:
    def script(link: Peer) -> None:
        begin(link)
        for number in (1, 2):
            link.link.sendall(pdu(pdv(request(number), 3), pdv(b"ab", 2)))
            answer = told(link)
            if number == 1:
                assert (answer[STATUS], answer[COMMENT]) == (b"\x00\xa7", b"disk is full")
            else:
                assert COMMENT not in answer
        link.link.sendall(response({0x0900: 0xB000}, data_set=True) + pdu(pdv(b"", 2, 1)))
        end(link)

    assert asked(script, Shelf([Status(0xA700, "disk is full")])) == (1, 1)


def test_a_request_without_a_data_set_is_answered() -> None:
    def script(link: Peer) -> None:
        begin(link)
        link.link.sendall(pdu(pdv(request(1, data_set=False), 3)))
        assert told(link)[STATUS] == b"\x00\xc0"
        link.link.sendall(response({0x0900: 0xB000, 0x1022: 1}))
        end(link)

    assert asked(script, Shelf([Status(0xC000, "no data set")])) == (0, 1)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (pdu(pdv(request(1), 3), pdv(b"ab", 0), pdv(request(2), 3)), "something else within a data set"),
        (pdu(pdv(request(1), 3), pdv(b"ab", 2, context=1)), "something else within a data set"),
        (pdu(pdv(request(1), 3, context=99)), "out of turn"),
        (pdu(pdv(request(1, uid="1.2.x"), 3)), "without a UID"),
        (pdu(pdv(request(1)[:60], 3), pdv(b"ab", 2)), "lost"),
        (struct.pack(">BxLL", 5, 4, 0), "released the association in the middle"),
        (response({0x0900: 0xA702}), "did not send series 1.2.3"),
        (response({0x0120: 9, 0x0900: 0}), "answered something that was not asked"),
        (pdu(pdv(request(1), 3), pdv(b"ab", 0)) + bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 0)), "aborted"),
    ],
    ids=["two at once", "another context", "strange context", "no UID", "cut command", "release", "failure",
         "another message", "abort"],
)  # fmt: skip
def test_what_breaks_the_protocol_ends_the_retrieval_and_leaves_nothing_half(sent: bytes, why: str) -> None:
    def script(link: Peer) -> None:
        begin(link)
        link.link.sendall(sent)
        while link.read()[0]:
            pass

    shelf = Shelf()
    with pytest.raises(Transient, match=None if why in ("lost", "aborted") else why):
        asked(script, shelf)
    assert all(one.end == "aborted" for one in shelf.objects)


def test_an_archive_that_offers_no_retrieval_is_said_so() -> None:
    with pytest.raises(Rejected, match="does not offer C-GET"):
        asked(lambda link: link.accept(result=3), Shelf())
