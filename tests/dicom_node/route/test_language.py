"""What compiles, what does not, and what the message says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.route.expression import Rule
from dicom_node.route.language import MAX_TEXT, RuleError, compile_rule
from storage.facts.errors import Misconfigured

FAULTS = [
    ("SliceThicknes < 1", 0, "unknown name 'SliceThicknes'. Did you mean SliceThickness?"),
    ("modality == 'CT'", 0, "unknown name 'modality'. Did you mean Modality?"),
    ("SliceSpacingMm < 1", 0, "unknown name 'SliceSpacingMm'. Did you mean slice_spacing_mm?"),
    ("has(Xyzzy)", 4, "unknown name 'Xyzzy'. Names are DICOM keywords or derived facts."),
    (
        'SliceThickness <= "abc"',
        18,
        'SliceThickness is a number (DS), but "abc" is text: compare it with a number, without quotes',
    ),
    (
        'Modality in ["CT", 3]',
        19,
        'Modality is text (CS), but 3 is a number: compare it with text in quotes, "…"',
    ),
    (
        'StudyDate >= "20260101"',
        13,
        'StudyDate is a date (DA), but "20260101" is text: compare it with date("2026-01-31")',
    ),
    (
        'is_localizer == "no"',
        16,
        'is_localizer is true or false, but "no" is text: use it alone, or !… for its opposite',
    ),
    ('StudyDate > date("2026-02-30")', 17, 'a date is written date("2026-01-31")'),
    ('StudyTime > time("25:00")', 17, 'a time is written time("13:05") or time("13:05:59")'),
    ('Modality = "CT"', 9, "'=' cannot stand here: compare with =="),
    ('Modality == "CT" and Rows > 1', 17, "'and' cannot stand here: 'and' is written &&"),
    ('Modality <> "CT"', 10, "'>' cannot stand here: 'not equal' is written !="),
    (
        "number_of_instances + 1 > 3",
        20,
        "'+' cannot stand here: there is no arithmetic: compare with a number",
    ),
    (
        '!Modality == "CT"',
        0,
        "! needs a condition: put parentheses around the comparison, !(… == …), or write !=",
    ),
    ('Modality == "CT" && (is_derived ||', 34, "the rule ends too early"),
    ("Modality", 0, "Modality is text (CS), not a condition: compare it, or ask has(…)"),
    ('orientation == "AXAIL"', 15, 'orientation is never "AXAIL". Did you mean "AXIAL"?'),
    ('contrast == "maybe"', 12, 'contrast is never "maybe". It is one of yes, no.'),
    ('PatientName == "x"', 0, "PatientName identifies a person: rules may not ask for it"),
    ('tag("0010,0020") == "x"', 4, "PatientID identifies a person: rules may not ask for it"),
    (
        'OtherPatientIDsSequence.PatientID == "x"',
        0,
        "OtherPatientIDsSequence identifies a person: rules may not ask for it",
    ),
    ('tag("0019,0010") == "x"', 4, "private attributes have elements from 1000 on"),
    ('tag("0018,9999") == "x"', 4, "the standard has no attribute (0018,9999)"),
    (
        'SeriesDescription.matches(r"(")',
        26,
        "not a regular expression (RE2 syntax): missing ): (",
    ),
    (
        r'SeriesDescription.matches("\d")',
        26,
        r'unknown escape \d: write \\d, or r"…" for a regular expression',
    ),
    ('SeriesDescription.include("x")', 18, "there is no method 'include'."),
    ('SeriesDescription.contain("x")', 18, "there is no method 'contain'. Did you mean contains?"),
    ('Rows.contains("5")', 0, "Rows is a number: .contains(…) wants text"),
    ("Modality.Rows > 1", 9, "Modality is no sequence: it has nothing inside"),
    ("PixelData == 3", 0, "PixelData is binary data: it has no value to compare"),
    ("RequestAttributesSequence == 3", 0, "RequestAttributesSequence is a sequence: it has no value to compare"),
    ("Modality in []", 12, "a list has 1 to 200 items"),
    ("3 < 4", 0, "both sides are constants: compare with an attribute"),
    ("is_derived > false", 0, "true and false have no order: use == or !="),
    ("has(Modality, Rows)", 0, "1 argument(s) are wanted in the parentheses, not 2"),
    ("   ", 0, 'the rule is empty; to match every series write "true"'),
    ("!" * 100 + "true", 25, "the rule is nested more than 24 deep: split it"),
    ("Rows[0][1] > 1", 0, "one index is enough"),
    ("Rows > 1e999", 7, "the number is too large"),
]


@pytest.mark.parametrize(("text", "start", "message"), FAULTS)
def test_a_fault_is_named_and_pointed_at(text: str, start: int, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        compile_rule(text)

    assert caught.value.fault == message
    assert caught.value.start == start


def test_the_message_shows_the_line_with_a_caret_under_the_fault() -> None:
    with pytest.raises(Misconfigured) as caught:
        compile_rule('Modality == "CT"\n  && SliceThicknes < 1')

    assert str(caught.value) == (
        "unknown name 'SliceThicknes'. Did you mean SliceThickness?\n    && SliceThicknes < 1\n       ^"
    )


def test_a_long_line_is_cut_around_the_fault() -> None:
    with pytest.raises(RuleError) as caught:
        compile_rule(" && ".join(["is_image"] * 50) + " && Xyzzy > 1")

    _, line, caret = str(caught.value).split("\n")
    assert len(line) <= 102
    assert line[caret.index("^") :].startswith("Xyzzy")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("true //" + " " * MAX_TEXT, "longer than"),
        ("Rows in [" + ",".join(["1"] * 201) + "]", "1 to 200"),
        (" && ".join(["Rows>1"] * 340), "more than 1000 parts"),
        ("(" * 3000, "ends too early"),
        ("RequestAttributesSequence" + ".RequestAttributesSequence" * 20 + ".Rows > 1", "more than 5 names"),
        (f'SeriesDescription.matches(r"{"a" * 501}")', "longer than 500"),
        ('SeriesDescription.matches(r"((a{100}){100}){100}")', "not a regular expression"),
    ],
)
def test_a_rule_beyond_the_limits_is_refused(text: str, limit: str) -> None:
    with pytest.raises(RuleError, match=limit):
        compile_rule(text)


def test_a_rule_keeps_its_clauses_and_names() -> None:
    rule = compile_rule('Modality == "CT" && (has(Rows) || !is_derived) // thin\n && tag("0018,0050") < 2')

    assert [rule.text[c.span.start : c.span.end] for c in rule.clauses] == [
        'Modality == "CT"',
        "has(Rows) || !is_derived",
        'tag("0018,0050") < 2',
    ]
    assert rule.names == {"Modality", "Rows", "is_derived", "SliceThickness"}


_PIECES = st.sampled_from(
    [
        "Modality", "Rows", "ImageType", "is_derived", "StudyDate", "RequestAttributesSequence", "tag", "has", "size",
        "date", "in", "==", "!=", "<", "&&", "||", "!", "(", ")", "[", "]", ".", ",", '"CT"', "'x'", 'r"(a"', "1",
        "-2.5e3", "true", "matches", "contains", '"0019,100A"', " ", "\n", "//", "é", "\\", '"',
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=25).map(" ".join)))
def test_any_text_compiles_or_is_refused_with_a_message(text: str) -> None:
    outcome = compiled_or_refused(text)

    if isinstance(outcome, RuleError):
        assert outcome.fault
        assert 0 <= outcome.start <= len(text)
        assert str(outcome).rstrip().endswith("^")
    else:
        assert outcome.clauses


def compiled_or_refused(text: str) -> Rule | RuleError:
    """The rule, or the one kind of error that the compiler may raise."""
    try:
        return compile_rule(text)
    except RuleError as error:
        return error
