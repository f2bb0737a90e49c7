"""What ``dicom-node import`` finds to take in: files of a folder, of a ZIP, or those that a DICOMDIR names.

Media of other people are incomplete, damaged and now and then hostile. What cannot be read is counted, so that nobody
takes a part for the whole; texts name no file inside, for these bear patients' names.
"""

from __future__ import annotations

import lzma
import os
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import config as pydicom_config
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from dicom_node.deliver import body
from dicom_node.deliver.destination import Outgoing
from dicom_node.receive.head import DEFLATED
from dicom_node.unreadable import UNREADABLE
from storage.facts.errors import Rejected

DIRECTORY = "1.2.840.10008.1.3.10"  #: Media Storage Directory Storage
INACTIVE = 0x0000  #: Record In-use Flag (0004,1410) of a record that was taken back (PS3.3 F.3.2.2)

_DAMAGED = (*UNREADABLE, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """The files of a source, and how many there should be besides."""

    paths: Sequence[Path]
    unreadable: int = 0  #: folders that may not be read, members that cannot be unpacked
    missing: int = 0  #: files that a DICOMDIR names and that are not there


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """What the files are."""

    files: Sequence[Outgoing]  #: DICOM, series together
    others: int = 0  #: something else
    unreadable: int = 0  #: DICOM that is damaged, and what may not be read


@contextmanager
def opened(source: Path) -> Iterator[Lot]:
    """The files of a folder, of a ZIP (unpacked for the while), or those that a DICOMDIR names. Raises Rejected."""
    if source.is_dir():
        yield _walked(source)
    elif zipfile.is_zipfile(source):
        with tempfile.TemporaryDirectory() as folder:
            yield _unpacked(source, Path(folder))
    elif source.name.upper() == "DICOMDIR":
        yield named_by(source)
    else:
        yield Lot(paths=[source])


def _walked(source: Path) -> Lot:
    closed: list[OSError] = []
    found = [Path(folder, name) for folder, _, names in os.walk(source, onerror=closed.append) for name in names]
    return Lot(paths=sorted(path for path in found if path.is_file()), unreadable=len(closed))


def _unpacked(source: Path, folder: Path) -> Lot:
    """The members of a ZIP under names of our own: theirs may be twice there, too long, or lead out of the folder.

    Raises Rejected for one that asks for a password, or takes more than the temporary disk has.
    """
    paths: list[Path] = []
    damaged = 0
    try:
        with zipfile.ZipFile(source) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check_members(source, folder, members)
            for number, member in enumerate(members):
                path = folder / f"{number:08}"
                if _unpack(archive, member, path):
                    paths.append(path)
                else:
                    damaged += 1
    except OSError as error:
        raise Rejected(f"{source} cannot be unpacked in {folder}: {error.strerror or 'it is damaged'}") from error
    except _DAMAGED as error:
        raise Rejected(f"{source} is damaged ({type(error).__name__})") from error
    return Lot(paths=paths, unreadable=damaged)


def _check_members(source: Path, folder: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    if any(member.flag_bits & 1 for member in members):
        raise Rejected(f"{source} asks for a password: unpack it, then import the folder")
    need, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if need > free:  # no more is written of a member than it announces
        raise Rejected(
            f"{source} takes {need / 1e6:,.0f} MB unpacked, and {folder.parent} has {free / 1e6:,.0f} MB free: "
            "unpack it elsewhere, then import the folder"
        )


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> bool:
    """Whether it could be unpacked. Raises OSError when the disk is at fault."""
    try:
        with archive.open(member) as inside, path.open("wb") as outside:
            shutil.copyfileobj(inside, outside, 1 << 20)
    except _DAMAGED as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:  # decompressors give none
            raise
        return False
    return True


def named_by(dicomdir: Path) -> Lot:
    """The files that the records of a DICOMDIR refer to (PS3.3 F.3.2.2). Raises Rejected when it is none."""
    root = dicomdir.parent.resolve()
    folders: dict[Path, Mapping[str, Path]] = {}
    found: list[Path] = []
    missing = 0
    try:
        for parts in _file_ids(dicomdir):
            path = _lookup(root, parts, folders)
            if path is None:
                missing += 1
            else:
                found.append(path)
    except (*UNREADABLE, zlib.error) as error:
        raise Rejected(f"{dicomdir} is no DICOMDIR ({type(error).__name__})") from error
    return Lot(paths=found, missing=missing)


def _file_ids(dicomdir: Path) -> list[Sequence[str]]:
    """Raises what pydicom raises."""
    found: list[Sequence[str]] = []
    with _quietly():
        for record in pydicom.dcmread(dicomdir).DirectoryRecordSequence or ():
            parts = record.get("ReferencedFileID")
            if parts and record.get("RecordInUseFlag") != INACTIVE:
                found.append([parts] if isinstance(parts, str) else [str(part) for part in parts])
    return found


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep pydicom from warning of values: it quotes them."""
    with pydicom_config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _lookup(root: Path, parts: Sequence[str], folders: dict[Path, Mapping[str, Path]]) -> Path | None:
    """The file of a File ID below the root; None where it is not there. Systems show a disc's names in lower case."""
    path: Path | None = root
    for part in parts:
        if path is None:
            return None
        if path not in folders:
            folders[path] = _names(path)
        path = folders[path].get(part) or folders[path].get(_plain(part))
    if path is None or not path.is_file() or not path.resolve().is_relative_to(root):
        return None
    return path.resolve()


def _names(folder: Path) -> dict[str, Path]:
    """What lies in a folder, by its own name and by its plain one; nothing where it may not be read."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return {}
    return {_plain(entry.name): entry for entry in entries} | {entry.name: entry for entry in entries}


def _plain(name: str) -> str:
    """A name as ISO 9660 means it: without case, version and an empty extension."""
    return name.strip().upper().partition(";")[0].rstrip(".")


def sort(paths: Sequence[Path]) -> Sorted:
    """The DICOM files among them, series together. A DICOMDIR itself is no image."""
    found: list[tuple[str, Outgoing]] = []
    others = unreadable = 0
    for path in paths:
        try:
            with _quietly():
                series, file = _look(path)
            body.check(file)
        except InvalidDicomError:
            others += 1
        except (*UNREADABLE, zlib.error, Rejected):
            unreadable += 1
        else:
            if file.sop_class_uid == DIRECTORY:
                others += 1
            else:
                found.append((series, file))
    found.sort(key=lambda item: item[0])
    return Sorted(files=[file for _, file in found], others=others, unreadable=unreadable)


def _look(path: Path) -> tuple[str, Outgoing]:
    """Its series, and what it is. Raises InvalidDicomError for no DICOM file, UNREADABLE or Rejected for a bad one."""
    meta = read_file_meta_info(path)
    file = Outgoing(
        path=path,
        sop_class_uid=str(meta.MediaStorageSOPClassUID),
        sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
        transfer_syntax_uid=str(meta.TransferSyntaxUID),
    )
    if file.transfer_syntax_uid in DEFLATED:
        return "", file  # pydicom would inflate the whole of it
    dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
    return str(dataset.get("SeriesInstanceUID", "")), file
