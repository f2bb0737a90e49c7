"""A STOW-RS body, part by part, into the landing folder (PS3.18 10.5.1, RFC 2046 5.1, PS3.10 7.1).

Bytes go to the sink while they arrive. What is held is the head of one part: its headers, its file meta information,
and where the request names a study the beginning of the data set, to see that it belongs there.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

from pydicom.filereader import read_dataset
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from dicom_node.receive import head
from dicom_node.receive.intake import CANNOT_UNDERSTAND, DOES_NOT_MATCH, SUCCESS, Desk, Intake, Request
from dicom_node.receive.landing import UID, Origin
from dicom_node.unreadable import UNREADABLE
from storage.facts.errors import Rejected

META_BYTES = 64 * 1024  #: longest preamble with file meta information that is read
BEFORE_BYTES = 64 * 1024  #: longest text before the first boundary, which RFC 2046 has ignored
MOST_PARTS = 50_000

_REASONS = {
    CANNOT_UNDERSTAND: "a part is no DICOM file (PS3.10 7.1)",
    DOES_NOT_MATCH: "the object is of another study than the request",
}


class BadBody(Rejected):
    """The body is not what its Content-Type says; the text is for the sender."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of one part. The UIDs are empty where it does not tell them."""

    sop_class_uid: str
    sop_instance_uid: str
    status: int  #: 0, or the failure reason (0008,1197)


class Parts:
    """Takes a body in pieces of any size. ``end`` says what became of its parts, ``abort`` keeps nothing half-done."""

    def __init__(self, boundary: bytes, desk: Desk, origin: Origin, study_uid: str | None) -> None:
        self._desk, self._origin, self._study = desk, origin, study_uid
        self.stored: list[Stored] = []
        self._ended = False
        self._delimiter = b"\r\n--" + boundary
        self._before: bytearray | None = bytearray(b"\r\n")  # None once the first boundary was found
        self._field, self._value, self._type = bytearray(), bytearray(), ""
        self._part: _Part | None = None
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin, "on_header_field": self._on_field, "on_header_value": self._on_value,
                    "on_header_end": self._on_header, "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data, "on_part_end": self._on_part_end, "on_end": self._on_end,
                },
            )  # fmt: skip
        except FormParserError as error:
            raise BadBody(f"its boundary cannot be used: {error}") from error

    def write(self, data: bytes) -> None:
        """Take bytes of the body. Raises BadBody; call ``abort`` then."""
        if self._before is not None:
            self._before += data
            at = self._before.find(self._delimiter)
            if (len(self._before) if at < 0 else at) > BEFORE_BYTES:
                raise BadBody("it does not begin with its boundary")
            if at < 0:
                return
            data, self._before = bytes(self._before[at + 2 :]), None
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadBody(f"it is no multipart body: {error}") from error

    def end(self) -> list[Stored]:
        """The body is over: what became of its parts. Raises BadBody when it ended before its last boundary."""
        if not self._ended:
            raise BadBody("it ended before its last boundary")
        return self.stored

    def abort(self) -> None:
        """Keep nothing of a part that is not whole; what was stored before stays stored."""
        if self._part is not None:
            self._part.abort()
            self._part = None

    def _begin(self) -> None:
        if len(self.stored) >= MOST_PARTS:
            raise BadBody(f"it has more than {MOST_PARTS} parts")
        self._type = ""

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        if bytes(self._field).strip().lower() == b"content-type":
            self._type = bytes(self._value).decode("latin-1").partition(";")[0].strip().lower()
        self._field.clear()
        self._value.clear()

    def _on_headers(self) -> None:
        # A part without a type is of the type that the request declares, which was looked at.
        known = self._type in ("", "application/dicom")
        self._part = _Part(self._desk.begin, self._origin, self._study, known=known)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._part is not None:
            self._part.write(memoryview(data)[start:end])

    def _on_part_end(self) -> None:
        if self._part is not None:
            part, self._part = self._part, None
            self.stored.append(part.close())

    def _on_end(self) -> None:
        self._ended = True


