"""STOW-RS at the real node: its memory stays flat, and a kill in the middle of an upload leaves nothing half-stored."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests

from storage import views
from storage.ledger import Ledger
from tests.acceptance.test_memory import LIMIT_KB
from tests.builders import pixels, source
from tests.dicom_node.receive.test_stow import body, part10

TOKEN = "secret"
HEADERS = {
    "Authorization": f"Bearer {TOKEN}",
    "Content-Type": 'multipart/related; type="application/dicom"; boundary=edge',
}

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """``dicom-node serve`` with STOW-RS, without workers: its process, and where to store."""
    token = hashlib.sha256(TOKEN.encode()).hexdigest()
    (folder / "node.toml").write_text(
        f'[node]\nport = 0\nbind = "127.0.0.1"\n[receive]\nrefuse_below_mb = 1\n[workers]\ncount = 0\n'
        f'[stow]\nport = 0\nclear = true\n[[stow.clients]]\nae_title = "WEB"\ntoken_sha256 = "{token}"\n',
        encoding="utf-8",
    )
    ready = folder / "data" / "run" / "ready.json"
    ready.unlink(missing_ok=True)
    with (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "dicom_node", "serve", "-c", str(folder / "node.toml")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 100
        while not ready.exists():
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            assert time.monotonic() < until
            time.sleep(0.05)
        yield process, f"http://127.0.0.1:{json.loads(ready.read_text(encoding='utf-8'))['stow']}/studies"
    finally:
        process.terminate()
        process.wait(30)


def peak_kb(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def large(megabytes: int) -> Iterator[bytes]:
    """A body with one object of that size, made while it is sent."""
    small = part10(pixels(source(number=1), np.zeros((8, 8), np.int16)))
    at = small.rindex(b"\xe0\x7f\x10\x00OW\0\0")
    yield b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + small[: at + 8]
    yield (megabytes << 20).to_bytes(4, "little")
    for _ in range(megabytes):
        yield bytes(1 << 20)
    yield b"\r\n--edge--\r\n"


def test_a_large_object_by_http_is_not_held_in_memory(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, url):
        before = peak_kb(process.pid)
        answer = requests.post(url, data=large(300), headers=HEADERS, timeout=120)
        after = peak_kb(process.pid)

    assert answer.status_code == 200
    assert after < LIMIT_KB, f"{before} kB before, {after} kB after"
    [stored] = (tmp_path / "data" / "instances").rglob("*.dcm")
    assert stored.stat().st_size > 300 << 20


@pytest.mark.timeout(400)
def test_a_kill_in_the_middle_of_an_upload_leaves_whole_objects_that_may_be_sent_again(tmp_path: Path) -> None:
    parts = [part10(pixels(source(number=n), np.full((256, 256), n, np.int16))) for n in range(1, 41)]
    whole = body(*parts)

    def slowly(process: subprocess.Popen[bytes], at: int) -> Iterator[bytes]:
        for start in range(0, len(whole), 50_000):
            if start <= at < start + 50_000:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            yield whole[start : start + 50_000]

    for at in (len(whole) // 3, len(whole) - 60_000):
        with serving(tmp_path) as (process, url), pytest.raises(requests.RequestException):
            requests.post(url, data=slowly(process, at), headers=HEADERS, timeout=30)
    with serving(tmp_path) as (_, url):
        assert list((tmp_path / "data" / "incoming").glob("*.part")) == []
        answer = requests.post(url, data=whole, headers=HEADERS, timeout=60)
        assert answer.status_code == 200
        assert len(answer.json()["00081199"]["Value"]) == 40

    files = sorted(p.name.partition(".dcm")[0] for p in (tmp_path / "data" / "instances").rglob("*.dcm"))
    ledger = Ledger(tmp_path / "data")
    with ledger.read() as reading:
        [study] = views.studies(reading)
        [series] = views.study_series(reading, study)
    ledger.close()
    assert (len(files), len(set(files)), series.instances) == (40, 40, 40)
