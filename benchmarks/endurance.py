"""Many associations for minutes against a live node: does it grow, does it lose anything?

    python benchmarks/endurance.py --minutes 10 --associations 16 [--rate 300] [--kilobytes 30] [--folder DIR]

Each sender stores one series an association, then opens the next; every object is another one. Every 10 seconds a row:
objects stored, what waits in ``incoming``, and of the receiving process and the index their resident memory,
descriptors and threads. At the end every object that was answered 0x0000 must be in the ledger, no other, and neither
process may have grown by more than 16 MB since the first quarter. Every object stays on disk;
``--rate 0`` sends as fast as the node takes it.
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sqlalchemy import func, select

from dicom_node.commands.bench_parties import AE_TITLE, NODE, free_port
from dicom_node.deliver import command
from dicom_node.deliver.association import EXPLICIT, Association, Body, Proposal
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.echo import echo
from storage.facts.errors import Transient
from storage.ledger import Ledger
from storage.tables import InstanceRow

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY = "1.2.826.0.1.9"
SERIES_OBJECTS = 200  #: stored in one association
LOOK_SECONDS = 10.0
SETTLE_SECONDS = 120.0  #: for the index to enter what is left
GROWTH_MB, LIMIT_MB = 16.0, 150.0  #: of either process since the first quarter; of the receiving process ever


@dataclass
class Told:
    """What the senders were told."""

    stored: int = 0
    sent: int = 0
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One process at one time."""

    name: str
    megabytes: float
    descriptors: int
    threads: int


