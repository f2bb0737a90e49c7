"""Sentences of reports, pages and pictures never contradict the coded numbers and what was decided on them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicom_node.results import coding, reading_out, statement
from dicom_node.results.language import language
from storage.facts.prediction import Grade, Measurement, Presence, Probability
from tests import builders
from tests.dicom_node.results import finding
from tests.dicom_node.results.making import ordered, sentences
from tests.dicom_node.results.test_faithful import numbers

LANGUAGES = pytest.mark.parametrize("spoken", ["en", "de"])
NUMBER = r"([<>]?[\d.,]*\d)"


def value_of(said: str, name: str, spoken: str) -> float:
    found = re.search(rf"{name} {NUMBER}", said)
    assert found is not None, said
    text = found[1].replace(",", ".") if spoken == "de" else found[1]
    return float(text.lstrip("<>")) + {"<": -1e-9, ">": 1e-9}.get(text[0], 0.0)


@LANGUAGES
@given(data=st.data())
def test_what_is_said_of_a_probability_agrees_with_its_operating_point(spoken: str, data: st.DataObject) -> None:
    threshold = round(data.draw(st.floats(0.0001, 0.9999)), data.draw(st.integers(1, 5))) or 0.5
    near = data.draw(st.sampled_from([0.0, 1e-7, 3e-5, 4e-4, 0.003, 0.04, 1.0])) * data.draw(st.sampled_from([-1, 1]))
    probability = min(1.0, max(0.0, threshold + near))
    presence = Presence.PRESENT if probability >= threshold else Presence.ABSENT

    said = statement.finding(builders.finding(presence, probability=probability, threshold=threshold), language(spoken))

    shown = value_of(said, "Wahrscheinlichkeit" if spoken == "de" else "Probability", spoken)
    point = value_of(said, "Arbeitspunkt" if spoken == "de" else "Operating point", spoken)
    assert point == threshold
    assert (shown >= point) == (probability >= threshold)
    assert (shown == 0, shown == 1) == (probability == 0, probability == 1)


@LANGUAGES
def test_what_is_hardly_likely_is_not_said_to_be_impossible(spoken: str) -> None:
    tongue = language(spoken)
    sure = Grade(
        question=coding.PRIORITY,
        answer=coding.PRIORITY,
        probabilities=(
            Probability(value=coding.PRIORITY, probability=0.9997),
            Probability(value=coding.THRESHOLD, probability=0.0003),
        ),
        text="",
        uncertainty=0.0004,
    )
    said = statement.grade(sure, tongue)
    point = tongue.decimal
    assert f"{coding.PRIORITY.meaning} >0{point}999; {coding.THRESHOLD.meaning} <0{point}001" in said
    assert f">99{point}9 %" in said


def test_the_sentence_and_the_code_of_a_small_probability_are_the_same_number() -> None:
    sources = builders.slices(4)
    labels = builders.two_blobs((4, 40, 48))
    small = builders.finding(Presence.ABSENT, probability=0.003, threshold=0.0031, uncertainty=0.0002)
    volume = Measurement(name=finding.DIAMETER, value=0.3, unit=finding.MILLIMETRE, digits=0)
    report = ordered(
        builders.prediction(sources, labels, findings=(small,), measurements=(volume,)), labels, sources, kinds=("sr",)
    )["sr"]

    said = " ".join(sentences(report))
    assert "Probability 0.003. Certainty >99.9 %. Operating point 0.0031" in said
    assert list(numbers(report, coding.PROBABILITY)) == [0.003]
    assert list(numbers(report, coding.THRESHOLD)) == [0.0031]
    assert list(numbers(report, coding.CERTAINTY)) == [99.98]
    assert list(numbers(report, finding.DIAMETER)) == [0.3]


@LANGUAGES
@given(value=st.floats(1e-6, 1e6), digits=st.integers(0, 3))
def test_an_amount_is_never_said_to_be_none(spoken: str, value: float, digits: int) -> None:
    given_ = Measurement(name=finding.DIAMETER, value=value, unit=finding.MILLIMETRE, digits=digits)
    said = statement.measurement(given_, language(spoken))
    assert value_of(said, finding.DIAMETER.meaning, spoken) > 0
    assert "computed" in statement.measurement(replace(given_, value=float("nan")), language("en"))


def test_a_text_that_begins_with_the_same_words_is_not_said_after_them_again() -> None:
    present = builders.finding(Presence.PRESENT)
    repeating = replace(present, text=f"{present.condition.meaning} present: it is seen.")
    other = replace(present, text=f"{present.condition.meaning} was looked for in both lungs.")

    assert statement.finding(repeating, language("en")).count(present.condition.meaning) == 1
    assert statement.finding(repeating, language("en")).startswith(repeating.text)
    for said in (statement.finding(other, language("en")), statement.finding(repeating, language("de"))):
        assert said.count(present.condition.meaning) == 2, "another statement, or in another language"


def test_a_source_that_ends_with_a_full_stop_ends_the_sentence_once() -> None:
    given = replace(builders.finding(Presence.PRESENT, probability=0.7, threshold=0.5), threshold_source="Trial at X.")

    assert "Trial at X.)." not in statement.finding(given, language("en"))
    assert "Trial at X" in statement.finding(given, language("en"))


def test_a_text_with_line_breaks_of_its_own_is_read_out_in_one_flow() -> None:
    item, name = Dataset(), Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = "121106", "DCM", "Comment"
    item.ConceptNameCodeSequence, item.RelationshipType = [name], "CONTAINS"
    item.ValueType, item.TextValue = "TEXT", "The step\r\nbetween slices is\r\n\r\n170 mm."
    report = Dataset()
    report.ValueType, report.ContentSequence = "CONTAINER", [item]

    assert "The step between slices is 170 mm." in "\n".join(reading_out.lines(report))
