"""Where objects land: written while they arrive, made durable, and only then visible under ``incoming``.

A file under ``incoming`` is a whole Part 10 file that was or is about to be acknowledged and is not yet in the ledger.
Its name ends in ``.dcm``; a ``.part`` file was never acknowledged. File meta information carries who sent it
(PS3.10 7.1: Source, Sending and Receiving Application Entity Title), so that a restart can enter it into the ledger.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from blake3 import blake3

from dicom_node.config import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.receive import head as heads
from storage.facts.errors import Misconfigured, Rejected, Transient
from storage.facts.study import SLICE_KEYWORDS, Instance

UID = re.compile(r"[0-9.]{1,64}")

_PREAMBLE = b"\0" * 128 + b"DICM"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_PIECES = 512  #: of one writev; systems take 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who is sending, on which association."""

    association: str
    calling_ae: str
    called_ae: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """An object that lies durably under ``incoming``."""

    path: str
    instance: Instance  #: its path is where the file will lie once it is in the ledger
    origin: Origin
    at: float  #: seconds since the epoch


class Mismatch(Rejected):
    """The data set is not what the C-STORE request says (status A900)."""


class Unreadable(Rejected):
    """The bytes are no data set, or lack what names them (status C000)."""


class DiskFull(Transient):
    """There is too little space (status A700)."""


