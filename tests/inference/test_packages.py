"""Manifests, weights, and the store: what is wrong is found when a package is opened, not when it runs."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.algorithms.registry import ALGORITHMS, find
from inference.packages.answer import answer
from inference.packages.manifest import Manifest, load_manifest
from inference.packages.package import open_package
from inference.packages.raw import Raw
from inference.packages.soundness import unsound
from inference.packages.store import SHIPPED, PackageStore
from storage.facts.errors import Misconfigured
from storage.facts.prediction import Presence
from storage.facts.study import Urgency
from tests.inference.manifests import packed, small, swap

WEIGHTS = b"weights"


def made(folder: Path, change: Callable[[str], str] = str, weights: bytes | None = WEIGHTS) -> Path:
    return packed(folder, change(small(WEIGHTS)), {} if weights is None else {"net.bin": weights})


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return load_manifest(made(tmp_path / "small") / "model.toml")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swap("modality =", "modalty ="), "accepts.modalty: unknown key; did you mean modality?"),
        (swap('modality = ["CT"]', 'modality = ["CT"]\ncoverage = {}'), "min or max must be given"),
        (swap('level = "high"', 'level = "soon"'), "urgency.0.level"),
        (swap("plausible = [0.0, 100.0]", "plausible = [100.0, 0.0]"), "plausible must be [least, greatest]"),
        (swap('measurement = "share"', 'measurement = "shore"'), "there is no measurement shore; known: share"),
        (swap("number = 1", "number = 2"), "numbered 1, 2, 3"),
        (swap("absent_below = 5.0", "absent_below = 15.0"), "absent_below must not be above"),
        (swap('version = "1.0.0"', 'version = "one"'), "version"),
        (swap('file = "net.bin"', 'file = "a/../../net.bin"'), "leaves the models folder"),
        (swap('method = "counted"\n', ""), "measurements.0.method: must be given"),
        (swap('label = "Part"', f'label = "{"P" * 65}"'), "segments.0.label"),
    ],
)
def test_a_wrong_manifest_names_its_key(tmp_path: Path, change: Callable[[str], str], words: str) -> None:
    with pytest.raises(Misconfigured, match=re.escape(words)):
        open_package(made(tmp_path / "small", change))


def test_the_digest_depends_on_manifest_and_weights(tmp_path: Path) -> None:
    package = open_package(made(tmp_path / "a"))
    assert open_package(made(tmp_path / "b")).digest == package.digest
    assert open_package(made(tmp_path / "c", lambda text: text + "# x")).digest != package.digest
    assert package.algorithm().digest == package.digest
    assert ("net weights SHA-256", hashlib.sha256(WEIGHTS).hexdigest()) in package.algorithm().parameters


def test_weights_with_other_content_are_refused_when_opened_and_when_read(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="other content"):
        open_package(made(tmp_path / "a", weights=b"other"))
    package = open_package(made(tmp_path / "b"))
    assert package.read_weights("net") == WEIGHTS
    (tmp_path / "b" / "net.bin").write_bytes(b"changed")
    with pytest.raises(Misconfigured, match="other content"):
        package.read_weights("net")
    with pytest.raises(Misconfigured, match="needs weights named box"):
        package.read_weights("box")


@pytest.mark.parametrize("place", ["small/net.bin", "net.bin"])
def test_weights_may_lie_in_the_models_folder(tmp_path: Path, place: str) -> None:
    folder = made(tmp_path / "shipped" / "small", weights=None)
    models = tmp_path / "models"
    with pytest.raises(Misconfigured, match=r"weights are missing\. Get the makers"):
        open_package(folder, models)
    (models / place).parent.mkdir(parents=True, exist_ok=True)
    (models / place).write_bytes(WEIGHTS)
    assert open_package(folder, models).read_weights("net") == WEIGHTS


def test_one_faulty_package_does_not_hide_the_others(tmp_path: Path) -> None:
    made(tmp_path / "good")
    made(tmp_path / "twin")
    made(tmp_path / "newer" / "1.10.0", swap('version = "1.0.0"', 'version = "1.10.0"'))
    made(tmp_path / "newer" / "1.9.0", swap('version = "1.0.0"', 'version = "1.9.0"'))
    made(tmp_path / "bad", swap("modality", "modalty"))
    store = PackageStore(tmp_path, shipped=tmp_path / "nothing")
    assert [p.manifest.version for p in store.packages] == ["1.0.0", "1.10.0", "1.9.0"]
    assert ["modalty" in fault or "twice" in fault for fault in store.faults] == [True, True]
    assert store.get("small").manifest.version == "1.10.0"
    assert store.get("small", "1.9.0").manifest.version == "1.9.0"
    with pytest.raises(Misconfigured, match="there is no package large"):
        store.get("large")


def test_every_shipped_package_is_sound_but_for_weights_that_are_not_shipped(tmp_path: Path) -> None:
    store = PackageStore(tmp_path)
    assert "ct-lung-densitometry" in [p.manifest.id for p in store.packages]
    for fault in store.faults:
        assert "weights are missing" in fault
    for path in SHIPPED.glob("*/model.toml"):
        manifest = load_manifest(path)
        assert manifest.id == path.parent.name
        assert callable(find(manifest.algorithm))
        assert manifest.research


def test_an_unknown_algorithm_is_a_fault_of_the_package() -> None:
    with pytest.raises(Misconfigured, match="there is no algorithm 'x'"):
        find("x")
    assert all(callable(find(name)) for name in ALGORITHMS)


@pytest.mark.parametrize(
    ("value", "presence", "urgency", "shown"),
    [
        (0.0, Presence.ABSENT, Urgency.ROUTINE, "0.0"),
        (4.94, Presence.ABSENT, Urgency.ROUTINE, "4.9"),
        (4.96, Presence.ABSENT, Urgency.ROUTINE, "4.96"),
        (4.999, Presence.ABSENT, Urgency.ROUTINE, "4.999"),
        (5.0, Presence.UNDETERMINED, Urgency.ROUTINE, "5.0"),
        (5.04, Presence.UNDETERMINED, Urgency.ROUTINE, "5.04"),
        (9.98, Presence.UNDETERMINED, Urgency.ROUTINE, "9.98"),
        (10.0, Presence.PRESENT, Urgency.ROUTINE, "10.0"),
        (19.97, Presence.PRESENT, Urgency.ROUTINE, "19.97"),
        (20.0, Presence.PRESENT, Urgency.HIGH, "20.0"),
        (20.01, Presence.PRESENT, Urgency.HIGH, "20.01"),
        (49.96, Presence.PRESENT, Urgency.HIGH, "49.96"),
        (50.0, Presence.PRESENT, Urgency.STAT, "50.0"),
    ],
)
def test_all_digits_decide_and_as_many_are_shown_as_it_takes(
    manifest: Manifest, value: float, presence: Presence, urgency: Urgency, shown: str
) -> None:
    said = answer(manifest, Raw(values={"share": value}))
    assert (said.findings[0].presence, said.urgency) == (presence, urgency)
    assert f" {shown} %" in said.findings[0].text
    assert bool(said.urgency_reason) == (urgency is not Urgency.ROUTINE)
    assert urgency is Urgency.ROUTINE or f" {shown} %" in said.urgency_reason
    [measured] = [*said.measurements, *(one for segment in said.segments for one in segment.measurements)]
    assert f"{measured.value:.{measured.digits}f}" == shown


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        ({}, "111218", "no value"),
        ({"share": math.nan}, "111218", "no finite number"),
        ({"share": math.inf}, "111218", "no finite number"),
        ({"share": 100.1}, "110531", "Share came out as 100.1 %, outside of what is plausible (0 to 100)"),
    ],
)
def test_unsound_numbers_are_withheld(manifest: Manifest, values: dict[str, float], code: str, words: str) -> None:
    reason = unsound(manifest, Raw(values=values))
    assert reason is not None
    assert reason.code.value == code
    assert words in reason.text
    assert unsound(manifest, Raw(values={"share": 100.0})) is None
