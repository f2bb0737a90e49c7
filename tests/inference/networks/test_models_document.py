"""docs/models.md holds what it says: its example, followed to the letter, measures what it claims."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from inference.packages.package import Package, open_package
from inference.pipeline import Request, predict
from inference.runtime import Runtime
from storage.facts.prediction import Status
from tests.conftest import ROOT
from tests.inference.series import Studies


def block(language: str) -> str:
    """The first block of that language."""
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found
    return found.group(1)


@pytest.fixture(scope="module")
def structures(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The example, packaged by the document alone."""
    folder = tmp_path_factory.mktemp("brain-structures")
    source = shared_data / "models" / "brainchop_meshnet" / "model18cls"
    command = [sys.executable, "-c", block("python"), str(source), str(folder)]
    digest = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    (folder / "model.toml").write_text(block("toml").replace("DIGEST", digest), encoding="utf-8")
    return open_package(folder)


@pytest.mark.shared_data
@pytest.mark.timeout(1200)
def test_the_example_measures_what_the_document_says(structures: Package, studies: Studies) -> None:
    paths = tuple(studies("mr_t1_studyforrest"))
    request = Request(key="k", study_uid="1.2", series_uid="1.2.3", revision=1, paths=paths)

    outcome = predict(request, structures, Runtime(device="cpu", variant=("channels-last",)))

    said = outcome.prediction
    assert said.status is Status.SUCCEEDED, said.reason
    volumes = {segment.label: segment.measurements[0].value for segment in said.segments}
    assert volumes["Hippocampi"] == pytest.approx(8.2, abs=0.3)
    assert volumes["Lateral ventricles"] == pytest.approx(29.0, abs=1.0)
    assert outcome.mask is not None
    assert outcome.mask.shape == (384, 384, 274) or outcome.mask.size == 384 * 384 * 274
