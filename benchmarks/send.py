"""Objects a second and CPU time: this node's sender, dcmtk's storescu and pynetdicom's, in turn, to dcmtk's storescp.

    python benchmarks/send.py --objects 300 --rounds 5

The receiver discards what it gets, so that neither disk is measured.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from dicom_node.deliver.destination import Destination, Outgoing
from dicom_node.deliver.dimse import send
from dicom_node.deliver.echo import echo
from storage.facts.errors import Transient

AE_TITLE = "RECEIVER"
LOST: list[str] = []  #: objects to which pynetdicom's sender missed the response


def program(name: str) -> str:
    """dcmtk's program; pynetdicom installs some of the same names, but not dcmdump."""
    dcmdump = shutil.which("dcmdump")
    if dcmdump is None:
        sys.exit("dcmtk is not installed")
    return str(Path(dcmdump).with_name(name))


def make(folder: Path, count: int) -> list[Outgoing]:
    """CT slices of 512 x 512."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality = CTImageStorage, "CT"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Rows, dataset.Columns, dataset.BitsAllocated = 512, 512, 16
    dataset.add_new("PixelData", "OW", bytes(512 * 1024))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    files = []
    for number in range(count):
        dataset.SOPInstanceUID, dataset.InstanceNumber = generate_uid(), number
        path = folder / f"{number:05}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        files.append(
            Outgoing(
                path=path,
                sop_class_uid=str(CTImageStorage),
                sop_instance_uid=str(dataset.SOPInstanceUID),
                transfer_syntax_uid=str(ExplicitVRLittleEndian),
            )
        )
    return files


@contextmanager
def receiver(nodelay: bool) -> Iterator[Destination]:
    """A storescp that keeps nothing; ``nodelay`` switches Nagle's algorithm off at its side."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program("storescp"), "--ignore", "-pdu", "131072", "--aetitle", AE_TITLE, str(port)]
    environment = ["env", f"TCP_NODELAY={int(nodelay)}"] if nodelay else ["env"]
    destination = Destination(name="storescp", ae_title=AE_TITLE, host="127.0.0.1", port=port, calling_ae="BENCHMARK")
    with subprocess.Popen([*environment, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                try:
                    echo(destination)
                    break
                except Transient:
                    time.sleep(0.05)
            yield destination
        finally:
            process.terminate()


def by_node(files: Sequence[Outgoing], to: Destination) -> None:
    """What the node does."""
    answers = send(files, to)
    assert {a.status for a in answers} == {0}


def by_storescu(files: Sequence[Outgoing], to: Destination) -> None:
    """dcmtk, with Nagle's algorithm off, which is not its default but its best."""
    command = [
        "env",
        "TCP_NODELAY=1",
        program("storescu"),
        "-xe",
        "-R",
        "-pdu",
        "131072",
        "-aec",
        to.ae_title,
        to.host,
        str(to.port),
    ]
    subprocess.run([*command, *(str(f.path) for f in files)], check=True)


def by_pynetdicom(files: Sequence[Outgoing], to: Destination) -> None:
    """Association.send_c_store, as its documentation shows it; an object whose response is lost is sent again."""
    ae = AE("BENCHMARK")
    ae.dimse_timeout = 2
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate(to.host, to.port, ae_title=to.ae_title)
    for file in files:
        dataset = dcmread(file.path)
        while "Status" not in association.send_c_store(dataset):
            LOST.append(file.sop_instance_uid)
            association = ae.associate(to.host, to.port, ae_title=to.ae_title)
    association.release()


def seconds(sender: Callable[[Sequence[Outgoing], Destination], None], files: Sequence[Outgoing], to: Destination
            ) -> tuple[float, float]:  # fmt: skip
    """Wall and CPU seconds of one run, with those of the program it started."""

    def cpu() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in used)

    started, before = time.perf_counter(), cpu()
    sender(files, to)
    return time.perf_counter() - started, cpu() - before


def main() -> None:
    """Run the senders in turn, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nagle", action="store_true", help="leave Nagle's algorithm on at the receiver, its default")
    given = parser.parse_args()
    senders = {"this node": by_node, "dcmtk storescu": by_storescu, "pynetdicom": by_pynetdicom}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in senders}
    with tempfile.TemporaryDirectory() as folder, receiver(nodelay=not given.nagle) as to:
        files = make(Path(folder), given.objects)
        for _ in range(given.rounds):
            for name, sender in senders.items():
                taken[name].append(seconds(sender, files, to))
    for name, runs in taken.items():
        rates = sorted(given.objects / wall for wall, _ in runs)
        spent = statistics.median(used for _, used in runs) / given.objects * 1000
        print(f"{name:16} {statistics.median(rates):7.0f} objects/s ({rates[0]:.0f} to {rates[-1]:.0f}), "
              f"{spent:.2f} ms CPU an object")  # fmt: skip
    print(f"pynetdicom lost {len(LOST)} of {given.rounds * given.objects} responses")


if __name__ == "__main__":
    main()
