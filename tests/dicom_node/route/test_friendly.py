"""Plain wishes become conditions that compile and mean what was wished."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.route.friendly import Wish, condition
from dicom_node.route.verdict import Verdict
from storage.facts.errors import Misconfigured
from tests.dicom_node.route.making import verdict

CHEST = {
    "Modality": "CT", "BodyPartExamined": "CHEST", "SliceThickness": 1.25, "SeriesDescription": "Thorax (LUNG) 1.25",
    "ConvolutionKernel": "STANDARD", "PatientAge": "045Y",
}  # fmt: skip


@pytest.mark.parametrize(
    ("wish", "said", "met"),
    [
        ({"modality": ("ct",)}, 'Modality == "CT"', True),
        ({"modality": ("MR", "PT")}, 'Modality in ["MR", "PT"]', False),
        ({"max_thickness": 1.25}, "SliceThickness <= 1.25", True),
        ({"kernel": ("soft", "standard")}, 'kernel_class in ["soft", "standard"]', True),
        ({"min_age": 18}, "patient_age_years >= 18", True),
        ({"min_images": 2}, "number_of_frames >= 2", False),
        ({"description": "(lung)"}, 'SeriesDescription.matches("(?i)[(]lung[)]")', True),
        ({"sender": ("CT1",)}, 'calling_ae == "CT1"', True),
        ({"sender": ('A"\\B',)}, 'calling_ae == "A\\"\\\\B"', False),
    ],
)
def test_a_wish_says_what_it_means(wish: dict[str, Any], said: str, met: bool) -> None:
    text = condition(Wish(**wish))

    assert text == said
    assert (verdict(text, CHEST) is Verdict.TRUE) == met


def test_wishes_are_joined_one_a_line() -> None:
    assert condition(Wish(modality=("CT",), body_part=("CHEST",), orientation="axial", contrast="no")) == (
        'Modality == "CT"\n&& BodyPartExamined == "CHEST"\n&& orientation == "AXIAL"\n&& contrast == "no"'
    )


def test_no_wish_is_refused_with_an_example() -> None:
    with pytest.raises(Misconfigured, match=r"--modality CT --body-part CHEST --max-thickness 1\.5"):
        condition(Wish())


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30))
def test_any_description_finds_itself(text: str) -> None:
    if text.strip():
        assert verdict(condition(Wish(description=text.strip())), {"SeriesDescription": text}) is Verdict.TRUE
