"""Models that crash, hang, eat memory or lie: each ends in a retry or a coded failure, and the queue goes on."""

from __future__ import annotations

import pytest

from storage import queue
from storage.facts.prediction import Status
from storage.facts.study import Urgency
from storage.facts.task import Kind
from storage.queue import Patience
from tests.inference.executors.rig import Rig, write_package


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once."""
    monkeypatch.setitem(queue.PATIENCE, Kind.INFER, Patience(failures=3, first=0.1, longest=0.1))


ONCE = ("segv", "kill", "exit", "hang", "freeze", "spin", "eat", "unforeseen")


def test_what_goes_wrong_once_is_done_again_in_another_process(rig: Rig) -> None:
    for number, way in enumerate(ONCE, 1):
        rig.package(way, first=way, flag=str(rig.journal.parent / way), deadline=4.0 if way == "spin" else 60.0)
        rig.ask(str(number), way)
    rig.package("good")
    innocent = [str(number) for number in range(50, 56)]
    for key in innocent:
        rig.ask(key, "good")
    keys = [str(number) for number in range(1, len(ONCE) + 1)]
    with rig.working(rig.config(2, stall_seconds=3.0, memory_mb=400, patience=100)):
        rig.wait_over([*keys, *innocent], 150)

    tasks = rig.tasks()
    assert {key: tasks[key].state for key in tasks} == dict.fromkeys([*keys, *innocent], "done")
    assert {ONCE[int(key) - 1]: tasks[key].failures for key in keys} == dict.fromkeys(ONCE, 1)
    assert {tasks[key].failures for key in innocent} == {0}
    assert sorted(rig.tasks(Kind.REPORT)) == sorted(tasks)
    assert len(rig.trail("prediction made")) == len(tasks)
    reasons = {row.details["key"]: row.details["why"] for row in rig.trail("task retry")}
    assert {ONCE[int(key) - 1]: _word(why) for key, why in reasons.items()} == {
        "segv": "SIGSEGV", "kill": "SIGKILL", "exit": "code 3", "hang": "no checkpoint", "freeze": "did nothing",
        "spin": "longer than", "eat": "more memory", "unforeseen": "KeyError",
    }  # fmt: skip
    assert "secret" not in str(reasons)
    assert rig.ledger.verify().faults == ()


_WORDS = ("SIGSEGV", "SIGKILL", "code 3", "no checkpoint", "did nothing", "longer than", "more memory", "KeyError")


def _word(why: str) -> str:
    return next((word for word in _WORDS if word in why), why)


def test_what_always_goes_wrong_ends_in_a_coded_report_and_starves_nobody(rig: Rig) -> None:
    ways = {"1": "segv", "2": "oom"}
    for key, way in ways.items():
        rig.package(way, do=way)
        rig.ask(key, way)
    rig.package("good")
    rig.ask("9", "good", Urgency.STAT)
    with rig.working(rig.config(patience=100)):
        rig.wait_over([*ways, "9"])

    assert rig.states() == {"1": "failed", "2": "failed", "9": "done"}
    assert {task.failures for key, task in rig.tasks().items() if key != "9"} == {3}
    assert rig.events()[0][3] == "9"
    codes = {ways[key]: rig.said(key).reason for key in ways}
    assert {way: reason.code.value for way, reason in codes.items() if reason} == {"segv": "111218", "oom": "110527"}
    assert {rig.said(key).status for key in ways} == {Status.FAILED}
    assert sorted(rig.tasks(Kind.REPORT)) == ["1", "2", "9"]


def test_an_answer_or_a_package_that_is_wrong_is_reported_without_a_retry(rig: Rig) -> None:
    for key, way in {"1": "nan", "2": "shape", "3": "weights"}.items():
        rig.package(way, do=way, weights=b"right" if way == "weights" else b"")
        rig.ask(key, way)
    rig.ask("4", "absent")
    rig.package("good")
    rig.ask("9", "good")
    with rig.working(rig.config(warm_seconds=0)):
        rig.wait_over(["1"])
        (rig.models / "weights" / "1.0.0" / "net.bin").write_bytes(b"wrong")
        rig.wait_over(["1", "2", "3", "4", "9"])
    assert {key: task.attempt for key, task in rig.tasks().items()} == dict.fromkeys(["1", "2", "3", "4", "9"], 1)
    assert [rig.said(key).status for key in ("1", "2")] == [Status.FAILED, Status.FAILED]
    assert rig.states()["9"] == "done"


def test_too_little_memory_and_a_full_scratch_disk_are_overcome(rig: Rig) -> None:
    rig.package("tiles", do="tiles")
    write_package(rig.models, "full", first="full", do="freed", flag=str(rig.journal.parent / "full"))
    rig.ask("1", "tiles")
    rig.ask("2", "full")
    with rig.working():
        rig.wait_over(["1", "2"])
    assert [rig.said(key).status for key in ("1", "2")] == [Status.SUCCEEDED, Status.SUCCEEDED]
    assert [rig.tasks()[key].failures for key in ("1", "2")] == [0, 1]
    [row] = rig.trail("task retry")
    assert "EFBIG; free some space" in row.details["why"]


def test_a_blob_store_that_takes_nothing_delays_and_loses_nothing(rig: Rig) -> None:
    blobs = rig.ledger.data / "blobs"
    blobs.write_text("in the way of the folder", encoding="utf-8")
    rig.package("good")
    rig.ask("1", "good")
    with rig.working():
        rig.wait(lambda: rig.tasks()["1"].failures > 0)
        assert rig.tasks()["1"].reason is not None
        assert "cannot write" in str(rig.tasks()["1"].reason)
        blobs.unlink()
        rig.wait_over(["1"])
    assert rig.states() == {"1": "done"}
