"""A peer by hand: DICOM messages as bytes, in whatever fragments PS3.8 allows, cut where TCP may cut them."""

from __future__ import annotations

import itertools
import random
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import build_context

from dicom_node.deliver import command
from dicom_node.deliver.command import Fields, Message

RELEASE_RQ, RELEASE_RP = struct.pack(">BxLL", 5, 4, 0), struct.pack(">BxLL", 6, 4, 0)
#: An abstract syntax and the transfer syntaxes that are proposed for it.
Proposed = tuple[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message to be sent."""

    context: int
    fields: Fields
    data: bytes | None = None

    @property
    def command(self) -> bytes:
        """Its command set."""
        kind = command.NO_DATA_SET if self.data is None else command.A_DATA_SET
        return command.encode({**self.fields, command.DATA_SET_TYPE: kind})


@dataclass(slots=True)
class Shape:
    """How a message is parted. The defaults are what most peers do."""

    maximum: int = 16384  #: bytes of a PDU beyond its header
    command_pieces: int = 1
    data_pieces: int = 0  #: 0: as few as the maximum allows
    together: bool = False  #: as many fragments in a PDU as it takes
    empty_last: bool = False  #: the last fragment of the data set is empty


def any_shape(draw: random.Random, maximum: int = 16384, *, command_pieces: int = 3) -> Shape:
    """A way that no sane peer would choose, and that each has to be understood in."""
    return Shape(
        maximum=draw.choice([maximum, maximum, draw.randrange(40, 300)]),
        command_pieces=draw.randint(1, command_pieces),
        data_pieces=draw.choice([0, 1, 2, 5, 12]),
        together=draw.random() < 0.6,
        empty_last=draw.random() < 0.3,
    )


def pdus(message: Sent, shape: Shape, draw: random.Random) -> list[bytes]:
    """The message as P-DATA-TF PDUs (PS3.8 9.3.5 and Annex E)."""
    most = shape.maximum - 6
    fragments = [(1, piece) for piece in _pieces(message.command, shape.command_pieces, most, draw)]
    fragments[-1] = (3, fragments[-1][1])
    if message.data is not None:
        data = _pieces(message.data, shape.data_pieces, most, draw)
        data += [b""] if shape.empty_last else []
        fragments += [(0, piece) for piece in data]
        fragments[-1] = (2, fragments[-1][1])
    made: list[bytes] = []
    room = 0
    for control, piece in fragments:
        value = struct.pack(">LBB", len(piece) + 2, message.context, control) + piece
        if shape.together and len(value) <= room:
            made[-1] += value
            room -= len(value)
        else:
            made.append(value)
            room = shape.maximum - len(value)
    return [struct.pack(">BxL", 4, len(values)) + values for values in made]


def _pieces(raw: bytes, number: int, most: int, draw: random.Random) -> list[bytes]:
    """Cut at random places, and where a piece would be too long."""
    marks = {*range(0, len(raw), most), len(raw)} if number == 0 else {0, len(raw)}
    marks |= {draw.randrange(len(raw) + 1) for _ in range(number - 1)}
    at = sorted(marks) if len(marks) > 1 else [0, 0]
    found = [raw[a:b] for a, b in itertools.pairwise(at)]
    return [piece[i : i + most] for piece in found for i in range(0, len(piece) or 1, most)]


def cut(raw: bytes, draw: random.Random, number: int) -> list[bytes]:
    """The bytes in about so many pieces, each cut where it hurts: in a header as likely as in much data."""
    marks = sorted({0, len(raw), *(draw.randrange(len(raw)) for _ in range(number))})
    near = {min(mark + draw.randrange(1, 8), len(raw)) for mark in marks[:-1]}
    marks = sorted({*marks, *near})
    return [raw[a:b] for a, b in itertools.pairwise(marks)]


def trickle(link: socket.socket, pieces: Iterable[bytes], seconds: float = 0.0004) -> None:
    """One write after the other, so that most arrive apart."""
    for piece in pieces:
        link.sendall(piece)
        time.sleep(seconds)


def association_request(proposed: Sequence[Proposed], *, more: int = 0, maximum: int = 16384) -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2) with ``more`` bytes of user identity, asking for the SCP's role of each class."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID("1.2.840.10008.3.1.1.1")
    primitive.calling_ae_title, primitive.called_ae_title = "PACS", "DICOM_NODE"
    contexts = []
    for number, (abstract, syntaxes) in enumerate(proposed):
        contexts.append(build_context(abstract, list(syntaxes)))
        contexts[-1].context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = maximum, UID("1.2.3.4")
    roles = []
    for abstract in dict.fromkeys(abstract for abstract, _ in proposed):
        roles.append(SCP_SCU_RoleSelectionNegotiation())
        roles[-1].sop_class_uid, roles[-1].scu_role, roles[-1].scp_role = UID(abstract), True, True
    primitive.user_information = [length, implementation, *roles]
    if more:
        identity = UserIdentityNegotiation()
        identity.user_identity_type, identity.primary_field = 1, b"u" * more
        primitive.user_information.append(identity)
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


@dataclass(slots=True)
class RawPeer:
    """The other end of a connection, PDU by PDU."""

    link: socket.socket
    results: dict[int, tuple[int, str]] = field(default_factory=dict)  #: of each context: result, transfer syntax

    def read(self) -> tuple[int, bytes]:
        """The next PDU: type and content; (0, b"") when the connection ended."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxL", head)
        return kind, self._exactly(length)

    def associate(self, proposed: Sequence[Proposed], pieces: int = 1, draw: random.Random | None = None) -> None:
        """Ask for an association, in so many pieces; what is answered is in ``results``."""
        self.take(association_request(proposed), pieces, draw)

    def take(self, raw: bytes, pieces: int = 1, draw: random.Random | None = None) -> None:
        """The same with a request that is made already."""
        trickle(self.link, cut(raw, draw, pieces) if draw is not None else [raw])
        kind, data = self.read()
        assert kind == 2, f"PDU {kind} instead of an acceptance"
        pdu = A_ASSOCIATE_AC()
        pdu.decode(struct.pack(">BxL", kind, len(data)) + data)
        for item in pdu.presentation_context:
            syntax = "" if item.result_reason else str(item.transfer_syntax)
            self.results[item.context_id] = (item.result_reason, syntax)

    def message(self) -> Message:
        """The next message, of however many fragments."""
        parts = {0: b"", 1: b""}
        while True:
            kind, data = self.read()
            assert kind == 4, f"PDU {kind} instead of a message"
            at = 0
            while at < len(data):
                length, context, control = struct.unpack_from(">LBB", data, at)
                parts[control & 1] += data[at + 6 : at + 4 + length]
                at += 4 + length
                if control & 2:
                    message = Message(context_id=context, fields=command.decode(parts[1]), data=parts[0])
                    if not control & 1 or message.number(command.DATA_SET_TYPE) == command.NO_DATA_SET:
                        return message

    def _exactly(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            try:
                piece = self.link.recv(size - len(got))
            except ConnectionResetError:
                break
            if not piece:
                break
            got += piece
        return bytes(got)