class Incoming:
    """The landing folder of one data folder. Each process that lands objects there has a mark of its own."""

    def __init__(self, data: Path, *, durable: bool, refuse_below: int, mark: str = "") -> None:
        self.folder = data / "incoming"
        self.path = str(self.folder)
        self.durable, self.mark, self._refuse_below = durable, mark, refuse_below
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.stat(self.folder).st_dev != os.stat(data).st_dev:
            raise Misconfigured(f"{self.folder} must be on the same file system as {data}: files are moved, not copied")
        self._numbers, self._process = count(), f"{mark}{os.getpid():x}"
        self._checked_at, self._low = 0.0, False
        self.descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def sweep(self) -> None:
        """Remove what was never acknowledged; only before the SCP opens. With a mark: what its processes left."""
        for part in self.folder.glob(f"*.{self.mark}*.part" if self.mark else "*.part"):
            part.unlink(missing_ok=True)

    def check_space(self) -> None:
        """Raises DiskFull under the watermark; looks at the disk at most five times a second."""
        now = time.monotonic()
        if now - self._checked_at > 0.2:
            space = os.statvfs(self.folder)
            self._low = space.f_bavail * space.f_frsize < self._refuse_below
            self._checked_at = now
        if self._low:
            raise DiskFull(f"the node has less than {self._refuse_below // 2**20} MB of free space left")

    def sync(self) -> None:
        """Make the names of what lies here durable. Raises OSError."""
        os.fsync(self.descriptor)

    def __del__(self) -> None:
        """Give back the folder's descriptor."""
        descriptor = getattr(self, "descriptor", -1)
        if descriptor >= 0:
            os.close(descriptor)

    def open(self, origin: Origin, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Sink:
        """A sink for one object. Raises DiskFull, or Unreadable for a UID that is none."""
        if not UID.fullmatch(sop_instance_uid) or not _is_uid(sop_class_uid):
            raise Unreadable("the request names no valid SOP Class or SOP Instance UID")
        self.check_space()
        name = f"{sop_instance_uid}.{self._process}-{next(self._numbers):x}"
        return Sink(self, name, origin, (sop_class_uid, sop_instance_uid, transfer_syntax_uid))


class Sink:
    """One object on its way to disk. ``write`` takes its bytes, ``close`` makes it durable and visible."""

    __slots__ = (
        "_digest", "_final", "_handle", "_header", "_incoming", "_landed_at", "_meta", "_origin", "_part", "_size",
        "_uids",
    )  # fmt: skip

    def __init__(self, incoming: Incoming, name: str, origin: Origin, uids: tuple[str, str, str]) -> None:
        self._incoming, self._origin, self._uids = incoming, origin, uids
        self._part, self._final = f"{name}.part", f"{name}.dcm"
        self._digest, self._size = blake3(), 0
        self._header: dict[str, Any] | None = None
        self._meta = file_meta(*uids, origin)
        self._landed_at = 0.0
        self._handle = -1
        try:
            self._handle = os.open(self._part, _FLAGS, 0o640, dir_fd=incoming.descriptor)
        except OSError as error:
            raise _disk(error) from error

    @property
    def durable(self) -> bool:
        """Whether ``close`` waits until the object is on disk."""
        return self._incoming.durable

    def write(self, pieces: Sequence[memoryview]) -> None:
        """Append bytes of the data set. Raises DiskFull or Transient; the sink is then aborted."""
        waiting: list[bytes | memoryview] = [*pieces]
        update, size = self._digest.update, 0
        for piece in pieces:
            update(piece)
            size += len(piece)
        left = size
        if size and not self._size:
            self._header = heads.glance(pieces[0], self._uids[2])
            waiting.insert(0, self._meta)
            left += len(self._meta)
        try:
            self._put(waiting, left)
        except OSError as error:
            self.abort()
            raise _disk(error) from error
        self._size += size

    def _put(self, waiting: list[bytes | memoryview], left: int) -> None:
        while left:
            written = os.writev(self._handle, waiting[:_PIECES])
            left -= written
            if not left:
                return
            while waiting and written >= len(waiting[0]):
                written -= len(waiting.pop(0))
            if written:
                waiting[0] = waiting[0][written:]

    def close(self) -> None:
        """Check what the object is, make it durable, show it under ``incoming``.

        Raises Mismatch, Unreadable, DiskFull or Transient; nothing is left behind then.
        """
        incoming = self._incoming
        try:
            self._check()
            if incoming.durable:
                os.fdatasync(self._handle)
            folder = incoming.descriptor
            os.replace(self._part, self._final, src_dir_fd=folder, dst_dir_fd=folder)
            self._part = ""
            if incoming.durable:
                incoming.sync()
        except OSError as error:
            self._remove(self._final)
            raise _disk(error) from error
        finally:
            self.abort()
        self._landed_at = time.time()

    def landed(self) -> Landed:
        """What landed, after ``close``."""
        assert self._header is not None
        size, digest = self._size + len(self._meta), self._digest.hexdigest()
        return Landed(
            path=f"{self._incoming.path}/{self._final}",
            instance=describe(self._header, self._uids[2], size, digest),
            origin=self._origin,
            at=self._landed_at,
        )

    def abort(self) -> None:
        """Leave nothing behind; harmless after ``close``."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
            if self._part:
                self._remove(self._part)

    def _remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._incoming.descriptor)
        except FileNotFoundError:
            pass

    def _check(self) -> None:
        sop_class, sop_instance, syntax = self._uids
        if self._header is None:
            if not self._size:
                raise Unreadable("the data set is empty")
            self._header = read_header(self._handle, len(self._meta), syntax)
        header = self._header
        _check_uids(header)
        if header["SOPInstanceUID"] != sop_instance or header["SOPClassUID"] != sop_class:
            raise Mismatch("the data set's SOP Class or SOP Instance UID differs from the request's")


def _disk(error: OSError) -> Transient:
    name = errno.errorcode.get(error.errno or 0, "error")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("the node's disk is full")
    return Transient(f"the node cannot write to its disk ({name})")


def read_header(handle: int, offset: int, syntax: str) -> dict[str, Any]:
    """The index elements of the data set that begins at an offset of a file. Raises Unreadable when it is none."""
    try:
        with (
            mmap.mmap(handle, 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
            view[offset:] as dataset,
        ):
            return heads.read(dataset, syntax)
    except heads.Truncated as error:
        raise Unreadable(str(error)) from error


def _check_uids(header: dict[str, Any]) -> None:
    """Raises Unreadable when one of its UIDs is missing or malformed."""
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        value = header.get(keyword)
        if not isinstance(value, str) or not _is_uid(value):
            raise Unreadable(f"the data set has no valid {keyword}")


@lru_cache(maxsize=1024)
def _is_uid(text: str) -> bool:
    return UID.fullmatch(text) is not None


def describe(header: dict[str, Any], syntax: str, size: int, digest: str) -> Instance:
    """The instance that a header and a digest speak of, with the place where it will lie.

    The place carries the first digits of the digest: other bytes under the same UID lie beside, never over it.
    """
    study, series, sop = header["StudyInstanceUID"], header["SeriesInstanceUID"], header["SOPInstanceUID"]
    return Instance(
        sop_instance_uid=sop,
        sop_class_uid=header["SOPClassUID"],
        transfer_syntax_uid=syntax,
        series_uid=series,
        study_uid=study,
        path=f"instances/{study}/{series}/{sop}.{digest[:8]}.dcm",
        size=size,
        digest=digest,
        header={k: header[k] for k in SLICE_KEYWORDS if k in header},
    )


def _element(tag: int, vr: bytes, value: bytes, pad: bytes = b"\0") -> bytes:
    value += pad * (len(value) % 2)
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    length = struct.pack("<HL", 0, len(value)) if vr == b"OB" else struct.pack("<H", len(value))
    return head + length + value


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, origin: Origin) -> bytes:
    """Preamble and file meta information (PS3.10 7.1) in front of the bytes as they were received."""
    before, after = _meta_around(sop_class_uid, transfer_syntax_uid, origin.calling_ae, origin.called_ae)
    named = _element(0x00020003, b"UI", sop_instance_uid.encode("ascii"))
    length = struct.pack("<L", len(before) + len(named) + len(after))
    return b"".join((_PREAMBLE, _element(0x00020000, b"UL", length), before, named, after))


@lru_cache(maxsize=256)
def _meta_around(sop_class_uid: str, transfer_syntax_uid: str, calling: str, called: str) -> tuple[bytes, bytes]:
    """What the objects of a peer share, before and after the SOP Instance UID."""
    source, receiver = calling.encode("ascii", "replace"), called.encode("ascii", "replace")
    before = _element(0x00020001, b"OB", b"\0\1") + _element(0x00020002, b"UI", sop_class_uid.encode("ascii"))
    after = (
        _element(0x00020010, b"UI", transfer_syntax_uid.encode("ascii")),
        _element(0x00020012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
        _element(0x00020013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii"), b" "),
        _element(0x00020016, b"AE", source, b" "),
        _element(0x00020017, b"AE", source, b" "),
        _element(0x00020018, b"AE", receiver, b" "),
    )
    return before, b"".join(after)


def read_landed(path: Path) -> Landed:
    """A file that lies under ``incoming`` after a restart. Raises Unreadable when it is not one of ours."""
    with path.open("rb") as file:
        start = file.read(144)
        if start[128:132] != b"DICM" or start[132:138] != b"\2\0\0\0UL":
            raise Unreadable("it does not begin with file meta information")
        offset = 144 + struct.unpack("<L", start[140:144])[0]
        meta = _read_meta(file.read(offset - 144))
        digest = blake3()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
        size = file.tell()
        header = read_header(file.fileno(), offset, meta[0x00020010])
    _check_uids(header)
    origin = Origin(association="", calling_ae=meta.get(0x00020016, ""), called_ae=meta.get(0x00020018, ""), address="")
    instance = describe(header, meta[0x00020010], size, digest.hexdigest())
    return Landed(path=str(path), instance=instance, origin=origin, at=path.stat().st_mtime)


def _read_meta(raw: bytes) -> dict[int, str]:
    found: dict[int, str] = {}
    at = 0
    while at + 8 <= len(raw):
        group, element, vr, length = struct.unpack_from("<HH2sH", raw, at)
        at += 8
        if vr == b"OB":
            length = struct.unpack_from("<L", raw, at)[0]
            at += 4
        found[group << 16 | element] = raw[at : at + length].decode("ascii", "replace").strip(" \0")
        at += length
    if 0x00020010 not in found:
        raise Unreadable("its file meta information names no transfer syntax")
    return found
