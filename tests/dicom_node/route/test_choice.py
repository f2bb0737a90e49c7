"""One series of a study, and further ones by role: who wins, by what, and how it is told."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.route.choice import Candidate, candidates_of, pick, select
from dicom_node.route.rehearsal import described
from dicom_node.route.rules import RoutingRule
from storage.facts.routing import Match, Origin, Role
from tests.dicom_node.route.making import CT, MR, facts, stack

ORDER = ('kernel_class == "soft"', "least SliceThickness")
FLAIR = Role(name="flair", expression='mr_sequence == "FLAIR"')
PRIOR = Role(name="prior", expression='Modality == "MR"', origin=Origin.PRIOR)


def series(uid: str, images: int = 3, study: str = "1", **header: Any) -> Candidate:
    plain = {"Modality": "CT", "SOPClassUID": CT, "KVP": 120.0, "PatientName": "Miller^Anna"} | header
    slices = [plain | each for each in stack([float(n) for n in range(images)])]
    known = facts(plain, slices)
    return Candidate(series_uid=uid, study_uid=study, facts=known, about=described(known))


def mr(uid: str, description: str, study: str = "1", **header: Any) -> Candidate:
    return series(uid, study=study, Modality="MR", SOPClassUID=MR, SeriesDescription=description, **header)


THIN_SOFT = series("thin-soft", SliceThickness=1.0, ConvolutionKernel="B20f", Manufacturer="SIEMENS")
THICK_SOFT = series("thick-soft", SliceThickness=5.0, ConvolutionKernel="B20f", Manufacturer="SIEMENS")
THIN_SHARP = series("thin-sharp", SliceThickness=0.6, ConvolutionKernel="B70f", Manufacturer="SIEMENS")


def test_the_first_preference_that_differs_decides_whatever_the_order_of_arrival() -> None:
    for given_order in itertools.permutations([THIN_SOFT, THICK_SOFT, THIN_SHARP]):
        found = pick("", given_order, ORDER)

        assert [r.candidate.series_uid for r in found.ranked] == ["thin-soft", "thick-soft", "thin-sharp"]
        assert found.why == (
            "of 3 that match, `least SliceThickness` decides: SliceThickness is 1; in the next best, "
            "SliceThickness is 5"
        )


def test_equal_series_are_told_apart_by_images_then_number_then_uid() -> None:
    def winner(*candidates: Candidate) -> tuple[str, str]:
        found = pick("", candidates, ORDER)
        assert found.winner is not None
        return found.winner.series_uid, found.why.rpartition("has ")[2]

    assert winner(series("a", 3), series("b", 5)) == ("b", "most images")
    assert winner(series("a", SeriesNumber=7), series("b", SeriesNumber=4)) == ("b", "the lowest SeriesNumber")
    assert winner(series("a"), series("b", SeriesNumber=4)) == ("b", "the lowest SeriesNumber")
    assert winner(series("b"), series("a")) == ("a", "the lowest SeriesInstanceUID")


def test_one_alone_and_none_say_so() -> None:
    assert pick("", [THIN_SOFT], ORDER).why == "it is the only one that matches"
    assert pick("", [], ORDER).why == "no series matches"
    assert pick("", [], ORDER).winner is None


def test_the_explanation_lists_candidates_with_their_values_and_no_patient() -> None:
    told = pick("", [THICK_SOFT, THIN_SHARP, series("other", SeriesDescription="Thorax Miller")], ORDER).explanation()

    assert told["series"] == "thick-soft"
    values = told["candidates"][0]["values"]
    assert values[ORDER[1]] == "SliceThickness is 5"
    assert values[ORDER[0]].startswith('kernel_class is "soft" (')
    assert told["candidates"][2]["values"][ORDER[1]] == "SliceThickness is missing"
    assert "Miller" not in str(told)


def test_a_set_that_stops_at_the_first_match_leaves_only_the_rest_to_choose_from() -> None:
    first = RoutingRule(name="sharp", when='kernel_class == "sharp"', package="p", position=1)
    rule = RoutingRule(name="best", when='Modality == "CT"', package="p", position=2, prefer=ORDER)
    study = [THIN_SOFT, THIN_SHARP]

    assert candidates_of(rule, [first, rule], Match.FIRST, study) == [THIN_SOFT]
    assert candidates_of(rule, [first, rule], Match.ALL, study) == study


def brain(**more: Any) -> RoutingRule:
    return RoutingRule(**({"name": "brain", "when": 'mr_sequence == "T1"', "package": "p", "inputs": (FLAIR,)} | more))


def test_roles_are_filled_from_the_study_and_no_series_is_given_twice() -> None:
    t1, flair, other = mr("t1", "t1_mprage"), mr("f", "t2_flair", SeriesNumber=3), mr("g", "flair", SeriesNumber=2)
    any_mr = Role(name="any", expression='Modality == "MR"', prefer=("least SeriesNumber",))
    study = [t1, flair, other]

    found = select(brain(inputs=(FLAIR, any_mr)), [t1], study, [])

    assert [p.winner.series_uid if p.winner else None for p in (found.primary, *found.inputs)] == ["t1", "g", "f"]
    assert found.missing == ()


def test_a_role_without_a_series_is_missing_and_the_floor_holds_for_roles() -> None:
    t1 = mr("t1", "t1_mprage")
    scout = mr("s", "flair localizer", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])

    assert select(brain(), [t1], [t1, scout], []).missing == ("flair",)


def test_a_prior_is_the_latest_earlier_study_and_never_a_later_or_undated_one() -> None:
    now = mr("now", "t1", StudyDate="20260301", StudyTime="120000")
    others = [
        mr("undated", "t1", study="u"),
        mr("old", "t1", study="2", StudyDate="20240101"),
        mr("newer", "t1", study="3", StudyDate="20260101"),
        mr("same-day-before", "t1", study="4", StudyDate="20260301", StudyTime="0900"),
        mr("same-day-no-time", "t1", study="5", StudyDate="20260301"),
        mr("later", "t1", study="6", StudyDate="20260302"),
    ]

    [found] = select(brain(inputs=(PRIOR,)), [now], [now], others).inputs

    assert [r.candidate.series_uid for r in found.ranked] == ["same-day-before", "newer", "old"]
    assert found.why.endswith("it has the latest study")


def test_preferences_of_a_prior_come_before_its_date() -> None:
    now = mr("now", "t1", StudyDate="20260301")
    others = [
        mr("thick", "t1", study="2", StudyDate="20260101", SliceThickness=5.0),
        mr("thin", "t1", study="3", StudyDate="20240101", SliceThickness=1.0),
    ]
    role = Role(name="prior", expression="true", prefer=("least SliceThickness",), origin=Origin.PRIOR)

    [found] = select(brain(inputs=(role,)), [now], [now], others).inputs

    assert found.winner is others[1]


def test_a_preference_that_does_not_compile_is_left_out() -> None:
    assert pick("", [THICK_SOFT, THIN_SOFT], ("nonsense here", "least SliceThickness")).winner is THIN_SOFT


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from([None, 1.0, 2.0]), st.integers(1, 3), st.sampled_from([None, 1, 2])),
        min_size=1, max_size=5,
    ),
    st.randoms(),
)  # fmt: skip
def test_the_order_is_total_and_does_not_depend_on_arrival(
    given_series: list[tuple[float | None, int, int | None]], chance: Any
) -> None:
    made = [
        series(
            str(n),
            images,
            **({"SliceThickness": t} if t is not None else {}),
            **({"SeriesNumber": s} if s is not None else {}),
        )
        for n, (t, images, s) in enumerate(given_series)
    ]
    mixed = list(made)
    chance.shuffle(mixed)

    one, two = pick("", made, ORDER), pick("", mixed, ORDER)

    assert [r.candidate.series_uid for r in one.ranked] == [r.candidate.series_uid for r in two.ranked]
    assert one.why == two.why
