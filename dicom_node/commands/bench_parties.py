"""The parties of a benchmark: receivers that are started anew for each run, senders, and what is sent."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, JPEGLosslessSV1, generate_uid

from dicom_node.deliver.destination import Destination, Outgoing
from dicom_node.deliver.dimse import send
from dicom_node.deliver.echo import echo
from storage.facts.errors import Misconfigured, Transient

AE_TITLE = "DICOM_NODE"
FRAME_BYTES = 512 * 1024
NODE = "from dicom_node.commands.bench_node import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A receiver that can be started on a port with a folder of its own."""

    name: str
    command: Callable[[Path, int], list[str]]
    settled: Callable[[Path], bool] = lambda _folder: True  #: whether it has finished what it was sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run took."""

    seconds: float
    cpu_seconds: float  #: of the receiver and the processes it started; of the sender in ``bench send``
    peak_mb: float = 0.0  #: most resident memory of the receiver


def program(name: str) -> str | None:
    """DCMTK's program; other packages install some of the same names, but not dcmdump."""
    dcmdump = shutil.which("dcmdump")
    found = Path(dcmdump).with_name(name) if dcmdump else None
    return str(found) if found is not None and found.exists() else None


def make_slices(folder: Path, count: int) -> list[Outgoing]:
    """CT slices of 512 x 512 (0.5 MB) of one series."""
    return [_write(folder, number, 1, ExplicitVRLittleEndian) for number in range(count)]


def make_small(folder: Path, count: int) -> list[Outgoing]:
    """Objects of 30 kB under a JPEG transfer syntax; what is in them is not looked at."""
    return [_write(folder, number, 0, JPEGLosslessSV1) for number in range(count)]