def main() -> int:
    """Send, look, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--associations", type=int, default=16)
    parser.add_argument("--rate", type=float, default=300.0, help="objects a second, of all together; 0: no limit")
    parser.add_argument("--kilobytes", type=int, default=30, help="of an object")
    parser.add_argument("--folder", type=Path, help="where the node writes; default: temporary")
    parser.add_argument("--durability", choices=["fdatasync", "none"], default="fdatasync")
    given = parser.parse_args()
    to = Destination(name="node", ae_title=AE_TITLE, host="127.0.0.1", port=free_port(), calling_ae="ENDURANCE")
    with (
        tempfile.TemporaryDirectory(dir=given.folder) as folder,
        open(Path(folder) / "log", "wb") as log,
        subprocess.Popen([sys.executable, "-c", NODE, f"{folder}/data", str(to.port), given.durability], stderr=log)
        as process,
    ):  # fmt: skip
        try:
            _await(to)
            return _endure(to, psutil.Process(process.pid), Path(folder) / "data", given)
        finally:
            process.terminate()


def _endure(to: Destination, receiver: psutil.Process, data: Path, given: argparse.Namespace) -> int:
    told, began = Told(), time.monotonic()
    until = began + 60 * given.minutes
    pause = given.associations / given.rate if given.rate else 0.0
    senders = [
        threading.Thread(target=_send, args=(to, number, given.kilobytes * 1000, pause, until, told))
        for number in range(given.associations)
    ]
    rest = _looks(receiver)
    looks: list[list[Look]] = []
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        time.sleep(min(LOOK_SECONDS, max(until - time.monotonic(), 1.0)))
        looks.append(_looks(receiver))
        _show(time.monotonic() - began, told, data, looks[-1])
    for sender in senders:
        sender.join()
    settled = _settle(data)
    time.sleep(15)  # what waits for a peer that has gone gives up meanwhile
    entered = _entered(data)
    print(f"{told.sent} sent, {told.stored} answered 0x0000, {entered} in the ledger, entered within {settled:.0f} s")
    wrong = [*told.faults[:5], *_judge(looks, rest, _looks(receiver))]
    if not told.stored or entered != told.stored or told.sent != told.stored:
        wrong.append("what was sent, what was answered and what is in the ledger differ")
    print(f"FAILED: {'; '.join(wrong)}" if wrong else "held: nothing grew, nothing was lost")
    return 1 if wrong else 0


def _send(to: Destination, number: int, size: int, pause: float, until: float, told: Told) -> None:
    """One series an association, until the time is over."""
    proposals = [Proposal(abstract_syntax=CT, transfer_syntaxes=(EXPLICIT,))]
    turn, pixels = 0, bytes(size)
    while time.monotonic() < until:
        turn += 1
        series = f"{STUDY}.{number + 1}.{turn}"
        try:
            with Association(to, proposals) as association:
                for instance in range(SERIES_OBJECTS):
                    if time.monotonic() >= until:
                        break
                    began = time.monotonic()
                    _store(association, series, f"{series}.{instance + 1}", pixels, told)
                    time.sleep(max(pause - (time.monotonic() - began), 0.0))
        except Transient as error:
            with told.lock:
                told.faults.append(str(error))
            time.sleep(1.0)


def _store(association: Association, series: str, uid: str, pixels: bytes, told: Told) -> None:
    context = association.context(CT)
    assert context is not None
    with told.lock:
        told.sent += 1
    data = Body.of(_data_set(series, uid, pixels))
    status = association.ask(context, command.store_request(CT, uid), data).number(command.STATUS)
    with told.lock:
        if status == 0:
            told.stored += 1
        else:
            told.faults.append(f"status 0x{status or 0:04X}")


def _data_set(series: str, uid: str, pixels: bytes) -> bytes:
    """What the index wants of an object, and so many bytes of pixels."""
    texts = ((0x0008, 0x16, CT), (0x0008, 0x18, uid), (0x0020, 0x0D, STUDY), (0x0020, 0x0E, series))
    head = b"".join(_element(group, number, value.encode()) for group, number, value in texts)
    return head + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, len(pixels)) + pixels


def _element(group: int, number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, b"UI", len(value)) + value


def _looks(receiver: psutil.Process) -> list[Look]:
    """The receiving process, then the index."""
    found = []
    for name, process in zip(("receiver", "index"), [receiver, *receiver.children()], strict=False):
        found.append(
            Look(
                name=name,
                megabytes=process.memory_info().rss / 1e6,
                descriptors=process.num_fds(),
                threads=process.num_threads(),
            )
        )
    return found


def _show(seconds: float, told: Told, data: Path, looks: list[Look]) -> None:
    waiting = sum(1 for _ in (data / "incoming").iterdir())
    of_each = "; ".join(f"{x.name} {x.megabytes:.0f} MB, {x.descriptors} fd, {x.threads} threads" for x in looks)
    print(f"{seconds:4.0f} s: {told.stored} stored, {waiting} wait; {of_each}", flush=True)


def _judge(looks: list[list[Look]], rest: list[Look], after: list[Look]) -> list[str]:
    """What is wrong with memory and descriptors."""
    wrong = []
    quarter = looks[len(looks) // 4]
    for early, late, before, at_rest in zip(quarter, looks[-1], rest, after, strict=True):
        if late.megabytes - early.megabytes > GROWTH_MB:
            wrong.append(f"the {late.name} grew from {early.megabytes:.0f} to {late.megabytes:.0f} MB")
        if at_rest.descriptors > before.descriptors + 4:
            wrong.append(f"the {late.name} had {before.descriptors} descriptors and keeps {at_rest.descriptors}")
    most = max(row[0].megabytes for row in looks)
    if most > LIMIT_MB:
        wrong.append(f"the receiver took {most:.0f} MB")
    return wrong


def _settle(data: Path) -> float:
    began = time.monotonic()
    while any((data / "incoming").iterdir()) and time.monotonic() - began < SETTLE_SECONDS:
        time.sleep(0.2)
    return time.monotonic() - began


def _entered(data: Path) -> int:
    ledger = Ledger(data)
    try:
        with ledger.read() as session:
            return session.scalar(select(func.count()).select_from(InstanceRow)) or 0
    finally:
        ledger.close()


def _await(to: Destination) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            echo(to)
            return
        except Transient:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
