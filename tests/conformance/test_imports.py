"""What a process loads, seen in a process of its own: import contracts do not see what ``__init__`` executes."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "highdicom", "pynetdicom", "sqlalchemy", "scipy", "pydicom", "numpy", "rich", "apscheduler", "lark"}


def loaded_by(module: str) -> set[str]:
    code = f"import {module}, sys; print(' '.join(m.partition('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("storage.facts.prediction", HEAVY),
        ("storage.facts.task", HEAVY),
        ("dicom_node.cli", HEAVY),
        ("dicom_node.commands.rules", {"torch", "highdicom", "pynetdicom", "pydicom", "scipy", "lark", "rich"}),
        ("dicom_node.node", {"torch", "highdicom", "scipy", "lark", "alembic", "sqlalchemy", "apscheduler"}),
        ("dicom_node.commands.serve", {"torch", "highdicom", "scipy", "lark", "alembic", "sqlalchemy", "apscheduler"}),
        ("dicom_node.stages", {"torch"}),
        ("inference.worker", {"torch", "pynetdicom", "highdicom", "apscheduler"}),
        ("inference.pipeline", {"torch", "sqlalchemy", "pynetdicom", "highdicom"}),
    ],
)
def test_a_process_loads_only_what_it_needs(module: str, never: set[str]) -> None:
    assert loaded_by(module) & never == set()
