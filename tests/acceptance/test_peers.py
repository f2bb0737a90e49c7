"""Other people's software against the node."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from dicom_node.demo.session import NODE, PACS
from dicom_node.demo.studies import of_folder
from tests.acceptance.conftest import OpenSession, wait_for
from tests.acceptance.making import write_study


def dcmtk(name: str) -> str:
    """Path of a DCMTK program; pynetdicom installs others of the same names."""
    for folder in ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"):
        found = shutil.which(name, path=folder)
        if (
            found
            and "dcmtk" in subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        ):
            return found
    pytest.skip("DCMTK is not installed")


def run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=120)


def test_dcmtk_sends_a_study_and_reads_the_report_that_comes_back(open_session: OpenSession, tmp_path: Path) -> None:
    echoscu, storescu, dsrdump = dcmtk("echoscu"), dcmtk("storescu"), dcmtk("dsrdump")
    write_study(tmp_path / "study", 1)
    [study] = of_folder(tmp_path / "study")
    with open_session() as session:
        address = ("127.0.0.1", str(session.port))
        echoed = run([echoscu, "-aet", PACS, "-aec", NODE, *address])
        stranger = run([echoscu, "-aet", "STRANGER", "-aec", NODE, *address])
        sent = run([storescu, "-aet", PACS, "-aec", NODE, "+sd", *address, tmp_path / "study"])
        wait_for(session, study.study_uid)
        objects = {s.modality: s for s in session.pacs.objects()}
        dumped = run([dsrdump, objects["SR"].path])

    assert echoed.returncode == 0, echoed.stderr
    assert stranger.returncode != 0
    assert "Calling AE Title Not Recognized" in stranger.stderr
    assert sent.returncode == 0, sent.stderr
    assert set(objects) == {"SR", "SEG"}
    assert dumped.returncode == 0, dumped.stderr
    assert "Comprehensive 3D SR" in dumped.stdout
    assert "Tracking Identifier" in dumped.stdout
