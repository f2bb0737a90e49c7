"""Faults that compiling does not find: each is found, and what only looks like one is left alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dicom_node.route.demand import demands
from dicom_node.route.language import compile_rule
from dicom_node.route.lint import Surroundings, lint
from dicom_node.route.verdict import Verdict
from storage.facts.routing import Match, Origin, RegisteredPackage, Role, Rule, RuleSet
from storage.facts.study import Urgency
from tests.dicom_node.route.making import verdict

PACKAGES = [
    RegisteredPackage(package=name, version="1.0", digest="", title="", manifest={}) for name in ("lung", "brain")
]
AROUND = Surroundings(
    destinations=frozenset({"pacs", "self", "viewer"}),
    own=frozenset({"self"}),
    titles={"pacs": "PACS", "self": "NODE", "viewer": "VIEW"},
    peers=frozenset({"PACS"}),
)


def rule(name: str, when: str, **more: Any) -> Rule:
    return Rule(**({"name": name, "expression": when, "package": "lung", "destinations": ("pacs",)} | more))


def faults(*rules: Rule, match: Match = Match.ALL) -> list[str]:
    found = lint(RuleSet(match=match).of(list(rules)), PACKAGES, AROUND)
    return [f"{each.severity.value} {each.rule}: {each.text}" for each in found]


CT = rule("a", 'Modality == "CT"')


def test_a_sound_set_has_no_fault() -> None:
    assert faults(CT, rule("b", 'Modality == "MR"', package="brain@1.0")) == []


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"package": "lungs"}, "no worker has registered the package lungs: did you mean lung?"),
        ({"package": "lung@2"}, "lung is not registered in version 2; there are 1.0"),
        ({"destinations": ("pac",)}, "no destination is named 'pac': did you mean pacs?"),
        ({"destinations": ("zzz",)}, "no destination is named 'zzz': known: pacs, self, viewer"),
        ({"destinations": ("self",)}, "destination self is this node itself: its results would come straight back"),
        ({"expression": "Modalty == 1"}, "it does not compile: unknown name 'Modalty'. Did you mean Modality?"),
    ],
)
def test_what_a_rule_names_must_be_there(more: dict[str, Any], text: str) -> None:
    assert faults(dataclasses.replace(CT, **more)) == [f"error a: {text}"]


@pytest.mark.parametrize(
    ("when", "label"),
    [
        ('Modality == "CT" && Modality == "MR"', "Modality"),
        ('Modality == "ct" && Modality != "CT"', "Modality"),
        ("SliceThickness <= 1 && SliceThickness > 1", "SliceThickness"),
        ('Modality in ["CT", "MR"] && !(Modality in ["MR", "CT"])', "Modality"),
        ("has(SliceThickness) && !has(SliceThickness)", "SliceThickness"),
        ('!has(SeriesDescription) && SeriesDescription.contains("x")', "SeriesDescription"),
        ("is_derived && !is_derived", "is_derived"),
        ('ImageType[2] == "AXIAL" && ImageType[2] == "LOCALIZER"', "ImageType[2]"),
    ],
)
def test_a_rule_that_can_never_match_is_found(when: str, label: str) -> None:
    assert faults(rule("a", when)) == [
        f"error a: it can never match: no value of {label} meets all that is asked of it"
    ]


@pytest.mark.parametrize(
    "when",
    [
        'ImageType == "ORIGINAL" && ImageType == "AXIAL"',
        'RequestAttributesSequence.ScheduledProcedureStepID == "1" && '
        'RequestAttributesSequence.ScheduledProcedureStepID == "2"',
        "SliceThickness >= 1 && SliceThickness <= 1",
        'Modality == "CT" || Modality == "MR"',
        'has(Modality) && Modality != "CT"',
    ],
)
def test_what_can_match_is_left_alone(when: str) -> None:
    assert faults(rule("a", when)) == []


def test_what_the_floor_keeps_from_every_model_is_found() -> None:
    assert faults(rule("a", "is_from_this_node"), rule("b", "!is_image"), rule("c", "false")) == [
        "error a: it can never match: results of this node reach no model",
        "error b: it can never match: what is no image reaches no model",
        "error c: it can never match: a clause is false",
    ]


def test_a_rule_for_everything_and_one_without_destination_are_odd() -> None:
    assert faults(rule("a", "true", destinations=())) == [
        "warning a: it has no destination: results stay in the node",
        "warning a: it takes every series, whatever its modality",
    ]
    assert faults(rule("a", 'Modality == "CT"', destinations=(), shadow=True)) == []


def test_derived_images_to_a_destination_that_also_sends_are_odd() -> None:
    assert faults(rule("a", 'is_derived && Modality == "CT"')) == [
        "warning a: it takes derived images, and destination pacs also sends to this node: what other systems derive "
        "there may come back and be analysed again"
    ]
    assert faults(rule("a", 'is_derived && Modality == "CT"', destinations=("viewer",))) == []
    assert faults(rule("a", '!is_derived && Modality == "CT"')) == []


def test_a_duplicate_is_found_whatever_the_order_of_its_clauses() -> None:
    one = rule("a", 'Modality == "CT" && SliceThickness <= 2.0')
    two = rule("b", 'SliceThickness <= 2 && Modality in ["ct"]')

    assert faults(one, two) == ["warning b: it says the same as rule a, for the same model"]
    assert faults(one, dataclasses.replace(two, package="brain")) == []
    assert faults(one, dataclasses.replace(two, enabled=False)) == []


def test_where_all_match_a_narrower_rule_for_the_same_model_adds_nothing_unless_it_asks_for_more() -> None:
    narrow = rule("b", 'Modality == "CT" && SliceThickness <= 2')

    assert faults(CT, narrow) == ["warning b: it adds nothing: rule a takes all of its series, for the same model"]
    assert faults(CT, dataclasses.replace(narrow, urgency=Urgency.STAT)) == []
    assert faults(CT, dataclasses.replace(narrow, destinations=("pacs", "viewer"))) == []
    assert faults(narrow, dataclasses.replace(CT, name="c")) == []


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ('Modality == "CT"', 'Modality == "CT" && SliceThickness <= 2'),
        ('Modality in ["CT", "MR"]', 'Modality == "MR"'),
        ("SliceThickness <= 3", "SliceThickness < 3 && SliceThickness > 1"),
        ("has(SliceThickness)", "SliceThickness < 3"),
        ('Modality != "CT"', 'Modality == "MR"'),
        ('SeriesDescription.contains("x")', 'SeriesDescription.contains("x") && Modality == "CT"'),
    ],
)
def test_where_the_first_match_wins_a_rule_that_comes_too_late_is_found(wide: str, narrow: str) -> None:
    first, second = rule("a", wide), rule("b", narrow, package="brain")

    assert faults(first, second, match=Match.FIRST) == [
        "error b: it never gets its turn: rule a comes first and takes all its series"
    ]
    assert faults(second, dataclasses.replace(first, name="c"), match=Match.FIRST) == []
    assert faults(dataclasses.replace(first, shadow=True), second, match=Match.FIRST) == []
    assert faults(first, second, match=Match.ALL) == []


def test_a_rule_that_opens_the_floor_gets_its_turn() -> None:
    assert faults(CT, rule("b", 'Modality == "CT" && is_localizer', package="brain"), match=Match.FIRST) == []


CLAUSES = st.sampled_from(
    [
        'Modality == "CT"', 'Modality != "CT"', 'Modality in ["CT", "MR"]', "!has(Modality)", "has(SliceThickness)",
        "SliceThickness <= 1", "SliceThickness < 2", "SliceThickness > 1", "SliceThickness >= 2", "SliceThickness != 2",
        'ImageType == "AXIAL"', 'ImageType == "ORIGINAL"', 'ImageType[0] == "ORIGINAL"', '!(Modality in ["MR"])',
        'Modality == "CT" || SliceThickness < 2', 'SeriesDescription.contains("x")', "!has(SeriesDescription)",
    ]
)  # fmt: skip
RULES = st.lists(CLAUSES, min_size=1, max_size=4).map(" && ".join)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Modality": st.sampled_from(["CT", "MR", "CR"]),
        "SliceThickness": st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]),
        "ImageType": st.sampled_from([["ORIGINAL", "AXIAL"], ["AXIAL"], ["DERIVED"]]),
        "SeriesDescription": st.sampled_from(["x", "y"]),
    },
)


@settings(deadline=None)
@given(one=RULES, two=RULES, header=HEADERS)
@example(one="!has(Modality)", two='Modality == "CT" && !has(Modality)', header={})
def test_no_header_contradicts_what_lint_says(one: str, two: str, header: dict[str, Any]) -> None:
    first, second = demands(compile_rule(one)), demands(compile_rule(two))
    holds = [verdict(text, header) is Verdict.TRUE for text in (one, two)]

    assert not (first.problem and holds[0]), "it was said that it can never match"
    if first.imply(second) and not first.problem:
        assert holds[1] or not holds[0], "it was said that the first implies the second"


TWO = RegisteredPackage(
    package="two", version="1.0", digest="", title="",
    manifest={"inputs": [{"role": "flair", "missing": "refuse"}, {"role": "pet", "missing": "impute"}]},
)  # fmt: skip
FLAIR = Role(name="flair", expression='mr_sequence == "FLAIR"')
PET = Role(name="pet", expression='Modality == "PT"')


def chosen(**more: Any) -> list[str]:
    one = rule("a", 'Modality == "MR"', **({"package": "two", "inputs": (FLAIR, PET)} | more))
    found = lint(RuleSet().put(one), [*PACKAGES, TWO], AROUND)
    return [f"{each.severity.value} {each.text}" for each in found]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({}, None),
        ({"prefer": ("least SliceThickness", "least SliceThickness")}, "warning prefer, line 2 decides nothing"),
        ({"prefer": ("least SliceThickness", "greatest SliceThickness")}, "warning prefer, line 2 decides nothing"),
        ({"prefer": ("least Thicknes",)}, "error prefer, line 1 does not compile: unknown name 'Thicknes'."),
        (
            {"inputs": (dataclasses.replace(FLAIR, prefer=("nope",)), PET)},
            "error input flair: prefer, line 1 does not compile: unknown name 'nope'.",
        ),
        (
            {"inputs": (dataclasses.replace(FLAIR, expression='Modality == "MR" && Modality == "CT"'), PET)},
            "error input flair: no series can ever be it: no value of Modality meets all that is asked of it",
        ),
        (
            {"inputs": (dataclasses.replace(FLAIR, expression='Modality == "MR"'), PET)},
            "warning input flair: its condition is that of the rule itself: it gets the second best series",
        ),
        ({"inputs": (FLAIR, PET, Role(name="flare", expression="true"))},
         "error two takes no input 'flare': did you mean flair?"),
        ({"inputs": (PET,)}, "error two needs an input 'flair', which the rule does not name: every run is refused"),
        (
            {"inputs": (FLAIR,)},
            "warning two takes an input 'pet', which the rule does not name: it is always imputed",
        ),
        ({"package": "lung"}, "error lung takes no input 'flair': it takes one series alone"),
        ({"wait": 10.0}, "warning it waits 10s at most, but settles only after 30s"),
    ],
)  # fmt: skip
def test_a_choice_that_cannot_work_is_found(more: dict[str, Any], text: str | None) -> None:
    found = chosen(**more)

    assert found[0].startswith(text) if text else found == []


def test_a_prior_may_have_the_condition_of_the_rule() -> None:
    prior = Role(name="flair", expression='Modality == "MR"', origin=Origin.PRIOR)

    assert chosen(inputs=(prior, PET)) == []


def test_two_ways_to_the_same_model_may_run_it_twice() -> None:
    best = rule("best", 'Modality == "CT"', prefer=("least SliceThickness",))

    assert faults(CT, best) == [
        "warning best: a series may be analysed twice: rule a takes the same ones in another way"
    ]
    assert faults(best, dataclasses.replace(best, name="other", package="brain")) == []
    assert faults(best, CT, match=Match.FIRST) == [
        "error a: it never gets its turn: rule best comes first and takes all its series"
    ]
