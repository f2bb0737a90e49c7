"""Conditions, grades, detections, maps and images: from an algorithm's outcome to a prediction in codes, and back."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.algorithms.raw import Box, Image, Map, Raw
from inference.imaging.volume import Volume
from inference.packages.answer import answer
from inference.packages.manifest import Manifest
from inference.packages.package import Package, open_package
from inference.packages.soundness import unsound
from inference.pipeline import Outcome, Request, predict
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured
from storage.facts.prediction import Prediction, Presence, Shown, Status
from storage.facts.study import Urgency
from storage.facts.wire import from_json, to_json
from tests import builders
from tests.inference.manifests import (
    DENSITIES,
    DENSITY,
    EFFUSION,
    NODULE,
    NODULE_OF_LUNG,
    accepts,
    condition,
    detection,
    grade,
    head,
    packed,
    swap,
)
from tests.inference.series import write

METRICS = (
    '{ data = "tests", cases = 40, sensitivity = { value = 0.9, low = 0.8, high = 0.95 }, calibration_error = 0.02 }'
)
_PLATT = 'calibration = { method = "platt", slope = 2.0, offset = 0.0, source = "validation set" }'
_ENTROPY = 'abstain = { by = "entropy", above = 0.9, coverage = 0.95, source = "validation set" }'
_ENERGY = 'abstain = { by = "energy", above = -1.0, coverage = 0.9, source = "validation set" }'
_SHARPER = 'calibration = { method = "temperature", temperature = 2.0, source = "validation set" }'
_KINDS = (("S", "99TEST", "solid"), ("G", "99TEST", "ground glass"))
_REST = """
[[measurements]]
key = "diameter"
detection = "nodule"
name = { value = "81827009", scheme = "SCT", meaning = "Diameter" }
unit = { value = "mm", scheme = "UCUM", meaning = "millimeter" }
method = "of the ball of the same volume"
plausible = [2.0, 40.0]
plausible_source = "tests"

[[images]]
key = "denoised"
label = "Denoised"
method = { value = "123102", scheme = "DCM", meaning = "Adaptive Filtering" }
text = "Less noise"

[[urgency]]
condition = "pneumothorax"
at_least = 0.9
level = "stat"
reason = "air"

[[urgency]]
detection = "nodule"
at_least = 0.95
level = "high"
reason = "sure"

[[urgency]]
measurement = "diameter"
at_least = 30.0
level = "high"
reason = "large"

