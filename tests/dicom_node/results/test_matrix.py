"""Every kind of object, of every kind of source, in every state that real series are in: valid, or a coded failure.

Every day a sample in which each source, each state and each outcome is there; ``--matrix`` makes the whole product.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.results.check import faults
from dicom_node.results.document import reference
from dicom_node.results.drawing import Read
from dicom_node.results.profiles import KINDS, REJECTION
from dicom_node.results.report import Order, compose
from storage.facts.errors import Rejected
from storage.facts.prediction import Mask, Prediction, Presence
from tests import builders
from tests.dicom_node.results import degrading, finding, making, rare
from tests.dicom_node.results.making import NODE, codes, complaints, labels_on, looking, through_bytes, tool

EARLIER = builders.source(builders.CT, number=77)
#: Warnings about what the source does not say, and nobody can.
UNKNOWABLE = (
    "Laterality(0020,0060)> - is only permitted to be empty when actually unknown",
    "Retired Person Name form",
    # Our own numbers for a derived image, in a modality that seldom has any.
    "Non-identity Modality LUT Module",
    "RescaleIntercept(0028,1052)> - Attribute is not present in standard DICOM IOD",
    "RescaleSlope(0028,1053)> - Attribute is not present in standard DICOM IOD",
    "RescaleType(0028,1054)> - Attribute is not present in standard DICOM IOD",
    "Unrecognized defined term = <99TEST>",  # a private coding scheme, which is declared
)
#: What there is of any prediction.
WORDS = frozenset({"sr", "sr-comprehensive", "sr-text", "sc", "pdf"})
COLOURED = frozenset({"US loop", "SC", "OP"})
FLAT = making.FLAT | rare.FLAT
SOURCES = {
    name: make
    for name, make in (making.SOURCES | rare.SOURCES).items()
    if name not in ("MR sagittal", "CT oblique, from the head down")  # as others, turned
}
#: Those of several objects.
SERIES = frozenset({"CT", "MR coronal", "PT"})
MANY = 300

Outcome = Callable[[list[Dataset]], tuple[Prediction, Any, Read | None]]


def everything(sources: list[Dataset]) -> tuple[Prediction, Any, Read | None]:
    """Segments, detections, grades, maps and images."""
    labels = labels_on(sources)
    prediction, read = finding.everything(sources, labels)
    return prediction, labels, read


def overlapping(sources: list[Dataset]) -> tuple[Prediction, Any, Read | None]:
    """One segment over the other, of which one has a label that is too long."""
    labels = labels_on(sources)
    layers = np.stack([(labels == 1).astype(np.uint8), np.where(labels > 0, 2, 0).astype(np.uint8)], axis=1)
    mask = Mask(blob="ab" * 32, over=("cd" * 32,), shape=labels.shape, frames=builders.frames(sources))
    right, left = builders.segments()
    return builders.prediction(sources, mask=mask, segments=(right, replace(left, label="x" * 80))), layers, None


def many(sources: list[Dataset]) -> tuple[Prediction, Any, Read | None]:
    """More segments than a byte counts, most of them empty."""
    labels = labels_on(sources).astype(np.uint16)
    labels[labels == 2] = MANY
    one = builders.segments()[0]
    segments = tuple(replace(one, number=n, label=f"Part {n}", measurements=()) for n in range(1, MANY + 1))
    mask = Mask(blob="ab" * 32, shape=labels.shape, frames=builders.frames(sources), dtype="uint16")
    return builders.prediction(sources, mask=mask, segments=segments), labels, None


def nothing(sources: list[Dataset]) -> tuple[Prediction, Any, Read | None]:
    """Looked for, not found; a number that could not be computed."""
    volume = builders.segments()[0].measurements[0]
    absent = builders.finding(Presence.ABSENT, probability=float("nan"))
    return builders.prediction(sources, findings=(absent,), measurements=(replace(volume, value=np.nan),)), None, None


def failure(sources: list[Dataset]) -> tuple[Prediction, Any, Read | None]:
    """Not analysed."""
    return builders.failure(sources), None, None


OUTCOMES: dict[str, Outcome] = {
    "everything": everything, "overlapping": overlapping, "many": many, "nothing": nothing, "failure": failure,
}  # fmt: skip
WEIGHTS = {"everything": 2, "overlapping": 1, "many": 0.5, "nothing": 1, "failure": 1}  #: in the sample
SHAPED = frozenset(
    {"clean", "sparse", "overlong", "tilted", "placeless"}
)  #: states that masks of all forms are seen in
STATES = {**degrading.ANY, **degrading.PLACED, **degrading.SEVERAL}


def states_of(name: str) -> list[str]:
    """What can befall a source."""
    return [
        state
        for state in STATES
        if state in degrading.ANY
        or (state in degrading.PLACED and name not in FLAT)
        or (state in degrading.SEVERAL and name in SERIES)
    ]


def product() -> list[tuple[str, str, str]]:
    """All cells. A state of the geometry, or a mask of an unusual form, changes only what lies in the patient."""
    return [
        (name, state, outcome)
        for name in SOURCES
        for state in states_of(name)
        for outcome in OUTCOMES
        if outcome == "everything"
        or (state in degrading.ANY if outcome in ("nothing", "failure") else state in SHAPED and name not in FLAT)
        or state == "clean"
    ]


def sample() -> list[tuple[str, str, str]]:
    """Cells in which every source, every state and every outcome is there; those used least come next."""
    used = dict.fromkeys([*SOURCES, *OUTCOMES], 0)
    cells = []
    for state in (*reversed(STATES), *degrading.ANY):
        able = [one for one in product() if one[1] == state and one not in cells]
        cell = min(able, key=lambda one: (used[one[0]], used[one[2]] / WEIGHTS[one[2]]))
        used[cell[0]] += 1
        used[cell[2]] += 1
        cells.append(cell)
    return cells


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The sample, or with ``--matrix`` all cells."""
    if "cell" in metafunc.fixturenames:
        cells = product() if metafunc.config.getoption("--matrix") else sample()
        metafunc.parametrize("cell", cells, ids=["-".join(cell) for cell in cells])


