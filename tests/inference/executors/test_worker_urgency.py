"""Who goes first, who gives way, and what a stop leaves behind."""

from __future__ import annotations

import time
from itertools import pairwise

from inference.executors import vitals
from storage import workers
from storage.facts.study import Urgency
from tests.inference.executors.rig import Rig


def begun(rig: Rig) -> list[str]:
    return [key for _, event, _, key in rig.events() if event == "begin"]


def test_stat_takes_the_only_slot_at_the_next_checkpoint(rig: Rig) -> None:
    rig.package("long", patches="100", patch="0.05")
    rig.package("short")
    rig.ask("1", "long")
    with rig.working():
        rig.wait(lambda: "1" in begun(rig))
        rig.ask("2", "short", Urgency.STAT)
        rig.wait_over(["1", "2"])

    assert [(event, key) for _, event, _, key in rig.events()] == [
        ("begin", "1"), ("begin", "2"), ("end", "2"), ("begin", "1"), ("end", "1"),
    ]  # fmt: skip
    task = rig.tasks()["1"]
    assert (task.state, task.failures, task.attempt) == ("done", 0, 2)
    assert len({pid for _, _, pid, _ in rig.events()}) == 1
    [row] = rig.trail("task defer")
    assert (row.details["key"], row.details["why"]) == ("1", "put back: something urgent came")


def test_a_run_that_reaches_no_checkpoint_is_stopped_for_stat_with_its_process(rig: Rig) -> None:
    rig.package("deaf", do="quiet", patch="3")
    rig.package("short")
    rig.ask("1", "deaf")
    with rig.working(rig.config(give_way_seconds=0.3)):
        rig.wait(lambda: "1" in begun(rig))
        rig.ask("2", "short", Urgency.STAT)
        rig.wait_over(["1", "2"])

    assert begun(rig) == ["1", "2", "1"]
    assert (rig.tasks()["1"].state, rig.tasks()["1"].failures) == ("done", 0)
    assert rig.trail("device out of service") == []


def test_nobody_gives_way_while_a_slot_is_free(rig: Rig) -> None:
    rig.package("long", patches="40", patch="0.05")
    rig.package("short")
    with rig.working(rig.config(2)):
        rig.wait(lambda: len(rig.trail("device in service")) == 2)
        rig.ask("1", "long")
        rig.wait(lambda: "1" in begun(rig))
        rig.ask("2", "short", Urgency.STAT)
        rig.wait_over(["1", "2"])
    assert begun(rig) == ["1", "2"]
    assert rig.trail("task defer") == []


def test_two_slots_share_the_work_by_what_they_have_loaded(rig: Rig) -> None:
    for name in ("north", "south"):
        rig.package(name, patches="2", patch="0.02", load="0.5")
    keys = [str(number) for number in range(1, 25)]
    for key in keys:
        rig.ask(key, "north" if int(key) % 2 else "south")
    with rig.working(rig.config(2)):
        rig.wait_over(keys)
    assert set(rig.states().values()) == {"done"}
    where = [(key, pid) for _, event, pid, key in rig.events() if event == "begin"]
    changes = 0
    for pid in {pid for _, pid in where}:
        kinds = [int(key) % 2 for key, at in where if at == pid]
        changes += sum(a != b for a, b in pairwise(kinds))
    assert len({pid for _, pid in where}) == 2
    assert changes <= 4  # each keeps to its own model but for the ends; by turns it would be 22


def test_a_stop_puts_runs_back_without_a_failure_and_leaves_no_process(rig: Rig) -> None:
    rig.package("long", patches="1000", patch="0.05")
    rig.ask("1", "long")
    with rig.working(rig.config(grace_seconds=0.2)):
        rig.wait(lambda: "1" in begun(rig))
        started = time.monotonic()
    assert time.monotonic() - started < 60
    task = rig.tasks()["1"]
    assert (task.state, task.failures) == ("waiting", 0)
    assert task.reason == "put back: the worker stops"
    [(_, _, pid, _)] = rig.events()
    assert not vitals.exists(pid)
    assert list((rig.ledger.data / "run" / "scratch").iterdir()) == []


def test_a_device_that_does_not_start_goes_out_of_service_and_comes_back(rig: Rig) -> None:
    flag = rig.journal.parent / "well"
    shaky = f"shaky:{flag}"
    rig.package("good")
    rig.ask("1", "good")
    config = rig.config(devices=(shaky, "cpu"), patience=1, probe_seconds=1.0)
    with rig.working(config):
        rig.wait_over(["1"])  # on the other one
        rig.wait(lambda: len(rig.trail("device out of service")) == 1)
        flag.touch()
        rig.wait(lambda: [r.details["device"] for r in rig.trail("device in service")] == ["cpu", shaky])
    [row] = rig.trail("device out of service")
    assert (row.details["device"], row.details["why"]) == (shaky, "there is no such device")
    assert row.outcome == 8
    with rig.ledger.read() as session:
        assert {d.device: d.in_service for d in workers.devices(session)} == {"cpu": True, shaky: True}
