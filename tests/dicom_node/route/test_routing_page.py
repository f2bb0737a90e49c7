"""The page on routing: every recipe compiles, matches what it is for, and lets the neighbour pass."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dicom_node.commands.rules import rules
from dicom_node.route.language import compile_rule
from dicom_node.route.rules import RoutingRule, evaluate
from dicom_node.route.sheet import read_rule, write_rule
from dicom_node.route.vocabulary import DERIVED
from tests.dicom_node.route.making import CT, MR, SAGITTAL, SECONDARY_CAPTURE, facts, stack

PAGE = (Path(__file__).parents[3] / "docs" / "routing.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^### (.+?)\n.*?```cel\n(.+?)```", PAGE, re.MULTILINE | re.DOTALL))

_CT: dict[str, Any] = {"Modality": "CT", "SOPClassUID": CT, "KVP": 120.0}
_MR: dict[str, Any] = {"Modality": "MR", "SOPClassUID": MR}
_LUNG = _CT | {"ConvolutionKernel": "STANDARD", "SeriesDescription": "CHEST NON-CON"}
_XRAY = {"Modality": "CR", "SOPClassUID": SECONDARY_CAPTURE, "BodyPartExamined": "CHEST", "ViewPosition": "PA"}
_HEAD = _CT | {"BodyPartExamined": "HEAD", "calling_ae": "CT_ER"}
_SAGITTAL = _CT | {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"], "StudyDate": "20260131", "planes": SAGITTAL}
_RESEARCH = _CT | {
    "00190010": "OTHER",
    "00190011": "GEMS_ACQU_01",
    "0019110A": "RESEARCH",
    "RequestAttributesSequence": [{}, {"RequestedProcedureDescription": "CT LUNG"}],
}

#: Recipe: a series that it is for, and what makes of it one that it is not for.
EXAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Thin chest CT": (_CT | {"SliceThickness": 1.25, "BodyPartExamined": "CHEST"}, {"SliceThickness": 5.0}),
    "Whole-lung volume for density measurement": (_LUNG, {"ConvolutionKernel": "LUNG"}),
    "T1-weighted brain, sparse headers included": (
        _MR | {"SeriesDescription": "anat-T1w"},
        {"BodyPartExamined": "KNEE"},
    ),
    "Non-contrast head CT of the emergency department": (_HEAD, {"ContrastBolusAgent": "ISOVUE"}),
    "Chest radiograph, also when stored as Secondary Capture": (_XRAY, {"ViewPosition": "LL"}),
    "Adults only": (_CT | {"PatientAge": "045Y"}, {"PatientAge": "012Y"}),
    "FLAIR by the words of the protocol, whatever the vendor": (
        _MR | {"ProtocolName": "t2_tirm_dark-fluid"},
        {"ProtocolName": "t2"},
    ),
    "Diffusion with a high b-value": (
        _MR | {"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION"], "DiffusionBValue": 1000.0},
        {"DiffusionBValue": 0.0},
    ),
    "A private attribute and an order": (_RESEARCH, {"0019110A": "ROUTINE"}),
    "Sagittal reformats on purpose": (_SAGITTAL, {"StudyDate": "20251231"}),
}


def matches(text: str, attributes: dict[str, Any]) -> bool:
    """Whether a series of 300 slices with these attributes is routed."""
    header = {key: value for key, value in attributes.items() if key not in ("planes", "calling_ae")}
    planes = attributes.get("planes", [1, 0, 0, 0, 1, 0])
    slices = stack([float(n) for n in range(300)], planes, 0 if planes == SAGITTAL else 2)
    series = facts(header, slices, attributes.get("calling_ae", "CT1"))
    (decision,) = evaluate([RoutingRule(name="recipe", when=text, package="p")], series)
    return decision.matched


def test_the_page_has_ten_recipes_and_each_has_its_example() -> None:
    assert list(RECIPES) == list(EXAMPLES)
    assert len(RECIPES) == 10


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_recipe_takes_its_series_and_leaves_its_neighbour(name: str) -> None:
    wanted, change = EXAMPLES[name]

    assert matches(RECIPES[name], wanted)
    assert not matches(RECIPES[name], wanted | change)


def test_every_rule_on_the_page_compiles() -> None:
    blocks = re.findall(r"```cel\n(.+?)```", PAGE, re.DOTALL)

    assert all(compile_rule(block).clauses for block in blocks)


def test_the_page_lists_exactly_the_derived_facts() -> None:
    table = PAGE.split("## Derived facts")[1].split("## The floor")[0]
    names = {name for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}

    assert names == set(DERIVED)


def test_the_rule_on_the_page_is_one_and_has_every_key() -> None:
    sheet = re.search(r"```yaml\n(.+?)```", PAGE, re.DOTALL)
    assert sheet is not None

    rule = read_rule(sheet[1], "the page")
    assert write_rule(rule).splitlines() == [line.partition("   ")[0].rstrip() for line in sheet[1].splitlines()]


def test_every_command_about_rules_is_on_the_page_and_every_one_on_the_page_exists() -> None:
    shown = set(re.findall(r"dicom-node rules ([a-z]+)", PAGE))
    known = set(rules.commands)

    assert shown <= known
    assert {name for name in known if not re.search(rf"[` ]{name}[` ]", PAGE)} == set()