def made(cell: tuple[str, str, str]) -> tuple[list[Dataset], dict[str, list[Dataset]]]:
    """The sources, and the objects as the node would send them; a result that cannot be said has failed."""
    name, state, outcome = cell
    sources = STATES[state](SOURCES[name]())
    prediction, labels, read = OUTCOMES[outcome](sources)
    order = Order(kinds=KINDS, look=looking(sources), read=read, retired=[reference(EARLIER)])
    try:
        composed = compose(prediction, labels, sources, NODE, builders.MADE_AT, order)
    except Rejected:
        composed = compose(builders.failure(sources), None, sources[:1], NODE, builders.MADE_AT, order)
    objects: dict[str, list[Dataset]] = {}
    for one in composed:
        objects.setdefault(one.kind, []).append(through_bytes(one))
    return sources, objects


def has_failed(report: Dataset) -> bool:
    """Whether a report says that nothing was analysed."""
    return ("Analysis Performed", "Not Attempted") in codes(report)


def test_every_object_is_valid_whatever_its_source_lacks(cell: tuple[str, str, str], tmp_path: Path) -> None:
    name, state, outcome = cell
    sources, objects = made(cell)
    assert set(objects) >= WORDS
    assert has_failed(objects["sr"][0]) == (outcome == "failure" or state in degrading.MIXED)
    if outcome == "everything" and state not in degrading.MIXED:
        assert set(objects) >= {"sc-map", "kos", "kos-rejection", "image"}
        assert ("gsps" in objects) == (name not in COLOURED)
        if name not in FLAT and state in ("clean", "bare", "malformed", "foreign", "overlong", "tilted", "uneven"):
            assert set(objects) == set(KINDS)
    for kind, one in [(kind, one) for kind, each in objects.items() for one in each]:
        assert (kind, faults(one)) == (kind, [])
        said = [line for line in complaints(one, tmp_path) if not any(known in line for known in UNKNOWABLE)]
        assert (kind, said) == (kind, [])
    if state in ("clean", "foreign", "tilted", "uneven", "jittered", "overlong"):
        del objects[REJECTION]  # it names an object that is not there
        assert of_one_study([*sources, *(one for each in objects.values() for one in each)], tmp_path) == []


def of_one_study(datasets: list[Dataset], folder: Path) -> list[str]:
    """What dcentvfy has against them; nothing when they are of one study."""
    files = []
    for index, ds in enumerate(datasets):
        files.append(folder / f"{index}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
    ran = subprocess.run([tool("dcentvfy"), *files], capture_output=True, text=True, check=False)
    said = [line for line in (ran.stderr + ran.stdout).splitlines() if line.startswith("Error")]
    return said or ([f"exit {ran.returncode}"] if ran.returncode else [])


def test_the_sample_has_every_source_every_state_and_every_outcome() -> None:
    names, states, outcomes = (set(values) for values in zip(*sample(), strict=True))
    assert (names, states, outcomes) == (set(SOURCES), set(STATES), set(OUTCOMES))
    assert set(sample()) <= set(product())
    assert REJECTION in KINDS
