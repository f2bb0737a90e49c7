"""Command sets that are answered without pynetdicom as bytes (PS3.7 6.3, 9.3.1 and 10.3.6). Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache

C_STORE_RQ, N_DELETE_RQ = b"\x01\x00", b"\x50\x01"
NO_DATA_SET = b"\x01\x01"

_COMMAND = struct.Struct("<HHL").unpack_from
_HEAD = struct.Struct("<HHL").pack
_GROUP_LENGTH = struct.Struct("<HHLL").pack
_PDV_HEAD = struct.Struct(">BBLLBB").pack
_MESSAGE = struct.Struct("<HHL2s").pack


def parse_command(raw: memoryview | bytes | bytearray) -> dict[int, bytes]:
    """The elements of a command set by element number (PS3.7 6.3.1: group 0000, implicit VR little endian)."""
    raw = bytes(raw)
    fields: dict[int, bytes] = {}
    at, end = 8, len(raw)
    while at <= end:
        _, element, length = _COMMAND(raw, at - 8)
        fields[element] = raw[at : at + length]
        at += 8 + length
    return fields


def uid(raw: bytes) -> str:
    """A UID without its padding."""
    return raw.decode("ascii", "replace").strip(" \0")


def store_response(context: int, request: Mapping[int, bytes], status: int, comment: str = "") -> bytes:
    """A C-STORE-RSP (PS3.7 9.3.1.2) as one P-DATA-TF PDU."""
    said = _element(0x0902, comment.encode("ascii", "replace")) if comment else b""
    around = _around(b"\x01\x80", request.get(0x0002, b""), status)
    return _response(context, around, request[0x0110], said + _element(0x1000, request.get(0x1000, b"")))


def delete_response(context: int, request: Mapping[int, bytes], status: int) -> bytes:
    """An N-DELETE-RSP (PS3.7 10.3.6.2) as one P-DATA-TF PDU."""
    around = _around(b"\x50\x81", request.get(0x0003, b""), status)
    return _response(context, around, request[0x0110], _element(0x1000, request.get(0x1001, b"")))


def _response(context: int, around: tuple[bytes, bytes], message_id: bytes, last: bytes) -> bytes:
    before, after = around
    size = len(before) + 10 + len(after) + len(last)
    head = _PDV_HEAD(4, 0, size + 18, size + 14, context, 3) + _GROUP_LENGTH(0, 0, 4, size)
    return b"".join((head, before, _MESSAGE(0, 0x0120, 2, message_id), after, last))


@lru_cache(maxsize=256)
def _around(kind: bytes, sop_class: bytes, status: int) -> tuple[bytes, bytes]:
    """What the responses of an association share, before and after the message ID."""
    before = _element(0x0002, sop_class) + _element(0x0100, kind)
    return before, _element(0x0800, NO_DATA_SET) + _element(0x0900, struct.pack("<H", status))


def _element(number: int, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0"
    return _HEAD(0, number, len(value)) + value