def make_multiframe(folder: Path, megabytes: int) -> list[Outgoing]:
    """One object of so many MB."""
    return [_write(folder, 0, megabytes * 1_000_000 // FRAME_BYTES, ExplicitVRLittleEndian)]


def _write(folder: Path, number: int, frames: int, syntax: str) -> Outgoing:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"2.25.{_folder_number(folder)}", _series(folder)
    dataset.Modality, dataset.InstanceNumber, dataset.NumberOfFrames = "CT", number, max(frames, 1)
    dataset.Rows, dataset.Columns, dataset.BitsAllocated = 512, 512, 16
    if frames:
        dataset.add_new("PixelData", "OW", bytes(frames * FRAME_BYTES))
    else:
        item = os.urandom(29_500)
        dataset.add_new("PixelData", "OB", _encapsulated(item))
        dataset["PixelData"].is_undefined_length = True
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    path = folder / f"{number:05}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return Outgoing(
        path=path,
        sop_class_uid=str(CTImageStorage),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        transfer_syntax_uid=str(syntax),
    )


def _encapsulated(item: bytes) -> bytes:
    """Empty offset table and one fragment (PS3.5 A.4)."""
    return b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item


def _folder_number(folder: Path) -> int:
    return int.from_bytes(str(folder).encode()[-12:], "big") + 1


def _series(folder: Path) -> str:
    return f"2.25.{_folder_number(folder)}.1"


def nodes() -> list[tuple[str, Party]]:
    """This node by its durability: durable, and not."""

    def node(durability: str, name: str) -> tuple[str, Party]:
        def command(folder: Path, port: int) -> list[str]:
            return [sys.executable, "-c", NODE, str(folder), str(port), durability]

        return durability, Party(name=f"this node, {name}", command=command, settled=entered)

    return [node("fdatasync", "durable"), node("none", "no sync")]


def receivers() -> list[Party]:
    """This node, durable and not, and what else is installed."""
    found = [party for _, party in nodes()]
    storescp = program("storescp")
    if storescp is not None:
        found += [
            Party(name="storescp", command=_storescp(storescp)),
            Party(name="storescp -pdu 131072", command=_storescp(storescp, "-pdu", "131072")),
            Party(name="storescp --fork +B -pdu 131072", command=_storescp(storescp, "--fork", "+B", "-pdu", "131072")),
        ]
    orthanc = shutil.which("Orthanc", path=f"{os.defpath}:/usr/sbin:/usr/local/sbin")
    if orthanc is not None:
        found.append(Party(name="Orthanc", command=_orthanc(orthanc)))
    return found


def entered(folder: Path) -> bool:
    """Whether the node has everything in its ledger that it took."""
    return not any((folder / "incoming").iterdir())


def _storescp(path: str, *options: str) -> Callable[[Path, int], list[str]]:
    return lambda folder, port: [path, "+xa", *options, "-od", str(folder), "--aetitle", AE_TITLE, str(port)]


def _orthanc(path: str) -> Callable[[Path, int], list[str]]:
    def command(folder: Path, port: int) -> list[str]:
        settings = {
            "Name": "benchmark", "StorageDirectory": str(folder), "IndexDirectory": str(folder), "DicomPort": port,
            "DicomAet": AE_TITLE, "HttpServerEnabled": False, "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowEcho": True, "DicomScpTimeout": 60,
        }  # fmt: skip
        path_of_settings = folder / "orthanc.json"
        path_of_settings.write_text(json.dumps(settings), encoding="utf-8")
        return [path, str(path_of_settings)]

    return command


@contextmanager
def started(party: Party, folder: Path, *, nodelay: bool) -> Iterator[tuple[Destination, psutil.Process]]:
    """The receiver while it runs. ``nodelay`` switches off Nagle's algorithm in DCMTK, which is not its default."""
    port = free_port()
    to = Destination(name=party.name, ae_title=AE_TITLE, host="127.0.0.1", port=port, calling_ae="BENCHMARK")
    command = [*_environment(nodelay), *party.command(folder, port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await(to, process)
            yield to, psutil.Process(process.pid)
        finally:
            process.terminate()


def free_port() -> int:
    """A port of this machine on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(to: Destination, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            echo(to)
            return
        except Transient as error:
            if process.poll() is not None or time.monotonic() > until:
                raise Misconfigured(f"{to.name} does not start: {error}") from error
            time.sleep(0.05)


def _environment(nodelay: bool) -> list[str]:
    return ["env", f"TCP_NODELAY={int(nodelay)}"]


def shares(files: Sequence[Outgoing], associations: int) -> list[list[Outgoing]]:
    """The files, dealt out to so many associations."""
    return [list(files[start::associations]) for start in range(associations)]


def send_by_storescu(files: Sequence[Outgoing], to: Destination, associations: int, nodelay: bool) -> None:
    """DCMTK's sender, one process an association."""
    path = program("storescu")
    assert path is not None
    head = [*_environment(nodelay), path, "-R", "-pdu", "131072", "-aec", to.ae_title]
    head += ["-xs"] if files[0].transfer_syntax_uid == JPEGLosslessSV1 else ["-xe"]
    running = [
        subprocess.Popen([*head, to.host, str(to.port), *(str(f.path) for f in share)])
        for share in shares(files, associations)
    ]
    endings = [process.wait() for process in running]
    if any(endings):
        raise Misconfigured(f"storescu could not send to {to.name}")


def send_by_node(files: Sequence[Outgoing], to: Destination, associations: int, nodelay: bool) -> None:
    """What the node sends results with."""
    del nodelay  # it always is
    answers = send(files, dataclasses.replace(to, associations=associations))
    if {answer.status for answer in answers} != {0} or len(answers) != len(files):
        raise Misconfigured(f"{to.name} did not take every object")


def used(process: psutil.Process) -> float:
    """CPU seconds of a process and those that it started."""
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        try:
            below = child.cpu_times()
            total += below.user + below.system
        except psutil.NoSuchProcess:
            pass
    return float(total)


def peak_mb(process: psutil.Process) -> float:
    """Most resident memory so far, MB; where the system does not tell, what is resident now."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) / 1000 for line in text.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return float(process.memory_info().rss / 1e6)
