"""From a seed to a package: small enough to run in seconds, by the commands that docs/training.md shows."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path

import pytest
import torch

from inference.algorithms.nodule_network import NoduleNetwork
from inference.algorithms.nodules import WEIGHTS, load
from inference.packages.package import open_package
from inference.pipeline import Request, predict
from inference.runtime import Runtime
from inference.training.__main__ import main
from inference.training.loop import Plan, loss, rate_at, train
from inference.training.packaging import serialised
from inference.training.samples import Samples, make, plain
from storage.facts.errors import Misconfigured
from storage.facts.prediction import Status

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "training.md"
TINY = "--samples 240 --epochs 6 --phantoms 8"


@pytest.fixture(scope="module")
def samples() -> Samples:
    return make(range(500, 548))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command line of the guide was run, at the size of a test."""
    folder = tmp_path_factory.mktemp("guide")
    lines = re.findall(r"^python -m inference\.training (.+)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    for line in lines:
        words = shlex.split(line)
        place = words.index("--out") + 1
        words[place] = str(folder / words[place])
        assert main([*words, *(shlex.split(TINY) if words[0] == "train" else [])]) == 0
    return folder


@pytest.fixture(scope="module")
def tiny(made: Path) -> Path:
    """A package after hardly any training."""
    return made / "phantom-nodule"


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(samples: Samples) -> None:
    def digest(seed: int) -> str:
        network, _ = train(samples, samples, Plan(seed=seed, epochs=1, batch=24))
        return hashlib.sha256(serialised(network)).hexdigest()

    state = torch.get_rng_state()
    assert digest(1) == digest(1)
    assert digest(1) != digest(2)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()


def test_training_lowers_the_loss_and_keeps_the_best_epoch(samples: Samples) -> None:
    network, history = train(samples, samples, Plan(seed=1, epochs=4, batch=12))

    kept = float(loss(network(plain(samples).images), plain(samples)).detach())
    best = min(epoch.validation for epoch in history)
    assert kept == pytest.approx(best, rel=0.15)  # batches weigh Dice otherwise than the whole
    assert min(epoch.training for epoch in history) < history[0].training


def test_training_stops_early_where_nothing_gets_better(samples: Samples) -> None:
    _, history = train(samples, samples, Plan(seed=1, epochs=9, batch=24, rate=0.0, patience=2))

    assert len(history) < 9


def test_the_rate_rises_and_falls_to_nothing() -> None:
    plan = Plan(rate=1.0, warm_up=0.25)
    rates = [rate_at(step, 100, plan) for step in range(100)]

    assert rates[:25] == sorted(rates[:25])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert (max(rates), rates[-1] < 0.01) == (1.0, True)


def test_a_perfect_answer_costs_less_than_a_wrong_one(samples: Samples) -> None:
    truth = plain(samples)
    out = torch.zeros((len(samples), 5, *truth.heat.shape[1:]))
    out[:, 0] = torch.logit(truth.heat.clamp(1e-4, 1 - 1e-4))
    out[:, 1] = truth.radius
    out[:, 2:] = 12.0 * torch.nn.functional.one_hot(truth.grade.clamp(min=0), 3).movedim(-1, 1)
    wrong = out.clone()
    wrong[:, 2:] = wrong[:, 2:].roll(1, dims=1)

    assert float(loss(out, truth)) < 1.0  # soft targets leave some
    assert float(loss(wrong, truth)) > 5.0
    assert float(loss(-out, truth)) > 2 * float(loss(out, truth))


def test_a_trained_package_opens_and_says_what_it_was_measured_on(tiny: Path) -> None:
    package = open_package(tiny)
    entry = package.manifest.detections[0]

    assert entry.metrics.cases == 8
    assert 0 < (entry.absent_below or 0) <= entry.present_from < 1
    assert package.manifest.research
    assert isinstance(load(package.read_weights(WEIGHTS), torch.device("cpu")), NoduleNetwork)
    report = (tiny / "report.md").read_text(encoding="utf-8")
    assert "digital phantoms alone" in report
    for figure in re.findall(r"\((\w+\.svg)\)", report):
        assert (tiny / figure).read_text(encoding="utf-8").startswith("<svg")
    assert not re.search(r"\bnan\b", report)


def test_weights_that_do_not_fit_are_a_fault_of_the_package() -> None:
    with pytest.raises(Misconfigured, match="train the package again"):
        load(b"no weights", torch.device("cpu"))
    with pytest.raises(Misconfigured, match="train the package again"):
        load(serialised(NoduleNetwork(width=4)), torch.device("cpu"))


def test_the_report_shows_the_figures_that_there_are(made: Path) -> None:
    folder = made / "phantom-nodule"
    linked = re.findall(r"\]\((\w+\.svg)\)", (folder / "report.md").read_text(encoding="utf-8"))

    assert sorted(linked) == sorted(path.name for path in folder.glob("*.svg"))
    assert {"froc.svg", "reliability.svg", "grades.svg", "history.svg"} <= set(linked)
    assert "reported from" in (folder / "froc.svg").read_text(encoding="utf-8")


def test_the_guide_makes_a_package_and_a_phantom_that_it_takes(made: Path) -> None:
    paths = sorted((made / "phantom").iterdir())
    request = Request(key="k", study_uid="1", series_uid="2", revision=1, paths=tuple(paths))

    said = predict(request, open_package(made / "phantom-nodule"), Runtime(device="cpu")).prediction

    assert said.status is Status.SUCCEEDED
    assert len(said.findings) == 1


def test_a_network_that_finds_nothing_makes_no_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--samples", "16", "--epochs", "1", "--phantoms", "2", "--out", str(tmp_path / "none")]

    assert main(arguments) == 1
    assert "finds none of the validation set's nodules" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
