"""A version is put to the test by command, and what came out is evidence that promotions and cards show."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from inference.algorithms.proof import keep_case
from storage.facts.release import Trial
from storage.ledger import Ledger
from tests.dicom_node.commands.conftest import Run
from tests.inference.bringing.test_benchmark import SHAPE, made
from tests.inference.networks.making import volume_of
from tests.inference.series import series_of, write

Files = tuple[Path, Path, Path]


@pytest.fixture
def brought(run: Run, tmp_path: Path, config: Path) -> Files:
    """A package that was added, a folder with two series, and their truth."""
    with config.open("a", encoding="utf-8") as file:
        file.write("[workers]\nthreads = 1\n")  # on a busy machine threads wait for each other
    source = tmp_path / "sent"
    source.mkdir()
    digest = keep_case(source / "case.npz", volume_of(np.ones(SHAPE, np.int16)), np.ones(SHAPE, np.uint8))
    test = f'[selftest]\nfile = "case.npz"\nsha256 = "{digest}"\n'
    made(source, test)
    added = run("models", "add", str(source))
    assert added.exit_code == 0, (added.output, added.exception)
    truth = tmp_path / "truth.csv"
    lines = ["series,target,value"]
    for number in (1, 2):
        uid = f"1.2.3.{number}"
        write(tmp_path / "cases" / str(number), series_of(np.ones(SHAPE, np.int16), 1.0, 1.0, SeriesInstanceUID=uid))
        np.savez(tmp_path / f"{number}.npz", mask=np.ones(SHAPE, np.uint8))
        lines.append(f"{uid},Part 1,{number}.npz")
    truth.write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "cases", truth, tmp_path


def test_a_validation_is_reported_kept_and_shown(run: Run, node_ledger: Ledger, brought: Files) -> None:
    cases, truth, folder = brought
    (folder / "bad.csv").write_text("series,target,value\n1.2.3.1,Part 1,none.npz\n", encoding="utf-8")
    refused = run("models", "validate", "small-network", str(cases), "--truth", str(folder / "bad.csv"))
    assert "line 2: there is no file of that name beside the table" in str(refused.exception)
    done = run(
        "models", "validate", "small-network", str(cases), "--truth", str(truth), "--report", str(folder / "r.html"),
        "--json", str(folder / "r.json"),
    )  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    assert "PART 1: SEGMENTATION" in done.output
    assert "2/2  series 1.2.3.2  succeeded" in done.output

    found = json.loads((folder / "r.json").read_text())
    bare = {key: value for key, value in found.items() if key != "digest"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == found["digest"]
    with node_ledger.begin_reading() as tx:
        (kept,) = tx.catalogue.trials("small-network", "1.0.0")
    assert (kept.trial, kept.document) == (Trial.VALIDATED, found)
    html = (folder / "r.html").read_text()
    assert "validation report" in html
    assert found["results"][0]["summary"] in html.replace("&#x27;", "'")
    shown = run("models", "show", "small-network").output
    assert f"{found['digest'][:12]}" in shown
    assert "VALIDATION HERE" in shown
    assert not node_ledger.verify().faults


def test_a_benchmark_is_kept_and_forecasts_use_it(run: Run, node_ledger: Ledger, brought: Files) -> None:
    cases, _, _ = brought
    done = run("models", "benchmark", "small-network", "--series", str(cases / "1"), "--rounds", "2", "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads(done.output)
    with node_ledger.begin_reading() as tx:
        known = tx.catalogue.experience()["small-network"]
    assert (known.runs, known.seconds) == (2, found["seconds"])
    told = run("models", "show", "small-network").output
    assert "COST HERE" in told
    assert f"{found['ratio']:.2f} times" in told
