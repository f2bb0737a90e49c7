"""The receiving process of the real node stays under 120 MB, whatever is sent."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dicom_node.deliver import command
from dicom_node.deliver.association import Association, Body, Proposal
from dicom_node.deliver.destination import Destination

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
LIMIT_KB = 120_000

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


class Zeros(io.RawIOBase):
    """So many bytes after a head, made while they are read: the sender must not be what is measured."""

    def __init__(self, head: bytes) -> None:
        self._head = head

    def readinto(self, view: Any) -> int:
        size = min(len(view), len(self._head)) if self._head else len(view)
        view[:size] = self._head[:size] if self._head else bytes(size)
        self._head = self._head[size:]
        return size


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def head_of(uid: str, before_series: bytes = b"") -> bytes:
    found = element(8, 0x16, b"UI", CT.encode()) + element(8, 0x18, b"UI", uid.encode())
    found += element(8, 0x60, b"CS", b"CT") + before_series
    return found + element(0x20, 0xD, b"UI", b"1.2.826.0.5") + element(0x20, 0xE, b"UI", b"1.2.826.0.5.1")


def send(port: int, uid: str, head: bytes, size: int) -> int:
    """Store one object with so many bytes of pixel data; the status."""
    to = Destination(name="node", ae_title="DICOM_NODE", host="127.0.0.1", port=port, calling_ae="PACS")
    head += struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, size)
    with Association(to, [Proposal(abstract_syntax=CT, transfer_syntaxes=(EXPLICIT,))]) as association:
        context = association.context(CT)
        assert context is not None
        data = Body(Zeros(head), len(head) + size)  # type: ignore[arg-type]
        answer = association.ask(context, command.store_request(CT, uid), data)
    return answer.number(command.STATUS) or 0


def nested(depth: int) -> bytes:
    """Sequences of undefined length in each other, without end."""
    sequence, item = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff", b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return (sequence + item) * depth


@contextmanager
def serving(folder: Path) -> Iterator[tuple[int, int]]:
    """``dicom-node serve`` without workers: its process ID and port."""
    (folder / "node.toml").write_text(
        '[node]\nport = 0\nbind = "127.0.0.1"\n[receive]\naccept_unknown_peers = true\nrefuse_below_mb = 1\n'
        "[workers]\ncount = 0\n",
        encoding="utf-8",
    )
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "dicom_node", "serve", "-c", str(folder / "node.toml")], stdout=log, stderr=log
    )
    ready = folder / "data" / "run" / "ready.json"
    try:
        until = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")[-2000:]
            assert time.monotonic() < until
            time.sleep(0.05)
        facts = json.loads(ready.read_text(encoding="utf-8"))
        yield facts["pid"], facts["port"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        log.close()


def status_of(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name))


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.timeout(170)
def test_memory_stays_flat_whatever_is_sent_and_idle_associations_cost_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as (pid, port):
        assert send(port, "1.2.826.0.5.1.1", head_of("1.2.826.0.5.1.1"), 300_000_000) == 0
        after_one = status_of(pid, "VmHWM")
        with ThreadPoolExecutor(16) as pool:
            uids = [f"1.2.826.0.5.1.{n}" for n in range(2, 34)]
            assert {*pool.map(lambda uid: send(port, uid, head_of(uid), 8_000_000), uids)} == {0}
        for depth in (1000, 200_000):
            uid = f"1.2.826.0.5.1.9{depth}"
            assert send(port, uid, head_of(uid, nested(depth)), 100) in (0, 0xC000)
        peak, descriptors = status_of(pid, "VmHWM"), len(list(Path(f"/proc/{pid}/fd").iterdir()))
        to = Destination(name="node", ae_title="DICOM_NODE", host="127.0.0.1", port=port, calling_ae="PACS")
        idle = [Association(to, [Proposal(abstract_syntax=CT, transfer_syntaxes=(EXPLICIT,))]) for _ in range(16)]
        time.sleep(1.0)
        before = cpu_of(pid)
        time.sleep(5.0)
        share = (cpu_of(pid) - before) / 5.0 / 16
        for association in idle:
            association.__exit__(None, None, None)
        assert status_of(pid, "VmHWM") < LIMIT_KB, (after_one, peak)

    assert descriptors < 60
    assert share < 0.002