[[urgency]]
grade = "kind"
classes = ["G"]
level = "high"
reason = "subsolid"
"""
TOML = "".join(
    (
        head("everything", title="Everything"),
        accepts("CT"),
        condition(
            "effusion", EFFUSION, absent_below=0.2, source="Youden index on the validation set.", metrics=METRICS,
            more=_PLATT,
        ),
        condition(
            "pneumothorax", ("36118008", "SCT", "Pneumothorax"), present_from=0.8, absent_below=0.8,
            source="one false alarm in twenty", metrics=METRICS, more=_ENTROPY,
        ),
        grade("density", DENSITY, DENSITIES, metrics=METRICS, more=f"ordinal = true\nat_least = 0.4\n{_ENERGY}"),
        grade(
            "kind", ("KIND", "99TEST", "Kind"), _KINDS, metrics=METRICS,
            more=f'detection = "nodule"\nat_least = 0.6\n{_SHARPER}',
        ),
        detection(
            "nodule", "Nodule", NODULE, says=NODULE_OF_LUNG, source="one false positive in four series",
            metrics=METRICS, more="absent_below = 0.3\nmost = 3",
        ),
        _REST,
    )
)  # fmt: skip
SHAPE = (6, 20, 24)


def box(score: float = 0.7, **changes: Any) -> Box:
    given = Box(
        key="nodule",
        low=(1.0, 2.0, 3.0),
        high=(2.0, 5.0, 6.0),
        score=score,
        values={"diameter": 8.0},
        classes={"kind": (0.9, 0.1)},
    )
    return dataclasses.replace(given, **changes)


def raw(**changes: Any) -> Raw:
    zeros = np.zeros(SHAPE, np.float32)
    given = Raw(
        chances={"effusion": 0.5, "pneumothorax": 0.1},
        classes={"density": (0.1, 0.7, 0.2)},
        energies={"density": -3.0},
        boxes=(box(),),
        maps=(Map(shown=Shown.SALIENCY, label="Why", method="none", voxels=zeros, explains="nodule"),),
        images=(Image(key="denoised", voxels=zeros),),
    )
    return dataclasses.replace(given, **changes)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return open_package(packed(tmp_path_factory.mktemp("everything"), TOML))


@pytest.fixture
def manifest(package: Package) -> Manifest:
    return package.manifest


def run(folder: Path, package: Package, monkeypatch: pytest.MonkeyPatch, given: Raw) -> Outcome:
    def algorithm(volume: Volume, package: Package, runtime: Runtime) -> Raw:
        del volume, package, runtime
        return given

    monkeypatch.setattr("inference.pipeline.find", lambda _name: algorithm)
    paths = write(folder, builders.slices(*SHAPE, step=2.0))
    return predict(Request(key="k", study_uid="1.2", series_uid="1.2.3", revision=1, paths=tuple(paths)), package)


def test_everything_that_a_model_may_say_becomes_facts_and_survives_the_wire(
    tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp = np.linspace(0, 1, math.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    blobs: dict[str, bytes] = {}

    def put(content: bytes) -> str:
        name = hashlib.sha256(content).hexdigest()
        blobs[name] = content
        return name

    given = raw(
        maps=(Map(shown=Shown.SALIENCY, label="Why", method="by hand", voxels=ramp, explains="nodule"),),
        images=(Image(key="denoised", voxels=1000.4 * ramp - 500),),
    )
    said = run(tmp_path, package, monkeypatch, given).kept(put)

    assert said.status is Status.SUCCEEDED
    assert from_json(Prediction, to_json(said)) == said
    assert [frame.sop_instance_uid for frame in said.frames] == [f"{builders.ROOT}.1.{n}" for n in range(1, 7)]
    assert [(d.number, d.label, d.score) for d in said.detections] == [(1, "Nodule 1", 0.7)]
    assert said.detections[0].measurements[0].value == 8.0
    assert said.heatmaps[0].explains == package.manifest.detections[0].type.code()
    kept = [np.frombuffer(zlib.decompress(blobs[a.blob]), f"<{np.dtype(a.dtype).str[1:]}") for a in said.arrays]
    assert [a.dtype for a in said.arrays] == ["float16", "int16"]
    assert np.abs(kept[0].reshape(SHAPE) - ramp).max() <= 1 / 256
    assert np.array_equal(kept[1].reshape(SHAPE), np.rint(1000.4 * ramp - 500))


@pytest.mark.parametrize(
    ("chance", "presence", "said"),
    [
        (0.1, Presence.ABSENT, 0.012),  # Platt with slope 2 squares the odds
        (0.4, Presence.UNDETERMINED, 0.308),
        (0.5, Presence.PRESENT, 0.5),
        (0.9, Presence.PRESENT, 0.988),
    ],
)
def test_a_condition_is_judged_on_its_calibrated_probability(
    manifest: Manifest, chance: float, presence: Presence, said: float
) -> None:
    finding = answer(manifest, raw(chances={"effusion": chance, "pneumothorax": 0.1})).findings[0]

    assert (finding.presence, finding.probability, finding.threshold) == (presence, said, 0.5)
    assert f"Pleural effusion {presence.value}: probability {said:.3f}" in finding.text
    assert "Youden index on the validation set. sensitivity 0.90 (0.80 to 0.95)" in finding.threshold_source
    assert "40 cases (tests)" in finding.threshold_source


def test_a_model_that_knows_nothing_abstains(manifest: Manifest) -> None:
    finding = answer(manifest, raw(chances={"effusion": 0.1, "pneumothorax": 0.5})).findings[1]

    assert finding.presence is Presence.UNDETERMINED
    assert finding.uncertainty == 1.0
    assert "the model abstains, for its entropy is 1.00 (answers up to 0.9)" in finding.text


@pytest.mark.parametrize(
    ("probabilities", "energy", "said", "words"),
    [
        ((0.1, 0.7, 0.2), -3.0, "B", "Density: middle (probability 0.700)."),
        ((0.45, 0.10, 0.45), -3.0, None, "its probability must reach 0.4"),  # the median is the unlikely middle
        ((0.0, 0.0, 1.0), -3.0, "C", "high"),
        ((0.1, 0.7, 0.2), -0.5, None, "abstains, for its energy is -0.50 (answers up to -1); nearest is middle"),
    ],
)
def test_a_step_of_a_scale_is_the_median_unless_the_model_abstains(
    manifest: Manifest, probabilities: tuple[float, ...], energy: float, said: str | None, words: str
) -> None:
    graded = answer(manifest, raw(classes={"density": probabilities}, energies={"density": energy})).grades[0]

    assert (graded.answer.value if graded.answer else None) == said
    assert words in graded.text
    assert [p.probability for p in graded.probabilities] == pytest.approx(probabilities, abs=1e-3)
    assert graded.ordinal
    assert graded.detection is None


def test_detections_are_numbered_from_the_most_suspicious_and_cut_at_the_operating_point(manifest: Manifest) -> None:
    far = box(0.9, low=(3.0, 9.0, 9.0), high=(3.0, 9.0, 9.0))
    said = answer(manifest, raw(boxes=(box(0.5), far, box(0.5), box(0.4999), box(0.6, low=(0.0, 0.0, 0.0)))))

    assert [(d.number, d.label, d.score) for d in said.detections] == [
        (1, "Nodule 1", 0.9),
        (2, "Nodule 2", 0.6),
        (3, "Nodule 3", 0.5),
    ]
    assert said.detections[0].location.low == said.detections[0].location.high
    assert [(g.detection, g.answer.value if g.answer else None) for g in said.grades[1:]] == [
        (1, "S"),
        (2, "S"),
        (3, "S"),
    ]
    assert said.grades[1].probabilities[0].probability == pytest.approx(0.75)  # at temperature 2: odds 9 to 3
    finding = said.findings[2]
    assert (finding.presence, finding.detection, finding.probability) == (Presence.PRESENT, 1, 0.9)
    assert said.warnings == ("1 more Nodule than the 3 most suspicious were found and are not reported.",)


@pytest.mark.parametrize(
    ("scores", "presence", "words"),
    [
        ((), Presence.ABSENT, "no candidate was found (reported from 0.5)"),
        ((0.1, 0.29), Presence.ABSENT, "candidate has probability 0.290"),
        ((0.1, 0.4), Presence.UNDETERMINED, "candidate has probability 0.400"),
    ],
)
def test_that_nothing_was_found_is_said_with_the_operating_point(
    manifest: Manifest, scores: tuple[float, ...], presence: Presence, words: str
) -> None:
    said = answer(manifest, raw(boxes=tuple(box(score, values={}, classes={}) for score in scores)))

    assert said.detections == ()
    assert (said.findings[2].presence, said.findings[2].detection) == (presence, None)
    assert words in said.findings[2].text
    assert said.findings[2].threshold == 0.5


@pytest.mark.parametrize(
    ("given", "urgency", "words"),
    [
        (raw(), Urgency.ROUTINE, ""),
        (raw(chances={"effusion": 0.1, "pneumothorax": 0.95}), Urgency.STAT, "air (Pneumothorax 0.950, from 0.9)"),
        (raw(boxes=(box(0.96),)), Urgency.HIGH, "sure (Nodule 0.960, from 0.95)"),
        (raw(boxes=(box(values={"diameter": 31.0}),)), Urgency.HIGH, "large (Diameter of a Nodule 31.0 mm, from 30)"),
        (raw(boxes=(box(0.4, values={"diameter": 31.0}),)), Urgency.ROUTINE, ""),
        (raw(boxes=(box(classes={"kind": (0.05, 0.95)}),)), Urgency.HIGH, "subsolid (Kind: ground glass)"),
        # Just beside what they are judged by.
        (raw(chances={"effusion": 0.1, "pneumothorax": 0.8996}), Urgency.ROUTINE, ""),
        (raw(chances={"effusion": 0.1, "pneumothorax": 0.90004}), Urgency.STAT, "air (Pneumothorax 0.90004, from 0.9)"),
        (raw(boxes=(box(0.9499999),)), Urgency.ROUTINE, ""),
        (raw(boxes=(box(0.9504),)), Urgency.HIGH, "sure (Nodule 0.9504, from 0.95)"),
        (raw(boxes=(box(values={"diameter": 29.96}),)), Urgency.ROUTINE, ""),
        (raw(boxes=(box(values={"diameter": 30.04}),)), Urgency.HIGH, "large (Diameter of a Nodule 30.04 mm, from 30)"),
    ],
)
def test_policy_lines_read_conditions_detections_measurements_and_grades(
    manifest: Manifest, given: Raw, urgency: Urgency, words: str
) -> None:
    said = answer(manifest, given)

    assert (said.urgency, said.urgency_reason) == (urgency, words)


def _map(voxels: Any, explains: str = "") -> tuple[Map, ...]:
    return (Map(shown=Shown.SALIENCY, label="x", method="x", voxels=voxels, explains=explains),)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chances": {"effusion": 0.5}}, "no probability for Pneumothorax"),
        ({"chances": {"effusion": 0.5, "pneumothorax": math.nan}}, "Pneumothorax came out as nan"),
        ({"chances": {"effusion": 1.2, "pneumothorax": 0.5}}, "Pleural effusion came out as 1.2"),
        ({"chances": {"effusion": 0.5, "pneumothorax": 0.5, "x": 0.5}}, "condition x, which its package"),
        ({"classes": {}}, "0 of 3 probabilities for Density"),
        ({"classes": {"density": (0.5, 0.5)}}, "2 of 3 probabilities for Density"),
        ({"classes": {"density": (0.5, 0.4, 0.5)}}, "sum to 1.400"),
        ({"classes": {"density": (math.nan, 0.5, 0.5)}}, "Density came out as nan"),
        ({"classes": {"density": (0.1, 0.7, 0.2), "kind": (0.5, 0.5)}}, "grade kind, which"),
        ({"energies": {}}, "no energy for density"),
        ({"boxes": (box(key="lump"),)}, "detection lump, which"),
        ({"boxes": (box(1.5),)}, "Nodule came out as 1.5"),
        ({"boxes": (box(math.nan),)}, "Nodule came out as nan"),
        ({"boxes": (box(low=(-1.0, 0.0, 0.0)),)}, "outside of the images"),
        ({"boxes": (box(high=(2.0, 5.0, 23.6)),)}, "outside of the images"),
        ({"boxes": (box(low=(2.5, 2.0, 3.0)),)}, "turned over"),
        ({"boxes": (box(low=(math.nan, 2.0, 3.0)),)}, "outside of the images"),
        ({"boxes": (box(values={}),)}, "no value for Diameter of a Nodule"),
        ({"boxes": (box(values={"diameter": 400.0}),)}, "400.0 mm, outside of what is plausible (2 to 40)"),
        ({"boxes": (box(classes={}),)}, "0 of 2 probabilities for Kind"),
        ({"maps": _map(np.zeros((1, 2, 3), np.float32))}, "map has the shape (1, 2, 3)"),
        ({"maps": _map(np.full(SHAPE, 2.0, np.float32))}, "outside of 0 to 1"),
        ({"maps": _map(np.full(SHAPE, np.nan, np.float32))}, "no finite numbers"),
        ({"maps": _map(np.zeros(SHAPE, np.float32), "x")}, "output x, which"),
        ({"images": ()}, "made 0 series of images denoised"),
        ({"images": (Image(key="other", voxels=np.zeros(SHAPE)),)}, "image other, which"),
        ({"images": (Image(key="denoised", voxels=np.full(SHAPE, np.inf)),)}, "no finite numbers"),
    ],
)
def test_an_outcome_that_cannot_be_true_is_withheld_whole(
    manifest: Manifest, changes: dict[str, Any], words: str
) -> None:
    reason = unsound(manifest, raw(**changes), (), SHAPE)

    assert reason is not None
    assert words in reason.text
    assert reason.code.value == ("110531" if "plausible" in words else "111218")


def test_a_sound_outcome_is_not_withheld_and_a_faulty_one_fails_the_run(
    tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unsound(package.manifest, raw(), (), SHAPE) is None
    outcome = run(tmp_path, package, monkeypatch, raw(boxes=(box(math.nan),)))

    said = outcome.prediction
    assert said.status is Status.FAILED
    assert said.reason is not None
    assert (said.detections, said.findings, said.heatmaps, outcome.arrays) == ((), (), (), ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swap("absent_below = 0.2", "absent_below = 0.6"), "absent_below must not be above present_from"),
        (swap("present_from = 0.5", "present_from = 1.5"), "conditions.0.present_from"),
        (swap("slope = 2.0, ", ""), "platt takes offset and slope, and nothing else"),
        (swap("temperature = 2.0", "temperature = 0.0"), "grades.1.calibration.temperature"),
        (swap("low = 0.8", "low = 0.99"), "low, value and high must be in order"),
        (swap('value = "B"', 'value = "A"'), "the codes of classes must differ"),
        (
            swap('detection = "nodule"\nat_least = 0.6', 'detection = "lump"\nat_least = 0.6'),
            "there is no detection lump",
        ),
        (swap('key = "kind"', 'key = "density"'), "keys of conditions, grades, detections and images must differ"),
        (swap('condition = "pneumothorax"\nat_least = 0.9', 'condition = "pneumothorax"'), "everything else at_least"),
        (swap('classes = ["G"]', 'classes = ["X"]'), "grade kind has no such class; known: G, S"),
        (swap('grade = "kind"\nclasses', 'grade = "sort"\nclasses'), "there is no grade sort"),
        (swap('measurement = "diameter"', 'measurement = "radius"'), "there is no measurement radius"),
        (swap("above = 0.9", "above = 1.9"), "above must lie within 0 and 1"),
        (swap("metrics =", "metric ="), "did you mean metrics?"),
    ],
)
def test_a_wrong_entry_is_found_when_the_package_is_opened(
    tmp_path: Path, change: Callable[[str], str], words: str
) -> None:
    with pytest.raises(Misconfigured, match=re.escape(words)):
        open_package(packed(tmp_path / "wrong", change(TOML)))
