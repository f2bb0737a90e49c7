"""An Orthanc with DICOMweb, from which a viewer reads."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.dicom_node.deliver.making import free_port

#: Where Debian puts the plugin.
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A running archive."""

    http: int  #: port

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.http}"

    def store(self, content: bytes) -> None:
        """Put in one Part 10 file. Raises HTTPError when it is refused."""
        request = urllib.request.Request(f"{self.url}/instances", content, {"Content-Type": "application/dicom"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            json.load(answer)

    def returned(self, sop_instance_uid: str) -> bytes:
        """The same file as the archive gives it back."""
        [found] = self._ask("/tools/lookup", sop_instance_uid.encode())
        with urllib.request.urlopen(f"{self.url}/instances/{found['ID']}/file", timeout=60) as answer:
            return bytes(answer.read())

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        with urllib.request.urlopen(urllib.request.Request(self.url + path, body), timeout=10) as answer:
            return json.load(answer)


def program() -> str | None:
    """Orthanc, where it is installed."""
    return shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def orthanc(folder: Path) -> Iterator[Archive]:
    """Run one on free ports, with its files in a folder."""
    command = program()
    assert command is not None
    folder.mkdir(parents=True, exist_ok=True)
    archive = Archive(http=free_port())
    settings = {
        "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "Plugins": [str(DICOMWEB)],
        "HttpServerEnabled": True, "HttpPort": archive.http, "DicomServerEnabled": False,
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "UnknownSopClassAccepted": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([command, str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            _await(archive)
            yield archive
        finally:
            process.terminate()
            process.wait(20)


def _await(archive: Archive) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            archive._ask("/system")
            return
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
