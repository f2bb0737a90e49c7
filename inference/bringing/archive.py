"""Copies a package that somebody sent, folder or ZIP, into a folder of ours, and nothing of it anywhere else.

A ZIP from elsewhere may name paths outside of its folder, links, or gigabytes of zeros in a few kilobytes. All of it is
judged by the directory of the archive before the first byte is written, and counted again while it is written.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from storage.facts.errors import Misconfigured, Transient

_CHUNK = 1 << 20
_LONGEST = 255  #: bytes of one name in a path
_STORED_AS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a package may be at most."""

    files: int = 5000
    bytes: int = 32 * 2**30
    ratio: float = 200.0  #: unpacked over packed, from the first 100 MB on: weights hardly shrink, bombs do
    small: int = 100 * 2**20  #: bytes below which the ratio does not matter


def take_in(source: Path, target: Path, bounds: Bounds | None = None) -> Path:
    """Copy or unpack the package into ``target``, which must not exist; returns the folder of its files.

    That is ``target`` or, where everything lies in a single folder, that folder. Raises Misconfigured when the source
    is neither folder nor ZIP, is damaged, or holds what a package must not hold; Transient when the disk is full.
    """
    bounds = bounds or Bounds()
    try:
        target.mkdir(parents=True)
        if source.is_dir():
            _copy(source, target, bounds)
        elif source.is_file() and zipfile.is_zipfile(source):
            _unpack(source, target, bounds)
        else:
            raise Misconfigured(f"{source}: neither a folder nor a ZIP file: give one of both")
    except OSError as error:
        raise Transient(
            f"{source} could not be copied to {target}: {error.strerror or type(error).__name__}"
        ) from error
    return _inner(target)


def _inner(target: Path) -> Path:
    inside = list(target.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else target


def _copy(source: Path, target: Path, bounds: Bounds) -> None:
    """A folder: regular files alone, counted before they are copied."""
    found: list[Path] = []
    size = 0
    for path in _below(source):
        if len(found) == bounds.files:
            raise Misconfigured(f"{source}: more than {bounds.files} files: this is no model package")
        found.append(path)
        size += path.stat().st_size
    _fits(source, size, target, bounds)
    for path in found:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as file, place.open("xb") as out:
            shutil.copyfileobj(file, out, _CHUNK)
            _sync(out)


def _below(folder: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.is_symlink():
            raise Misconfigured(f"{entry.path}: a link: a package holds its files itself")
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
        else:
            raise Misconfigured(f"{entry.path}: neither file nor folder")


def _unpack(source: Path, target: Path, bounds: Bounds) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            _judge(source, members, bounds)
            _fits(source, sum(info.file_size for info in members), target, bounds)
            for info in members:
                place = target / PurePosixPath(info.filename)
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as file, place.open("xb") as out:
                    _pour(file, out, info.file_size, f"{source}: {info.filename!r}")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, UnicodeError) as error:
        raise Misconfigured(f"{source}: damaged or not a plain ZIP file ({error}): pack it again") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise Misconfigured(f"{source}: {error.filename} is there twice: pack it again") from error


def _judge(source: Path, members: list[zipfile.ZipInfo], bounds: Bounds) -> None:
    """All that is wrong with the directory of the archive, before anything is written."""
    if len(members) > bounds.files:
        raise Misconfigured(f"{source}: more than {bounds.files} files: this is no model package")
    faults = [f"{info.filename!r}: {fault}" for info in members if (fault := _fault(info))]
    names = [info.filename.casefold() for info in members]
    if len(set(names)) < len(names):
        faults.append("two files have one name")
    size, packed = sum(i.file_size for i in members), sum(i.compress_size for i in members)
    if size > bounds.small and size > bounds.ratio * packed:
        faults.append(f"{packed} bytes would become {size}: this is no model package")
    if faults:
        raise Misconfigured("\n  ".join([f"{source}:", *faults[:20]]))


def _fault(info: zipfile.ZipInfo) -> str:
    name = info.filename
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or "\0" in name or ":" in parts[0] or {"", ".", ".."} & set(parts):
        return "its path leaves the folder of the package"
    if any(len(part.encode()) > _LONGEST or not part.isprintable() for part in parts):
        return "its name cannot be a file's name"
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "a link or device: a package holds its files itself"
    if info.flag_bits & 0x1:
        return "encrypted: a package is checked as it is"
    return "" if info.compress_type in _STORED_AS else "packed in a way that is not read here: use stored or deflated"


def _fits(source: Path, size: int, target: Path, bounds: Bounds) -> None:
    if size > bounds.bytes:
        raise Misconfigured(f"{source}: {size / 2**30:.0f} GiB, more than {bounds.bytes / 2**30:.0f}")
    if (free := shutil.disk_usage(target).free) < size:
        raise Transient(f"{source} needs {size / 2**20:.0f} MiB, but only {free / 2**20:.0f} are free at {target}")


def _pour(file: IO[bytes], out: IO[bytes], size: int, what: str) -> None:
    """Write what was announced, and not a byte more."""
    left = size
    while chunk := file.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise Misconfigured(f"{what} is larger than the archive says: pack it again")
        out.write(chunk)
    if left:
        raise Misconfigured(f"{what} is smaller than the archive says: pack it again")
    _sync(out)


def _sync(out: IO[bytes]) -> None:
    out.flush()
    os.fsync(out.fileno())
