"""The YAML sheet: what is written is read back, and what is wrong with it is said all at once."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.route.sheet import difference, read_rule, read_set, write_rule, write_set
from storage.facts.errors import Misconfigured
from storage.facts.routing import Late, Match, Origin, Role, Rule, RuleSet, changes, span_of, span_text
from storage.facts.study import Urgency

RULE = Rule(
    name="chest",
    expression='Modality == "CT"\n&& SeriesDescription.matches(r"(?i)lung: \\d+") // remark: "x" # y',
    package="lung@1.2",
    destinations=("pacs", "viewer"),
    urgency=Urgency.STAT,
    shadow=True,
    enabled=False,
    late=Late.IGNORE,
)


def test_a_set_is_read_back_as_it_was_written() -> None:
    rules = RuleSet(match=Match.FIRST, approval=True).put(RULE).put(Rule(
        name="no", expression="true", package="1.0", destinations=()
    ))  # fmt: skip

    assert read_set(write_set(rules), "x") == rules
    assert read_rule(write_rule(RULE), "x") == RULE


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn", "Zl", "Zp")), min_size=1, max_size=60))
def test_whatever_a_condition_holds_it_survives_the_sheet(text: str) -> None:
    stripped = text.strip()
    if not stripped or not stripped.isprintable():
        return
    rule = dataclasses.replace(RULE, expression=stripped)

    assert read_rule(write_rule(rule), "x").expression == stripped


def test_a_sheet_by_hand_may_leave_out_what_is_usual() -> None:
    rules = read_set("rules:\n- {name: a, when: 'true', model: m, to: pacs, urgency: stat}\n", "x")

    assert rules == RuleSet().put(
        Rule(name="a", expression="true", package="m", destinations=("pacs",), urgency=Urgency.STAT)
    )
    assert read_set("match: all", "x") == RuleSet()


WRONG = {
    "nothing": ("", "x: a sheet begins with 'rules:' or 'name:'; this is something else"),
    "a list": ("- a", "x: a sheet begins with 'rules:' or 'name:'; this is something else"),
    "broken YAML": (
        "rules: [", "x, line 1, column 9: this is no YAML: expected the node content, but found '<stream end>'"
    ),
    "control characters": ("a: \x00", "x: this is no YAML: it holds characters that no text has"),
    "rules that are no list": ("rules: 3", "x:\n  rules is a list: each rule begins with '- name:'"),
    "a rule that is none": ("rules: [3]", "x:\n  rule 1 is no rule: it has no name, when and model"),
    "unknown keys": (
        "mode: all\nrules:\n- {name: a, when: b, modle: c, model: d}",
        "x:\n  there is no 'mode'. Known: match, approval, rules.\n"
        "  rule 'a': there is no 'modle'. Did you mean model?",
    ),
    "missing keys": ("rules: [{name: a}]", "x:\n  rule 'a': when is missing\n  rule 'a': model is missing"),
    "wrong types": (
        "approval: maybe\nrules:\n- {name: 1, when: true, model: m, to: {a: 1}, enabled: 3, urgency: soon, late: 1}",
        "x:\n  approval is true or false\n  rule 1: name is a text; put it in quotes\n"
        "  rule 1: when is a text; put it in quotes\n  rule 1: enabled is true or false\n"
        "  rule 1: urgency is one of ROUTINE, HIGH, STAT, not 'soon'\n  rule 1: late is one of rerun, ignore, not 1\n"
        "  rule 1: to is a list of destination names, such as [pacs]",
    ),
    "two of a name": (
        "rules: [{name: a, when: b, model: c}, {name: a, when: b, model: c}]", "x:\n  two rules are named 'a'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_sheet_is_said(name: str) -> None:
    text, message = WRONG[name]
    with pytest.raises(Misconfigured) as caught:
        read_set(text, "x")

    assert str(caught.value) == message


@settings(deadline=None)
@given(st.text(max_size=200))
def test_no_text_makes_reading_a_sheet_raise_anything_else(text: str) -> None:
    try:
        read_set(text, "x")
    except Misconfigured:
        pass


def test_a_difference_shows_what_changed_and_nothing_for_equals() -> None:
    before = RuleSet().put(RULE)
    after = before.put(dataclasses.replace(RULE, urgency=Urgency.HIGH))

    lines = difference(before, after, ("old", "new"))

    assert lines[:2] == ["--- old", "+++ new"]
    assert [line for line in lines[2:] if line[0] in "+-"] == ["-urgency: STAT", "+urgency: HIGH"]
    assert difference(before, before, ("old", "new")) == []


CHOOSING = dataclasses.replace(
    RULE,
    prefer=('kernel_class == "soft"', "!is_derived", "least SliceThickness"),
    inputs=(
        Role(name="flair", expression='mr_sequence == "FLAIR"\n&& !is_derived', prefer=("least slice_spacing_mm",)),
        Role(name="prior", expression="true", origin=Origin.PRIOR),
    ),
    wait=1200.0,
    settle=90.0,
)


def test_a_choice_survives_the_sheet_and_is_not_in_that_of_other_rules() -> None:
    written = write_rule(CHOOSING)

    assert read_rule(written, "x") == CHOOSING
    assert "wait: 20m\nsettle: 90s\n" in written
    assert "prefer" not in write_rule(RULE)
    both = RuleSet().put(CHOOSING).put(dataclasses.replace(RULE, name="plain"))
    assert read_set(write_set(both), "x") == both


def test_what_changed_of_a_choice_is_shown() -> None:
    before, after = RuleSet().put(RULE), RuleSet().put(CHOOSING)

    assert "+- least SliceThickness" in difference(before, after, ("a", "b"))
    changed = changes(before, after)["changed"]["chest"]
    assert changed["wait"] == [None, "20m"]
    assert changes(after, before)["changed"]["chest"]["prefer"] == [list(CHOOSING.prefer), None]


def test_a_single_order_may_stand_alone() -> None:
    sheet = "name: a\nwhen: 'true'\nmodel: m\nprefer: thinnest\n"

    assert read_rule(sheet, "x").prefer == ("thinnest",)


def test_everything_that_is_wrong_with_a_choice_is_said_at_once() -> None:
    sheet = """
name: a
when: "true"
model: m
prefer: {thin: 1}
inputs:
- role: T1
  when: 7
- {role: pet, when: "true", from: before, preffer: x}
- {role: pet, when: "true"}
- what
wait: ten minutes
"""
    with pytest.raises(Misconfigured) as refused:
        read_rule(sheet, "x")

    assert [line.strip().removeprefix("rule 'a': ") for line in str(refused.value).splitlines()[1:]] == [
        "prefer is a list of texts; put what has a colon or begins with '!' in quotes",
        "input 1: when is a text",
        "input 1: a role is named in small letters, digits and '_', such as flair",
        "input 2: there is no 'preffer'. Did you mean prefer?",
        "input 2: from is one of study, prior, not 'before'",
        "input 4 is no input: it has no role and when",
        "two inputs have the role 'pet'",
        "wait: 'ten minutes' is no time span: write 30s, 10m, 2h or 1d",
    ]
    with pytest.raises(Misconfigured, match="wait means something only where the rule has prefer or inputs"):
        read_rule("name: a\nwhen: 'true'\nmodel: m\nwait: 5m\n", "x")


@pytest.mark.parametrize("seconds", [0.0, 0.05, 1.0, 30.0, 90.0, 600.0, 3600.0, 5400.0, 86400.0])
def test_a_time_span_is_read_back_as_it_was_written(seconds: float) -> None:
    assert span_of(span_text(seconds)) == seconds
