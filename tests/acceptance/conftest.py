"""A whole node on embedded defaults, with a stand-in PACS."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from dicom_node.demo.session import Progress, Session
from tests.acceptance.making import put_rule, write_package

OpenSession = Callable[[], AbstractContextManager[Session]]


@pytest.fixture
def open_session(tmp_path: Path) -> OpenSession:
    """Starts a node and its PACS, with a model package and a rule that take a small chest."""

    @contextmanager
    def opened() -> Iterator[Session]:
        write_package(tmp_path / "models")
        with Session(tmp_path / "demo", tmp_path / "models") as session:
            put_rule(session)
            yield session

    return opened


def wait_for(session: Session, study_uid: str, seconds: float = 90.0) -> Progress:
    """Until nothing more will happen to a study by itself."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        progress = session.progress(study_uid)
        if progress.over:
            return progress
        time.sleep(0.05)
    raise AssertionError(f"the study is still at {session.progress(study_uid)}; the log ends:\n{_tail(session)}")


def _tail(session: Session) -> str:
    return "\n".join(session.log.read_text(encoding="utf-8").splitlines()[-30:])
