"""The receiver or its index is killed, and senders are cut off, in the middle: what was answered 0x0000 is there, once.

One data folder lives through all points. A kill comes before or after a seeded call of the operating system by which an
object moves on (create, write, sync, rename, link, remove), or a seeded time after the sender began; a cut comes after
a seeded number of bytes of a data set. There the index runs in a thread of the receiver, so that its calls count, too;
in the last test it is the process that it is in the node, and dies alone.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import signal
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from dicom_node.commands.bench_node import configure, listening, receiving
from dicom_node.config import load
from dicom_node.deliver import command
from dicom_node.deliver.association import Association, Body, Proposal
from dicom_node.deliver.destination import Destination
from dicom_node.node import index_child
from dicom_node.receive import feed as feeds
from dicom_node.receive.assembly import expect
from dicom_node.receive.completeness import QuietTime
from dicom_node.receive.events import Began
from dicom_node.receive.feed import Feed, serve
from dicom_node.receive.index import Index
from dicom_node.supervisor import Child, Supervisor
from storage.facts.errors import Transient
from storage.ledger import Ledger

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
SERIES = "1.2.826.0.1.1.7"
DEEDS = ("open", "writev", "fdatasync", "fsync", "replace", "link", "unlink")
EACH = 5  #: objects offered at each point


@dataclass(frozen=True)
class Point:
    """Where it ends: at a deed of the receiver, a time after the start, or a byte of the last object."""

    how: str
    number: int
    after: bool


@dataclass
class Told:
    """What the sender knows."""

    stored: set[int] = field(default_factory=set)
    in_flight: set[int] = field(default_factory=set)  #: when the receiver died: it may have it, or not
    cut: set[int] = field(default_factory=set)  #: not wholly sent: must not be there


def points(number: int, seed: int = 20261121) -> list[Point]:
    dice = random.Random(seed)
    found = []
    for index in range(number):
        how = ("deed", "deed", "time", "cut")[index % 4]
        most = {"deed": 45, "time": 15, "cut": 200_000}[how]
        found.append(Point(how=how, number=dice.randrange(1, most), after=dice.random() < 0.5))
    return found


def data_set(number: int) -> bytes:
    """A CT slice whose size and content follow from its number."""

    def element(group: int, element: int, vr: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HH2sH", group, element, vr, len(value)) + value

    head = element(8, 0x16, b"UI", CT.encode()) + element(8, 0x18, b"UI", f"{SERIES}.{number}".encode())
    head += element(8, 0x60, b"CS", b"CT") + element(0x20, 0xD, b"UI", b"1.2.826.0.1.1")
    head += element(0x20, 0xE, b"UI", SERIES.encode())
    pixels = random.Random(number).randbytes(2 * random.Random(-number).randrange(1000, 120_000))
    return head + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, len(pixels)) + pixels


def receive(folder: Path, channel: Connection, point: Point) -> None:
    """Runs in a process of its own, with the index in a thread: receives, and dies at the point."""
    config = load(configure(folder, 0, "fdatasync"))
    ledger, feed = Ledger(folder), Feed()
    index = Index(ledger, expect(QuietTime(settings=config.receive)))
    with listening(config, feed) as scp:
        threading.Thread(target=serve, args=(feed.connect(), index.take), daemon=True).start()
        assert feed.ask(Began(ae_title="DICOM_NODE"), 30) == 0
        scp.start()
        if point.how == "deed":
            _die_at(point)
        channel.send(scp.port)
        channel.recv()


def _die_at(point: Point) -> None:
    left = [point.number]

    def mined(deed: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            left[0] -= 1
            if not left[0] and not point.after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = deed(*args, **options)
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in DEEDS:
        setattr(os, name, mined(getattr(os, name)))


class Cutting(io.BytesIO):
    """A data set whose connection breaks after so many bytes."""

    def __init__(self, data: bytes, at: int, cut: Callable[[], None]) -> None:
        super().__init__(data)
        self._at, self._cut = at, cut

    def readinto(self, view: Any) -> int:
        if self.tell() + len(view) > self._at:
            self._cut()
        return super().readinto(view)


def offer(port: int, numbers: range, point: Point, kill: Callable[[], None], told: Told) -> None:
    """Send until the end comes."""
    to = Destination(name="node", ae_title="DICOM_NODE", host="127.0.0.1", port=port, calling_ae="PACS")
    number = numbers.start
    began = time.monotonic()
    try:
        with Association(to, [Proposal(abstract_syntax=CT, transfer_syntaxes=(EXPLICIT,))]) as association:
            context = association.context(CT)
            assert context is not None
            for number in numbers:
                if point.how == "time" and time.monotonic() - began > point.number / 1000:
                    kill()
                data = data_set(number)
                cutting = point.how == "cut" and number == numbers.stop - 1
                body = Body.of(data)
                if cutting:
                    told.cut.add(number)
                    body = Body(Cutting(data, point.number % len(data), association._link.close), len(data))
                fields: command.Fields = {
                    command.COMMAND_FIELD: command.C_STORE_RQ,
                    command.AFFECTED_CLASS: CT,
                    command.AFFECTED_INSTANCE: f"{SERIES}.{number}",
                    command.PRIORITY: 0,
                }
                told.in_flight.add(number)
                assert association.ask(context, fields, body).number(command.STATUS) == 0
                told.stored.add(number)
                told.in_flight.discard(number)
    except Transient:
        pass
    if number in told.cut:
        told.in_flight.discard(number)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_killed_or_cut_anywhere_in_reception_what_was_acknowledged_is_there_intact_and_once(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kills = int(request.config.getoption("--kills"))
    number = 200 if kills > 50 else 4 * kills
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.acceptance.test_reception_kill"])
    told = Told()
    died = 0
    for index, point in enumerate(points(number)):
        ours, theirs = processes.Pipe()
        process = processes.Process(target=receive, args=(tmp_path, theirs, point), daemon=True)
        process.start()
        theirs.close()
        port = ours.recv()
        before = set(told.in_flight)
        offer(port, range(index * EACH, (index + 1) * EACH), point, process.kill, told)
        process.join(0.15 if point.how == "deed" else 0)
        died += process.exitcode == -signal.SIGKILL or bool(told.in_flight - before)
        process.kill()
        process.join()
        process.close()
        ours.close()
    with receiving(tmp_path, 0, "fdatasync"):
        pass

    check(tmp_path, told)
    assert died > number // 4, "too few of the kills came in the middle of something"
    assert len(told.stored) > number


def check(folder: Path, told: Told) -> None:
    """Every object answered 0x0000 is there, whole and once; nothing that was cut is; nothing half-written is."""
    ledger = Ledger(folder)
    try:
        with ledger.begin_reading() as tx:
            instances = tx.studies.instances(SERIES)
        faults = ledger.verify().faults
    finally:
        ledger.close()
    there = [int(i.sop_instance_uid.rpartition(".")[2]) for i in instances]
    assert len(there) == len(set(there))
    assert told.stored - set(there) == set()
    assert set(there) - told.stored - told.in_flight == set()
    for instance, number in zip(instances, there, strict=True):
        raw = (folder / instance.path).read_bytes()
        assert raw[144 + struct.unpack("<L", raw[140:144])[0] :] == data_set(number)
    assert list((folder / "incoming").iterdir()) == []
    assert {str(p.relative_to(folder)) for p in (folder / "instances").rglob("*.dcm")} == {i.path for i in instances}
    assert faults == ()


@pytest.mark.timeout(120)
def test_an_index_that_is_killed_again_and_again_loses_nothing_and_holds_nobody_up(tmp_path: Path) -> None:
    path = configure(tmp_path, 0, "fdatasync")
    feed, dice, told = Feed(), random.Random(20261121), Told()
    child = index_child(path, feed)
    index = Supervisor([child], lambda _pid: None)
    stop = threading.Event()
    kills: list[int] = []
    with listening(load(path), feed) as scp:
        index.start()
        assert feed.ask(Began(ae_title="DICOM_NODE"), 30) == 0
        scp.start()
        assassin = threading.Thread(target=_kill_now_and_then, args=(child, dice, stop, kills))
        assassin.start()
        never = Point(how="never", number=0, after=False)
        batches = 0
        while len(kills) < 5:
            offer(scp.port, range(batches * 20, (batches + 1) * 20), never, lambda: None, told)
            batches += 1
        stop.set()
        assassin.join()
        scp.stop()
        assert feed.ask(Began(ae_title="DICOM_NODE"), 30) == 0  # whoever the index is by now
        feed.stop()
        index.stop()

    assert told.stored == set(range(batches * 20))
    check(tmp_path, told)


@pytest.mark.timeout(120)
def test_objects_that_an_index_left_behind_when_it_was_killed_are_entered_once_without_a_restart_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "BACKLOG", 10)
    monkeypatch.setattr(feeds, "PAUSE_SECONDS", 0.02)
    path = configure(tmp_path, 0, "fdatasync")
    feed, told = Feed(), Told()
    child = index_child(path, feed)
    index = Supervisor([child], lambda _pid: None)
    with listening(load(path), feed) as scp:
        index.start()
        assert feed.ask(Began(ae_title="DICOM_NODE"), 30) == 0
        assert child.process is not None
        child.process.send_signal(signal.SIGSTOP)
        scp.start()
        offer(scp.port, range(60), Point(how="never", number=0, after=False), lambda: None, told)
        behind = feed.behind
        child.process.kill()
        until = time.monotonic() + 30
        while feed.behind and time.monotonic() < until:
            time.sleep(0.05)
        left = feed.behind
        scp.stop()
        feed.stop()
        index.stop()

    assert told.stored == set(range(60))
    assert behind > 40
    assert left == 0
    check(tmp_path, told)


def _kill_now_and_then(child: Child, dice: random.Random, stop: threading.Event, kills: list[int]) -> None:
    while not stop.wait(dice.uniform(0.0, 0.6)):
        process, child.pause = child.process, 0.05  # the next start comes soon
        if process is not None and process.poll() is None:
            process.kill()
            kills.append(process.pid)
            stop.wait(dice.uniform(1.0, 2.5))  # until there is a successor, and some time into its work
