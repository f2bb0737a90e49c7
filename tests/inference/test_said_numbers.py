"""The sentences of an answer never contradict what was decided, however close a number lies to a threshold."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.algorithms.raw import Raw
from inference.packages.answer import answer
from inference.packages.graded import condition as conditioned
from inference.packages.manifest import Manifest
from inference.packages.outputs import ConditionEntry
from inference.packages.package import open_package
from storage.facts.prediction import Finding, Presence
from tests.inference.manifests import packed, small
from tests.inference.test_outputs import TOML as EVERYTHING

DIGITS = st.integers(1, 5)
_POINTS = re.compile(r"(?P<value>[<>]?-?[\d.]+)[^(]*\(present from (?P<high>[\d.]+), absent below (?P<low>[\d.]+)\)")


def presence_of(said: str) -> Presence:
    """What a reader concludes of the numbers in a sentence."""
    found = _POINTS.search(said.split(" is ")[-1].split("probability ")[-1])
    assert found is not None, said
    value, high, low = found["value"], float(found["high"]), float(found["low"])
    number = float(value.lstrip("<>"))
    number += {"<": -1e-12, ">": 1e-12}.get(value[0], 0.0)
    return Presence.PRESENT if number >= high else Presence.ABSENT if number < low else Presence.UNDETERMINED


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> ConditionEntry:
    return open_package(packed(tmp_path_factory.mktemp("all") / "everything", EVERYTHING)).manifest.conditions[1]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return open_package(packed(tmp_path_factory.mktemp("one") / "small", small(b"none"), {"net.bin": b"none"})).manifest


def _near(limit: float, draw: st.DataObject, least: float, most: float) -> float:
    far = draw.draw(st.sampled_from([0.0, 1e-9, 3e-5, 4e-4, 0.003, 0.04, 0.5]))
    return min(most, max(least, limit + far * draw.draw(st.sampled_from([-1, 1]))))


@given(st.data(), DIGITS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_sentence_of_a_probability_says_what_was_decided(
    entry: ConditionEntry, data: st.DataObject, digits: int
) -> None:
    step = 10.0**-digits
    high = max(step, round(data.draw(st.floats(step, 1)), digits))
    low = min(high, max(step, round(data.draw(st.floats(step, high)), digits)))
    points = entry.model_copy(update={"present_from": high, "absent_below": low, "abstain": None})
    chance = _near(data.draw(st.sampled_from([0.0, low, high, 1.0])), data, 0.0, 1.0)

    said: Finding = conditioned(points, chance, None)

    assert presence_of(said.text) is said.presence
    assert (said.probability == 0, said.probability == 1) == (chance == 0, chance == 1)


@pytest.mark.parametrize("digits", [0, 1, 3])
@given(data=st.data())
def test_the_sentence_of_a_measurement_says_what_was_decided(
    manifest: Manifest, digits: int, data: st.DataObject
) -> None:
    high = round(data.draw(st.floats(0.01, 100)), data.draw(DIGITS))
    high = max(high, 1e-5)
    low = min(high, max(1e-5, round(data.draw(st.floats(0, high)), data.draw(DIGITS))))
    changed = manifest.model_copy(
        update={
            "measurements": tuple(one.model_copy(update={"digits": digits}) for one in manifest.measurements),
            "findings": tuple(
                one.model_copy(update={"present_from": high, "absent_below": low}) for one in manifest.findings
            ),
        }
    )
    value = _near(data.draw(st.sampled_from([0.0, low, high])), data, 0.0, 100.0)

    said = answer(changed, Raw(values={"share": value}))

    assert presence_of(said.findings[0].text) is said.findings[0].presence
    [measured] = [*said.measurements, *(one for segment in said.segments for one in segment.measurements)]
    assert math.isclose(round(value, measured.digits), float(said.findings[0].text.split(" is ")[1].split(" ")[0]))