class _Part:
    """One PS3.10 file: its head is held until it is known what it is, the rest is passed on."""

    def __init__(
        self, begin: Callable[[Request], Intake], origin: Origin, study_uid: str | None, *, known: bool
    ) -> None:
        self._begin, self._origin, self._study = begin, origin, study_uid
        self._held = bytearray()
        self._request: Request | None = None
        self._intake: Intake | None = None
        self._status: int | None = None if known else CANNOT_UNDERSTAND
        self._enough = head.HEAD_BYTES  #: to be held before it is looked for the study

    def write(self, data: memoryview) -> None:
        if self._status is not None:
            return
        if self._intake is not None:
            self._intake.write([data])
            return
        self._held += data
        if self._request is None:
            self._read_meta()
        if self._request is not None and (self._study is None or len(self._held) >= self._enough):
            self._open()

    def close(self) -> Stored:
        if self._status is None and self._request is not None and self._intake is None:
            self._open(whole=True)
        if self._intake is not None:
            self._status = self._intake.finish().code
        else:
            self._status = self._status or CANNOT_UNDERSTAND
            self._turn_away(self._status)
        request = self._request
        return Stored(
            sop_class_uid=request.sop_class_uid if request else "",
            sop_instance_uid=request.sop_instance_uid if request else "",
            status=self._status,
        )

    def abort(self) -> None:
        if self._intake is not None:
            self._intake.abort()
            self._intake = None

    def _turn_away(self, status: int) -> None:
        """Have it noted, as any object that is refused."""
        nameless = Request(
            origin=self._origin, sop_class_uid="", sop_instance_uid="", abstract_syntax="", transfer_syntax=""
        )
        intake = self._begin(self._request or nameless)
        intake.abort()
        intake.refuse(status, _REASONS[status])
        intake.finish()

    def _read_meta(self) -> None:
        """Take the file meta information off what is held, as soon as it is whole (PS3.10 7.1)."""
        held = self._held
        if len(held) < 144:
            return
        if held[128:132] != b"DICM" or held[132:140] != b"\2\0\0\0UL\4\0":
            self._status = CANNOT_UNDERSTAND
            return
        size = 144 + struct.unpack_from("<L", held, 140)[0]
        if size > META_BYTES:
            self._status = CANNOT_UNDERSTAND
        elif len(held) >= size:
            self._request = self._read_request(bytes(held[144:size]))
            self._status = None if self._request else CANNOT_UNDERSTAND
            del held[:size]

    def _read_request(self, meta: bytes) -> Request | None:
        try:
            found = read_dataset(io.BytesIO(meta), is_implicit_VR=False, is_little_endian=True)
            sop_class, instance = str(found.MediaStorageSOPClassUID), str(found.MediaStorageSOPInstanceUID)
            syntax = str(found.TransferSyntaxUID)
        except UNREADABLE:
            return None
        if not all(map(UID.fullmatch, (sop_class, instance, syntax))):
            return None
        return Request(
            origin=self._origin,
            sop_class_uid=sop_class,
            sop_instance_uid=instance,
            abstract_syntax=sop_class,
            transfer_syntax=syntax,
        )

    def _open(self, *, whole: bool = False) -> None:
        """Pass on what is held, once it is known to be of the study; ``whole`` when no more comes."""
        assert self._request is not None
        if self._study is not None:
            found = self._study_of(self._request)
            if not found and not whole and len(self._held) < head.SLOW_BYTES:
                self._enough = 2 * len(self._held)  # many references may come before it
                return
            if found != self._study:
                self._status = DOES_NOT_MATCH
                return
        self._intake = self._begin(self._request)
        held, self._held = self._held, bytearray()
        self._intake.write([memoryview(held)])

    def _study_of(self, request: Request) -> str:
        try:
            return str(head.read(self._held, request.transfer_syntax).get("StudyInstanceUID", ""))
        except Rejected:
            return ""


def succeeded(stored: Stored) -> bool:
    """Whether the object is durably here."""
    return stored.status == SUCCESS
