"""Content-addressed bytes on disk: named by SHA-256, so writing twice is harmless and reading can be checked."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
from pathlib import Path

from storage.facts.errors import Rejected, Transient


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Blobs:
    """The blobs under one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, digest: str) -> Path:
        """Where the blob lies or would lie."""
        return self._folder / digest[:2] / digest

    def put(self, data: bytes | memoryview) -> str:
        """Store ``data`` durably and return its digest. Raises Transient when the disk refuses it.

        What is there already counts as new, so that nobody removes it before it is said what it is for.
        """
        digest = hashlib.sha256(data).hexdigest()
        target = self.path(digest)
        try:
            if _refreshed(target):
                return digest
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".part-", delete=False) as part:
                try:
                    part.write(data)
                    part.flush()
                    os.fdatasync(part.fileno())
                except OSError:
                    os.unlink(part.name)
                    raise
            os.replace(part.name, target)
            sync_folder(target.parent)
        except OSError as error:
            raise Transient(
                f"cannot write to {self._folder}: {errno.errorcode.get(error.errno or 0, error)}"
            ) from error
        return digest

    def get(self, digest: str) -> bytes:
        """The blob's bytes. Raises Rejected when they are missing or no longer what was written."""
        try:
            data = self.path(digest).read_bytes()
        except OSError as error:
            raise Rejected(f"blob {digest[:12]} is missing from {self._folder}: restore it from a backup") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise Rejected(f"blob {digest[:12]} in {self._folder} was altered on disk: restore it from a backup")
        return data

    def is_young(self, digest: str, seconds: float) -> bool:
        """Whether the blob was put, or put again, within so many seconds; False where there is none."""
        try:
            return _is_young(self.path(digest), seconds)
        except FileNotFoundError:
            return False

    def remove(self, digest: str, seconds: float) -> None:
        """Remove the blob unless it was put within so many seconds."""
        target = self.path(digest)
        apart = target.with_name(f".gone-{digest}")
        try:
            os.rename(target, apart)  # who puts it from now on writes it anew; who did just before has made it young
        except FileNotFoundError:
            return
        if _is_young(apart, seconds):
            os.rename(apart, target)
        else:
            apart.unlink()


def _is_young(path: Path, seconds: float) -> bool:
    """Whether a file was changed within so many seconds. What is from the future came before a clock was set back."""
    return abs(time.time() - path.stat().st_mtime) < seconds


def _refreshed(target: Path) -> bool:
    """Mark a blob as put just now; False where there is none."""
    try:
        os.utime(target)
    except FileNotFoundError:
        return False
    return True
