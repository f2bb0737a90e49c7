"""Against receivers that others wrote: dcmtk's storescp and Orthanc, where they are installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage

from dicom_node.deliver.commitment import Reference, request
from dicom_node.deliver.dimse import send
from dicom_node.deliver.echo import echo
from storage.facts.errors import Transient
from tests.dicom_node.deliver.making import free_port, new_uid, outgoing, to
from tests.dicom_node.deliver.test_commitment import Listener


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def _await(port: int, ae_title: str) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            echo(to(port, ae_title=ae_title))
        except Transient:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


@contextmanager
def _running(command: list[str], port: int, ae_title: str, log: Path) -> Iterator[None]:
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            _await(port, ae_title)
            yield
        finally:
            process.terminate()


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A storescp as it comes, with Nagle's algorithm on; its port, and the folder where it stores."""
    folder, port = tmp_path / "storescp", free_port()
    folder.mkdir()
    program = Path(_program("dcmdump")).with_name("storescp")  # pynetdicom installs another one of that name
    command = [str(program), "-od", str(folder), "--aetitle", "STORESCP", str(port)]
    with _running(command, port, "STORESCP", tmp_path / "storescp.log"):
        yield port, folder


def test_storescp_gets_what_is_sent(tmp_path: Path, storescp: tuple[int, Path]) -> None:
    port, folder = storescp
    files = [outgoing(tmp_path, n, pixels=262_144) for n in range(40)]
    started = time.monotonic()

    sent = send(files, to(port, ae_title="STORESCP"))

    assert {s.status for s in sent} == {0}
    assert time.monotonic() - started < 1.6  # 40 ms an object would be the delayed acknowledgement
    stored = {str(dcmread(p).SOPInstanceUID): dcmread(p) for p in folder.iterdir()}
    assert stored == {f.sop_instance_uid: dcmread(f.path) for f in files}


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """An Orthanc that knows NODE; its DICOM port, and the port at which it reports commitments."""
    program, folder = _program("Orthanc"), tmp_path_factory.mktemp("orthanc")
    port, node_port = free_port(), free_port()
    settings = {
        "Name": "test", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        "Plugins": [], "HttpServerEnabled": False, "DicomAet": "ORTHANC", "DicomPort": port,
        "DicomCheckCalledAet": True, "StorageCommitmentReportsSize": 100,
        "DicomModalities": {
            "node": {"AET": "NODE", "Host": "127.0.0.1", "Port": node_port, "AllowStorageCommitment": True}
        },
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with _running([program, str(folder / "orthanc.json")], port, "ORTHANC", folder / "orthanc.log"):
        yield port, node_port


def test_orthanc_keeps_one_object_of_two_sends_and_commits_it(tmp_path: Path, orthanc: tuple[int, int]) -> None:
    port, node_port = orthanc
    files = [outgoing(tmp_path, 1), outgoing(tmp_path, 2, ComprehensiveSRStorage)]
    archive = to(port, name="orthanc", ae_title="ORTHANC")
    transaction, missing = new_uid(), new_uid()
    asked = [Reference(sop_class_uid=f.sop_class_uid, sop_instance_uid=f.sop_instance_uid) for f in files]
    asked.append(Reference(sop_class_uid=files[0].sop_class_uid, sop_instance_uid=missing))

    statuses = [s.status for _ in range(2) for s in send(files, archive)]
    node = Listener(node_port)
    early = request(archive, transaction, asked)
    came = node.came.wait(15)
    node.server.shutdown()

    assert statuses == [0, 0, 0, 0]
    assert early is None
    assert came
    assert node.reports[0].transaction_uid == transaction
    assert set(node.reports[0].committed) == {f.sop_instance_uid for f in files}
    assert node.reports[0].failed == ((missing, 0x0112),)


def test_orthanc_rejects_a_wrong_ae_title_in_words(orthanc: tuple[int, int]) -> None:
    with pytest.raises(Transient, match="does not answer to the AE title WRONG"):
        echo(to(orthanc[0], ae_title="WRONG"))
