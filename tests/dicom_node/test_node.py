"""``dicom-node serve`` as a process: what it leaves when it is killed, and that it can be stopped at any moment."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(folder: Path, database: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A node without workers; its log is in ``log``."""
    (folder / "node.toml").write_text(
        f'[node]\nport = 0\nbind = "127.0.0.1"\n{database}[receive]\nrefuse_below_mb = 1\n[workers]\ncount = 0\n',
        encoding="ascii",
    )
    command = [sys.executable, "-m", "dicom_node", "serve", "-c", str(folder / "node.toml")]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(path: Path, text: str = "") -> None:
    until = time.monotonic() + 60
    while not path.exists() or text not in path.read_text(encoding="utf-8"):
        assert time.monotonic() < until, f"no {text!r} in {path}"
        time.sleep(0.05)


def test_a_node_that_is_started_again_is_ready_only_once_it_is(tmp_path: Path) -> None:
    """Containers are called healthy by this file."""
    ready = tmp_path / "data" / "run" / "ready.json"
    with serving(tmp_path) as first:
        wait_for(ready)
        first.kill()
        first.wait()
    assert ready.exists()
    silent = socket.create_server(("127.0.0.1", 0))  # a database that never answers: the start takes a minute
    database = f'database = "postgresql+psycopg://x@127.0.0.1:{silent.getsockname()[1]}/x"\n'
    with silent, serving(tmp_path, database) as second:
        wait_for(tmp_path / "log", "index runs")
        during = ready.exists()
        second.terminate()
        code, log = second.wait(100), (tmp_path / "log").read_text(encoding="utf-8")

    assert not during
    assert code == 0
    assert "stopped" in log
    assert "ready:" not in log, "it was told to stop before it was"
