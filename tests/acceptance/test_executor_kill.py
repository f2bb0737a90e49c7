"""A worker and its slots are killed in the middle of a patch: nothing is lost, doubled, or left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.executors import vitals
from storage.facts.study import Urgency
from storage.facts.task import Kind
from storage.ledger import Ledger, this_host
from tests.inference.executors.rig import Rig


def start(rig: Rig, folder: Path) -> subprocess.Popen[bytes]:
    """A worker as a process of its own, held by a pipe as the supervisor holds it."""
    values = {"data": str(rig.ledger.data), "models": str(rig.models), "device": "cpu", "threads": 1}
    path = folder / "worker.toml"
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
    path.write_text(
        "".join([*lines, "[slots]\nprocessors = 2\nmemory_mb = 2000\ngrace_seconds = 1\n"]), encoding="utf-8"
    )
    command = [sys.executable, "-m", "tests.inference.executors.worker_main", str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    process.wait(60)
    assert process.stdin is not None
    process.stdin.close()


def gone(pid: int) -> bool:
    return not vitals.exists(pid)


@pytest.mark.chaos
def test_a_worker_killed_mid_patch_takes_its_slots_along_and_the_next_one_does_the_work(
    ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    rig = Rig(ledger=ledger, models=tmp_path / "models", journal=tmp_path / "journal")
    rig.package("long", patches="40", patch="0.05")
    # Foreign code holds the interpreter: only the kernel can end such a slot.
    rig.package("frozen", first="freeze", flag=str(tmp_path / "flag"))
    rig.ask("1", "long")
    rig.ask("2", "frozen")
    process = start(rig, tmp_path)
    rig.wait(lambda: len(rig.events()) == 2)
    slots = [pid for _, _, pid, _ in rig.events()]
    process.kill()
    finish(process)
    rig.wait(lambda: all(map(gone, slots)), 20)
    with ledger.begin("supervisor") as tx:
        assert tx.queue.orphan(f"{this_host()}:{process.pid}") == 2

    process = start(rig, tmp_path)
    rig.ask("3", "long", Urgency.STAT)
    keys = ["1", "2", "3"]
    rig.wait_over(keys)
    process.send_signal(signal.SIGTERM)
    finish(process)

    assert process.returncode == 0
    assert rig.states() == dict.fromkeys(keys, "done")
    assert sorted(rig.tasks(Kind.REPORT)) == keys
    assert len(rig.trail("prediction made")) == 3
    assert [pid for _, _, pid, _ in rig.events() if not gone(pid)] == []
    assert list((ledger.data / "run" / "scratch").iterdir()) == []
    assert ledger.verify().faults == ()


@pytest.mark.chaos
def test_slots_killed_again_and_again_cost_time_and_nothing_else(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    rig = Rig(ledger=ledger, models=tmp_path / "models", journal=tmp_path / "journal")
    rig.package("work", patches="3", patch="0.05")
    keys = [str(number) for number in range(1, 13)]
    for key in keys:
        rig.ask(key, "work")
    killed = 0
    with rig.working(rig.config(2, patience=100)):
        until = time.monotonic() + 120
        while set(rig.states().values()) != {"done"} and time.monotonic() < until:
            done = [event for event in rig.events() if event[1] == "begin"]
            if killed < 3 and len(done) > 3 * killed:
                try:
                    os.kill(done[-1][2], signal.SIGKILL)
                    killed += 1
                except ProcessLookupError:
                    pass
            time.sleep(0.01)
    assert killed == 3
    assert rig.states() == dict.fromkeys(keys, "done")
    assert sorted(rig.tasks(Kind.REPORT)) == sorted(keys)
    assert len(rig.trail("prediction made")) == len(keys)
