"""The worker on PostgreSQL: slots claim and record at the same time, in one trail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.facts.task import Kind
from storage.ledger import Ledger
from tests.inference.executors.rig import Rig


@pytest.fixture
def worker_on_postgresql(tmp_path: Path, postgresql: str) -> Iterator[Rig]:
    """An empty ledger there."""
    (tmp_path / "pg-models").mkdir()
    made = Ledger(tmp_path / "pg", postgresql)
    yield Rig(ledger=made, models=tmp_path / "pg-models", journal=tmp_path / "pg-journal")
    made.close()


def test_the_worker_runs_what_it_is_given_on_postgresql_too(worker_on_postgresql: Rig) -> None:
    other = worker_on_postgresql
    other.package("good")
    for key in ("1", "2", "3"):
        other.ask(key, "good")
    with other.working(other.config(2)):
        other.wait_over(["1", "2", "3"])
    assert sorted(other.tasks(Kind.REPORT)) == ["1", "2", "3"]
    assert other.ledger.verify().faults == ()
