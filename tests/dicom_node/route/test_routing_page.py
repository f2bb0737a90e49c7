"""The page on routing: every recipe compiles, matches what it is for, and lets the neighbour pass."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom_node.commands.rules import rules
from dicom_node.route.choice import Candidate, candidates_of, select
from dicom_node.route.language import compile_rule
from dicom_node.route.preference import NAMED, compile_preference
from dicom_node.route.router import routing_rule
from dicom_node.route.rules import RoutingRule, evaluate
from dicom_node.route.sheet import read_rule, write_rule
from dicom_node.route.vocabulary import DERIVED
from storage.facts.routing import Match
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


CHOICES = {
    name: read_rule(sheet, "the page")
    for name, sheet in re.findall(
        r"^### (.+?)\n+```yaml\n(.+?)```", PAGE.split("## Four recipes with a choice")[1], re.MULTILINE | re.DOTALL
    )
}
_CHEST = _CT | {"BodyPartExamined": "CHEST", "ConvolutionKernel": "STANDARD", "SliceThickness": 1.0}
_PET = {"Modality": "PT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128", "CorrectedImage": ["DECY", "ATTN"]}
_T1, _FLAIR = _MR | {"SeriesDescription": "t1_mprage"}, _MR | {"SeriesDescription": "t2_flair"}

#: Recipe: the series of a study, of an earlier one, and which of them it takes: first that of the rule, then by role.
STUDIES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], list[int]]] = {
    "The best chest series for densitometry": (
        [
            _CHEST | {"SliceThickness": 5.0, "SeriesDescription": "non-con"},
            _CHEST | {"ConvolutionKernel": "LUNG", "SeriesDescription": "non-con"},
            _CHEST | {"SliceThickness": 0.6, "SeriesDescription": "post contrast"},
            _CHEST | {"SeriesDescription": "non-con"},
        ],
        [],
        [3],
    ),
    "Brain with T1 and FLAIR": ([_FLAIR, _T1 | {"SeriesDescription": "t1 post gad"}, _T1], [], [2, 0]),
    "PET on its CT": ([_CHEST | {"step": 3.0}, _CHEST, _PET | {"CorrectedImage": "DECY"}, _PET], [], [0, 3]),
    "Follow-up against the latest earlier study": (
        [_CHEST | {"StudyDate": "20260301"}],
        [_CHEST | {"StudyDate": "20240301"}, _CHEST | {"StudyDate": "20250301"}, _CHEST | {"StudyDate": "20270301"}],
        [0, 102],
    ),
}


def _candidate(number: int, study: str, attributes: dict[str, Any]) -> Candidate:
    header = {key: value for key, value in attributes.items() if key != "step"}
    known = facts(header, stack([n * attributes.get("step", 1.0) for n in range(300)]))
    return Candidate(series_uid=str(number), study_uid=study, facts=known, about="")


def test_the_recipes_with_a_choice_have_their_examples() -> None:
    assert list(CHOICES) == list(STUDIES)
    assert len(CHOICES) == 4


@pytest.mark.parametrize("name", STUDIES)
def test_a_recipe_takes_the_series_that_it_is_for(name: str) -> None:
    here, before, expected = STUDIES[name]
    rule = routing_rule(CHOICES[name])
    study = [_candidate(n, "1", each) for n, each in enumerate(here)]
    others = [_candidate(n, str(n), each) for n, each in enumerate(before, 101)]

    found = select(rule, candidates_of(rule, [rule], Match.ALL, study), study, others)

    picks = (found.primary, *found.inputs)
    assert [int(pick.winner.series_uid) for pick in picks if pick.winner] == expected
    assert found.missing == ()


def test_the_page_lists_exactly_the_named_orders() -> None:
    table = PAGE.split("| name | stands for |")[1].split("**When.**")[0]
    names = [
        name for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"`([\w-]+)`", row)
    ]

    assert set(names) == set(NAMED)
    for name in ("finest", "longest", "newest", "axial", "without-contrast", "smooth"):
        assert f"`{NAMED[name]}`" in table


def test_the_pieces_of_a_rule_on_the_page_are_ones() -> None:
    pieces = [block for block in re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL) if "name:" not in block]

    assert [set(yaml.safe_load(piece)) for piece in pieces] == [{"prefer", "wait", "settle"}, {"inputs", "wait"}]
    for piece in pieces:
        rule = read_rule(f"name: a\nwhen: 'true'\nmodel: m\n{piece}", "the page")
        lines = [*rule.prefer, *(line for role in rule.inputs for line in role.prefer)]
        assert all(compile_preference(line).names for line in lines)
        assert all(compile_rule(role.expression).names for role in rule.inputs)
