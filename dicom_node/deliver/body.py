"""The data set of a Part 10 file, ready to be sent, without holding it in memory."""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from dicom_node.deliver.association import EXPLICIT, IMPLICIT, Body
from dicom_node.deliver.destination import Outgoing
from dicom_node.deliver.implicit import Unwritable, write_implicit
from storage.facts.errors import Rejected, Transient

_READ = os.O_RDONLY | os.O_CLOEXEC
DEFLATED = "1.2.840.10008.1.2.1.99"
_PIECE_BYTES = 1 << 20

#: What a file can be sent in: its own transfer syntax, and the default one when that takes no image codec (PS3.5 10.1).
_ALTERNATIVES = {EXPLICIT: (IMPLICIT,), DEFLATED: (IMPLICIT,)}


def transfer_syntaxes(file: Outgoing) -> tuple[str, ...]:
    """In which transfer syntaxes the file can be sent, its own first."""
    return (file.transfer_syntax_uid, *_ALTERNATIVES.get(file.transfer_syntax_uid, ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A file that was looked at before a connection was made, and where its data set lies."""

    file: Outgoing
    start: int
    size: int


def check(file: Outgoing) -> Ready:
    """Raises Rejected when the file is gone or is not Part 10: better known before a connection is made."""
    try:
        handle = os.open(file.path, _READ)
        try:
            start, size = _data_set(handle, file)
        finally:
            os.close(handle)
    except OSError as error:
        raise _gone(file, error) from error
    return Ready(file=file, start=start, size=size)


@contextmanager
def opened(ready: Ready, transfer_syntax: str) -> Iterator[Body]:
    """The data set in one of its transfer syntaxes. Raises Rejected when the file is gone."""
    file = ready.file
    if transfer_syntax != file.transfer_syntax_uid:
        with _rewritten(ready) as body:
            yield body
        return
    try:
        handle = os.open(file.path, _READ)
    except OSError as error:
        raise _gone(file, error) from error
    try:
        if os.fstat(handle).st_size != ready.start + ready.size:
            raise Rejected(f"the file of object {file.sop_instance_uid} changed since it was looked at: send it again")
        yield Body(None, ready.size, handle, ready.start)
    finally:
        os.close(handle)


def _gone(file: Outgoing, error: OSError) -> Rejected:
    return Rejected(
        f"the file of object {file.sop_instance_uid} cannot be read ({error.strerror}): make the result again"
    )


@contextmanager
def _rewritten(ready: Ready) -> Iterator[Body]:
    """The data set in implicit VR little endian, on disk."""
    file = ready.file
    with tempfile.TemporaryFile() as target:
        try:
            with file.path.open("rb") as source:
                source.seek(ready.start)
                if file.transfer_syntax_uid == DEFLATED:
                    with tempfile.TemporaryFile() as inflated:
                        _inflate(source, inflated)
                        write_implicit(inflated, target)
                else:
                    write_implicit(source, target)
        except FileNotFoundError as error:
            raise _gone(file, error) from error
        except OSError as error:
            raise Transient(
                f"object {file.sop_instance_uid} cannot be rewritten ({error.strerror}): look at the temporary disk"
            ) from error
        except (Unwritable, zlib.error) as error:
            why = error if isinstance(error, Unwritable) else "it cannot be inflated"
            raise Rejected(f"object {file.sop_instance_uid} cannot be written in implicit VR: {why}") from error
        size = target.tell()
        target.seek(0)
        yield Body(target, size)


def _inflate(source: BinaryIO, target: BinaryIO) -> None:
    """A deflated data set as explicit VR little endian (PS3.5 A.5), ready to be read."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof:
        piece = inflater.unconsumed_tail or source.read(_PIECE_BYTES)
        made = inflater.decompress(piece, _PIECE_BYTES)  # some of it may be left when all was read
        if not piece and not made and not inflater.eof:
            raise Unwritable("it ends before its compression does")
        target.write(made)
    target.seek(0)


def _data_set(handle: int, file: Outgoing) -> tuple[int, int]:
    """Where the data set starts, after the file meta information (PS3.10 7.1), and its size."""
    head = os.pread(handle, 144, 0)
    if len(head) < 144 or head[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
        raise Rejected(f"the file of object {file.sop_instance_uid} is no DICOM file (PS3.10): make the result again")
    start = 144 + int(struct.unpack_from("<L", head, 140)[0])
    size = os.fstat(handle).st_size - start
    if size <= 0:
        raise Rejected(f"the file of object {file.sop_instance_uid} has no data set: make the result again")
    return start, size
