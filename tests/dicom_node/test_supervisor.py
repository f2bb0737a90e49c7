"""Children are kept alive, and end with their parent. Real processes, really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dicom_node.supervisor import Child, Supervisor


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_killed_child_is_started_again_and_its_death_is_told() -> None:
    deaths: list[int] = []
    child = Child(name="sleeper", command=python("import time; time.sleep(60)"))
    supervisor = Supervisor([child], deaths.append)
    supervisor.start()
    assert child.process is not None
    first = child.process.pid

    os.kill(first, signal.SIGKILL)

    assert until(lambda: child.process is not None and child.process.pid != first)
    assert deaths == [first]
    assert supervisor.alive() == {"sleeper": True}
    supervisor.stop()
    assert supervisor.alive() == {"sleeper": False}


def test_a_child_that_cannot_run_with_its_configuration_is_not_started_again() -> None:
    deaths: list[int] = []
    child = Child(name="worker", command=python("raise SystemExit(78)"))
    supervisor = Supervisor([child], deaths.append)
    supervisor.start()

    assert until(lambda: child.hopeless)
    time.sleep(0.5)
    supervisor.stop()

    assert len(deaths) == 1


def test_a_child_that_keeps_ending_is_started_ever_more_slowly() -> None:
    starts: list[float] = []
    child = Child(name="crasher", command=python("raise SystemExit(1)"))
    supervisor = Supervisor([child], lambda _pid: starts.append(time.monotonic()))
    supervisor.start()

    assert until(lambda: len(starts) >= 3)
    supervisor.stop()

    assert child.pause > 0.2 * 2
    assert starts[2] - starts[1] > starts[1] - starts[0]


def test_a_child_that_cannot_be_started_now_holds_up_no_other_and_is_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.symlink_to(sys.executable)
    missing = Child(name="missing", command=[str(program), "-c", "import time; time.sleep(60)"])
    other = Child(name="other", command=python("import time; time.sleep(60)"))
    deaths: list[int] = []
    supervisor = Supervisor([missing, other], deaths.append)
    supervisor.start()
    program.rename(tmp_path / "away")
    for child in (missing, other):
        assert child.process is not None
        child.process.kill()

    assert until(lambda: len(deaths) == 2 and supervisor.alive() == {"missing": False, "other": True})
    assert until(lambda: missing.pause > 1.0), "it is tried more and more slowly"
    (tmp_path / "away").rename(program)
    assert until(lambda: supervisor.alive() == {"missing": True, "other": True}, 30.0)
    supervisor.stop()


def test_a_child_that_ignores_the_request_to_end_is_killed_with_its_parent(tmp_path: Path) -> None:
    """The parent dies without a chance to stop anything: the pipe tells the child."""
    note = tmp_path / "child"
    child = (
        "import os, pathlib, threading; from storage.lifeline import hold; stop = threading.Event(); hold(stop);"
        f"pathlib.Path({str(note)!r}).write_text(str(os.getpid())); stop.wait(60)"
    )
    parent = subprocess.Popen(
        python(
            "import subprocess, sys, time;"
            f"p = subprocess.Popen([sys.executable, '-c', {child!r}], stdin=subprocess.PIPE); time.sleep(60)"
        )
    )
    assert until(lambda: note.exists() and note.read_text() != "")
    pid = int(note.read_text())

    parent.kill()
    parent.wait()

    assert until(lambda: not _alive(pid))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path(f"/proc/{pid}").exists() else False
