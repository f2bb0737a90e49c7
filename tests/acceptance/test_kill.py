"""Processes are killed at every stage boundary; afterwards every study has exactly one set of results.

Each point is a stage and a moment in it (about to start, at work, just finished) and a victim (node, children, all).
One node lives on through all of them: it is killed, started again, and given the next study at once.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
import pytest

from dicom_node.demo.session import Session
from dicom_node.demo.studies import Study, of_folder
from storage import views
from storage.facts.task import Kind
from tests.acceptance.conftest import OpenSession, wait_for
from tests.acceptance.making import put_rule, write_study

STAGES = (Kind.ASSEMBLE, Kind.ROUTE, Kind.INFER, Kind.REPORT, Kind.DELIVER, Kind.COMMIT, Kind.ANNOUNCE)
MOMENTS = ("waiting", "running", "done")
VICTIMS = ("node", "children", "everything")


def points(number: int, seed: int = 20261121) -> list[tuple[Kind, str, str]]:
    """Seeded kill points: every stage and moment comes before any comes twice with another victim."""
    dice = random.Random(seed)
    every = [(stage, moment, victim) for victim in VICTIMS for stage in STAGES for moment in MOMENTS]
    dice.shuffle(every)
    return every[:number]


def children(pid: int) -> Iterator[int]:
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    yield from (int(line) for line in done.stdout.split())


def kill(session: Session, victim: str) -> None:
    assert session.process is not None
    node = session.process.pid
    below = list(children(node))
    chosen = {"node": [node], "children": below, "everything": [node, *below]}[victim]
    for pid in chosen:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if node in chosen:
        session.process.wait()


def reach(session: Session, study_uid: str, stage: Kind, moment: str, seconds: float = 120.0) -> bool:
    """Wait for the moment; False when the study is over without it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with session.ledger.read() as reading:
            tasks = views.tasks(reading, study=study_uid)
        found = [t for t in tasks if t.kind == stage]
        if any(t.state == moment or (moment == "waiting" and t.state == "running") for t in found):
            return True
        if found and all(t.state == "done" for t in found):
            return True  # too quick to be seen before or at work: the kill comes right after
        time.sleep(0.002)
    return False


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_killed_at_any_stage_every_study_ends_with_one_set_of_results(
    open_session: OpenSession, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    number = int(request.config.getoption("--kills"))
    with open_session() as session:
        check_one_set_each(session, survive(session, tmp_path, points(number)))


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_killed_while_a_series_is_chosen_every_study_ends_with_one_set_of_results(
    open_session: OpenSession, tmp_path: Path
) -> None:
    chosen = [(Kind.CHOOSE, moment, victim) for moment, victim in zip(MOMENTS, VICTIMS, strict=True)]
    with open_session() as session:
        put_rule(session, prefer=("least SliceThickness",))
        studies = survive(session, tmp_path, chosen)
        check_one_set_each(session, studies)
        with session.ledger.read() as reading:
            choices = [t for t in views.tasks(reading, limit=1000) if t.kind == Kind.CHOOSE]

    assert sorted(t.study_uid or "" for t in choices) == sorted(s.study_uid for s in studies)


def survive(session: Session, folder: Path, kills: Sequence[tuple[Kind, str, str]]) -> list[Study]:
    """A study for each point: sent, killed there, started again; returns when all of them are over."""
    dice = random.Random(7)
    studies: list[Study] = []
    for index, (stage, moment, victim) in enumerate(kills):
        write_study(folder / f"study{index}", index)
        [study] = of_folder(folder / f"study{index}")
        studies.append(study)
        session.send(study.files)
        assert reach(session, study.study_uid, stage, moment), f"{stage} {moment} was never seen"
        time.sleep(dice.uniform(0, 0.03))
        kill(session, victim)
        if victim != "children":
            session.start_node()
    for study in studies:
        wait_for(session, study.study_uid, 120)
    return studies


def check_one_set_each(session: Session, studies: list[Study]) -> None:
    stored = session.pacs.objects()
    with session.ledger.read() as reading:
        failed = [t for t in views.tasks(reading, limit=100_000) if t.state == "failed"]
        items = views.worklist(reading, limit=10_000)
    assert [t.reason for t in failed] == []
    for study in studies:
        mine = [s for s in stored if s.study_uid == study.study_uid]
        [result] = [item for item in items if item.study_uid == study.study_uid]
        with session.ledger.begin_reading() as tx:
            made = tx.predictions.objects(result.prediction.key)
        assert sorted(s.modality for s in mine) == ["SEG", "SR"], study.study_uid
        assert sorted(s.sop_instance_uid for s in mine) == sorted(o.sop_instance_uid for o in made)
        assert result.workitems == 1
        for item in mine:
            assert pydicom.dcmread(item.path).SOPInstanceUID == item.sop_instance_uid
    assert len(session.pacs.workitems()) == len(studies)
    assert session.ledger.verify().faults == ()
