"""What the demo prints is what somebody believes of the product first."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console

from dicom_node.demo import show
from dicom_node.demo.play import Scene
from dicom_node.demo.studies import Study, Truth
from storage.facts.prediction import Measurement
from tests import builders


def test_a_difference_of_nothing_has_no_sign_of_its_own() -> None:
    measured = Measurement(name=builders.VOLUME, unit=builders.MILLILITRE, value=5029.36, digits=0)
    known = Truth(code=builders.VOLUME.value, what="Lung volume", value=5029.4, unit="mL", digits=1)
    study = Study(title="Chest", study_uid="1.2.3", modality="CT", files=(), truth=(known,))
    said = builders.prediction(builders.slices(), measurements=(measured,))
    console = Console(width=120)

    with console.capture() as printed:
        show.truth(console, Scene(title="Chest", study=study), said)

    text = printed.get()
    assert "5029.4 mL" in text
    assert "+0.0" in text
    assert "-0.0" not in text


def test_the_way_on_is_shown_by_the_program_that_can_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(sys.executable).with_name("dicom-node")
    if not own.exists():
        pytest.skip("not installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    away = show.program()
    monkeypatch.setenv("PATH", str(own.parent))

    assert (away, show.program()) == (str(own), "dicom-node")
    assert shutil.which("dicom-node") == str(own)
