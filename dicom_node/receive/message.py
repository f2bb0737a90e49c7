"""Command sets of C-STORE as bytes (PS3.7 6.3 and 9.3.1). Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping

C_STORE_RQ = b"\x01\x00"
NO_DATA_SET = b"\x01\x01"

_COMMAND = struct.Struct("<HHL").unpack_from


def parse_command(raw: memoryview | bytes) -> dict[int, bytes]:
    """The elements of a command set by element number (PS3.7 6.3.1: group 0000, implicit VR little endian)."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 8 <= len(raw):
        _, element, length = _COMMAND(raw, at)
        fields[element] = bytes(raw[at + 8 : at + 8 + length])
        at += 8 + length
    return fields


def uid(raw: bytes) -> str:
    """A UID without its padding."""
    return raw.decode("ascii", "replace").strip(" \0")


def store_response(context: int, request: Mapping[int, bytes], status: int, comment: str = "") -> bytes:
    """A C-STORE-RSP (PS3.7 9.3.1.2) as one P-DATA-TF PDU."""
    body = _element(0x0002, request.get(0x0002, b"")) + _element(0x0100, b"\x01\x80")
    body += _element(0x0120, request[0x0110]) + _element(0x0800, NO_DATA_SET)
    body += _element(0x0900, struct.pack("<H", status))
    if comment:
        body += _element(0x0902, comment.encode("ascii", "replace"))
    body += _element(0x1000, request.get(0x1000, b""))
    body = _element(0x0000, struct.pack("<L", len(body))) + body
    return struct.pack(">BBLLBB", 4, 0, len(body) + 6, len(body) + 2, context, 3) + body


def _element(number: int, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(value)) + value
