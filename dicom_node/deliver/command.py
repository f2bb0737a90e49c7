"""DIMSE command sets as bytes and back (PS3.7 6.3.1: group 0000, implicit VR little endian)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

AFFECTED_CLASS, REQUESTED_CLASS = 0x0002, 0x0003
COMMAND_FIELD, MESSAGE_ID, ANSWERS = 0x0100, 0x0110, 0x0120
MOVE_DESTINATION = 0x0600
PRIORITY, DATA_SET_TYPE, STATUS, COMMENT = 0x0700, 0x0800, 0x0900, 0x0902
AFFECTED_INSTANCE, REQUESTED_INSTANCE = 0x1000, 0x1001
EVENT_TYPE, ACTION_TYPE = 0x1002, 0x1008

C_STORE_RQ, C_ECHO_RQ = 0x0001, 0x0030
N_EVENT_REPORT_RQ, N_ACTION_RQ, N_CREATE_RQ = 0x0100, 0x0130, 0x0140
RESPONSE = 0x8000  #: set in the command field of every response
STORED = C_STORE_RQ | RESPONSE
COERCED = 0xB000  #: a status of C-STORE: the peer changed values, which may be the UID (PS3.4 B.2.3)
NO_DATA_SET, A_DATA_SET = 0x0101, 0x0001

_HEAD = struct.Struct("<HHL")
_NUMBER, _GROUP = struct.Struct("<HHLH"), struct.Struct("<HHLL")  #: an element with a US, and with a UL
_US = struct.Struct("<H")

#: Element number to value; every number in the commands spoken here is a US, every text a UID, or the AE title of a
#: C-MOVE or a comment, which are padded with a space (PS3.5 6.2: a NUL in it is refused by some peers).
Fields = Mapping[int, int | str]


def store_request(sop_class_uid: str, sop_instance_uid: str) -> Fields:
    """The C-STORE-RQ of an object (PS3.7 9.3.1.1), of medium priority."""
    return {
        COMMAND_FIELD: C_STORE_RQ,
        AFFECTED_CLASS: sop_class_uid,
        AFFECTED_INSTANCE: sop_instance_uid,
        PRIORITY: 0,
    }


def encode(fields: Fields) -> bytes:
    """A command set with its group length."""
    parts = []
    for number in sorted(fields):
        value = fields[number]
        if isinstance(value, int):
            parts.append(_NUMBER.pack(0, number, 2, value))
            continue
        raw = value.encode("ascii")
        if len(raw) % 2:
            raw += b" " if number in (MOVE_DESTINATION, COMMENT) else b"\0"
        parts += (_HEAD.pack(0, number, len(raw)), raw)
    body = b"".join(parts)
    return _GROUP.pack(0, 0, 4, len(body)) + body


def decode(raw: bytes) -> dict[int, bytes]:
    """Element number to raw value; a truncated tail is left out."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 8 <= len(raw):
        _, number, length = _HEAD.unpack_from(raw, at)
        fields[number] = raw[at + 8 : at + 8 + length]
        at += 8 + length
    return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A DIMSE message as it came."""

    context_id: int
    fields: Mapping[int, bytes]
    data: bytes  #: the data set in the context's transfer syntax; empty when there is none

    def number(self, element: int) -> int | None:
        """A US of the command; None when it is absent or malformed."""
        raw = self.fields.get(element, b"")
        return int(_US.unpack(raw)[0]) if len(raw) == 2 else None

    def text(self, element: int) -> str:
        """A UID or a text of the command; empty when absent."""
        return self.fields.get(element, b"").decode("ascii", "replace").strip(" \0")
