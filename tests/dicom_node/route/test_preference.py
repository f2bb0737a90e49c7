"""Lines of an order of preference: what they say, what is refused, and that no header can upset them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.route.language import RuleError
from dicom_node.route.preference import LAST, NAMED, compile_preference, spelled_out
from tests.dicom_node.route.making import CT, facts

SOFT = {"Modality": "CT", "SOPClassUID": CT, "ConvolutionKernel": "B20f", "Manufacturer": "SIEMENS"}


def order(line: str, **header: Any) -> float:
    return compile_preference(line).order(facts(SOFT | header))


def test_a_condition_puts_first_what_it_is_true_for_and_nothing_else() -> None:
    assert order('kernel_class == "soft"') == 0.0
    assert order('kernel_class == "soft"', ConvolutionKernel="B70f") == 1.0
    assert order("SliceThickness <= 1") == 1.0, "unknown is not true"


@pytest.mark.parametrize(
    ("line", "header", "expected"),
    [
        ("least SliceThickness", {"SliceThickness": 1.25}, 1.25),
        ("least SliceThickness", {"SliceThickness": "1.25"}, 1.25),
        ("greatest SliceThickness", {"SliceThickness": 1.25}, -1.25),
        ("least SliceThickness", {"SliceThickness": "thin"}, LAST),
        ("greatest SliceThickness", {}, LAST),
        ("least SliceThickness", {"SliceThickness": 1.24999996}, 1.25),
        ("least PixelSpacing", {"PixelSpacing": [0.7, 0.5]}, 0.5),
        ("greatest PixelSpacing", {"PixelSpacing": [0.7, 0.5]}, -0.7),
        ("latest StudyDate", {"StudyDate": "20260131"}, -20260131.0),
        ("earliest AcquisitionTime", {"AcquisitionTime": "1011"}, 101100.0),
        ("greatest size(ImageType)", {"ImageType": ["A", "B"]}, -2.0),
        ("greatest size(ImageType)", {}, 0.0),
        ('least tag("0019,100A")', {"0019100A": "7"}, 7.0),
        ('least tag("0019,100A")', {"0019100A": "seven"}, LAST),
    ],
)
def test_least_and_greatest_order_by_the_best_value_and_what_is_missing_comes_last(
    line: str, header: dict[str, Any], expected: float
) -> None:
    assert order(line, **header) == expected


@pytest.mark.parametrize("name", NAMED)
def test_every_named_order_stands_for_a_line_that_compiles(name: str) -> None:
    assert spelled_out(name) == NAMED[name]
    assert compile_preference(name).text == NAMED[name]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("thinest", "there is no order 'thinest'. Did you mean thinnest?\n  thinest\n  ^"),
        ("lest SliceThickness", "'lest' is no order. Did you mean least?\n  lest SliceThickness\n  ^"),
        (
            "SliceThickness",
            "SliceThickness is a number: write `least SliceThickness` or `greatest SliceThickness`, or compare it\n"
            "  SliceThickness\n  ^",
        ),
        (
            "least StudyDate",
            "least wants a number, and this is a date: write earliest or latest\n  least StudyDate\n        ^",
        ),
        (
            "greatest Modality",
            "greatest wants a number, and this is text (CS): compare it, for example with ==\n"
            "  greatest Modality\n           ^",
        ),
        ("least Thicknes", "unknown name 'Thicknes'."),
        ("greatest", "greatest of what? Write for example greatest coverage_mm\n  greatest\n          ^"),
        ("least PatientBirthDate", "PatientBirthDate identifies a person: rules may not ask for it"),
        ("least SliceThickness <= 3", "SliceThickness <= 3 is a condition; a value is wanted here"),
        ('Modality == "CT', "the text has no closing quote"),
        ("", "the rule is empty"),
    ],
)
def test_what_cannot_be_an_order_is_refused_with_a_caret_and_a_way_out(line: str, message: str) -> None:
    with pytest.raises(RuleError) as refused:
        compile_preference(line)

    assert message in str(refused.value)


LINES = [
    *NAMED.values(),
    'least tag("0019,100A")',
    "latest AcquisitionTime",
    "least ImageType[0] == 3",
    "greatest Rows",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("20260131"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["SliceThickness", "StudyDate", "SeriesNumber", "AcquisitionTime", "ConvolutionKernel", "ImageType", "0019100A"]
)


@settings(deadline=None, max_examples=150)
@given(header=st.dictionaries(NAMES, VALUES, max_size=5))
def test_no_header_makes_an_order_raise_or_become_no_number(header: dict[str, Any]) -> None:
    series = facts(header)
    for line in LINES:
        try:
            compiled = compile_preference(line)
        except RuleError:
            continue
        grade = compiled.grade(series)
        assert grade.order == grade.order, "not a NaN"
        assert isinstance(grade.shown, str)
