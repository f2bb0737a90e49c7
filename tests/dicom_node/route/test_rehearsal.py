"""Rehearsal: the fast way says what the explaining way says, and the numbers are those of the traffic."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.route.choice import Candidate, pick
from dicom_node.route.kept import derivation, facts_from, plain
from dicom_node.route.provenance import NodeIdentity
from dicom_node.route.rehearsal import Load, Rehearsal, rehearse
from dicom_node.route.replay import Replay
from dicom_node.route.router import routing_rule
from dicom_node.route.rules import evaluate
from storage.facts.routing import Experience, Match, Origin, RecordedSeries, Role, Rule, RuleSet
from storage.facts.study import UNREADABLE, Urgency
from tests.dicom_node.route.making import AXIAL, CT, MR, NODE, facts, stack


def rule(name: str, when: str, **more: Any) -> Rule:
    return Rule(**({"name": name, "expression": when, "package": "lung", "destinations": ("pacs",)} | more))


CONDITIONS = [
    'Modality == "CT"', 'Modality == "CT" && !is_derived', "true", "false", "not even a rule", "is_localizer",
    'Modality != "CT" && has(SliceThickness)', "SliceThickness <= 2 && number_of_frames >= 2", "is_derived || is_image",
    'ImageType == "LOCALIZER" || SliceThickness < 1', 'tag("0019,100A", "ACME") == 1', 'calling_ae in ["CT1", "CT2"]',
    'RequestAttributesSequence.ScheduledProcedureStepID == "1"', "size(ImageType) == 3",
]  # fmt: skip
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Modality": st.sampled_from(["CT", "MR", "SEG", "", 7]),
        "SOPClassUID": st.sampled_from([CT, MR, "1.2.840.10008.5.1.4.1.1.66.4", "1.2.3"]),
        "SliceThickness": st.sampled_from([0.5, 1, 1.0, "1.5", "thin", 3.0, True]),
        "ImageType": st.sampled_from([["ORIGINAL", "PRIMARY", "LOCALIZER"], ["DERIVED", "SECONDARY", "MPR"], "AXIAL"]),
        "ManufacturerModelName": st.sampled_from(["dicom-node", "x"]),
        "00190010": st.just("ACME"),
        "0019100A": st.sampled_from([1, "1", 1.0, [1, 2]]),
        "RequestAttributesSequence": st.sampled_from([[{"ScheduledProcedureStepID": "1"}], [{}], "no sequence"]),
    },
)
RULES = st.lists(
    st.tuples(st.sampled_from(CONDITIONS), st.booleans(), st.sampled_from([True, True, False])), max_size=6
)


def recorded(header: dict[str, Any], number: int = 0, at: float = 0.0, **more: Any) -> RecordedSeries:
    """A recorded series of three slices with its facts as the router keeps them."""
    slices = [header | each for each in stack([0.0, 1.0, 2.0], AXIAL)]
    return RecordedSeries(**({
        "series_uid": f"1.2.3.{number}", "study_uid": f"1.2.{number // 2}", "calling_ae": "CT1", "called_ae": "NODE",
        "revision": 1, "at": at, "header": header, "derivation": "", "facts": plain(facts(header, slices)),
    } | more))  # fmt: skip


@settings(deadline=None)
@given(given_rules=RULES, headers=st.lists(HEADERS, min_size=1, max_size=4), first=st.booleans())
def test_the_fast_way_says_what_the_explaining_way_says(
    given_rules: list[tuple[str, bool, bool]], headers: list[dict[str, Any]], first: bool
) -> None:
    match = Match.FIRST if first else Match.ALL
    rules = RuleSet(match=match).of(
        [rule(f"r{n}", when, shadow=shadow, enabled=on) for n, (when, shadow, on) in enumerate(given_rules)]
    )
    replay = Replay([rules, RuleSet()])

    for header in headers:
        series = facts_from(recorded(header))
        explained = [d.rule.name for d in evaluate([routing_rule(r) for r in rules.rules], series, match) if d.matched]
        assert [[r.name for r in found] for found in replay.matches(series)] == [explained, []]


def test_facts_that_were_kept_answer_as_fresh_ones() -> None:
    header = {"Modality": "CT", "SOPClassUID": CT, "KVP": 120.0, "SeriesDescription": "Thorax"}
    series = recorded(header)
    known = facts_from(series)

    slices = [header | each for each in stack([0.0, 1.0, 2.0], AXIAL)]
    fresh = facts(header, slices)
    assert {name: known.derived[name] for name in known.derived} == dict(fresh.derived)
    assert len(known.derived) == len(fresh.derived)


def test_facts_of_another_shape_are_missing_not_fatal() -> None:
    broken = recorded({}, facts={"is_mosaic": 3, "orientation": ["AXIAL"], "is_derived": [True, "said"]})

    asked = Replay([RuleSet().put(rule("a", "is_mosaic || orientation == 'AXIAL'"))])
    assert asked.matches(facts_from(broken)) == [[]]
    assert facts_from(broken).derived["is_derived"].value is True


def test_another_way_of_knowing_its_own_results_is_another_derivation() -> None:
    assert derivation(NODE) == derivation(NODE)
    assert derivation(NODE) != derivation(NodeIdentity())


def rehearsed(live: RuleSet, proposed: RuleSet, *series: RecordedSeries, **known: Experience) -> Rehearsal:
    return rehearse(((each, facts_from(each)) for each in series), live, proposed, known)


def _traffic() -> list[RecordedSeries]:
    """Six series of three studies, an hour apart: thin and thick by turns, the last one unreadable."""
    found = []
    for n in range(6):
        header = {"Modality": "CT", "SOPClassUID": CT, "SliceThickness": 1.0 if n % 2 else 5.0}
        header |= {UNREADABLE: "cut off"} if n == 5 else {}
        found.append(recorded(header, n, at=3600.0 * (n // 2) + 1))
    return found


THIN, ALL = "SliceThickness <= 2", 'Modality == "CT"'


def test_what_a_change_gains_and_loses_is_counted_with_examples() -> None:
    live = RuleSet().put(rule("a", THIN)).put(rule("gone", ALL, package="brain"))
    proposed = RuleSet().put(rule("a", ALL))

    found = rehearsed(live, proposed, *_traffic())

    a, gone = found.rules["a"], found.rules["gone"]
    assert (a.before, a.after, a.gained, a.lost) == (2, 5, 3, 0)
    assert [e.series_uid for e in a.gained_examples] == ["1.2.3.0", "1.2.3.2", "1.2.3.4"]
    assert a.gained_examples[0].about == "CT, 3 images"
    assert (gone.before, gone.after, gone.lost, len(gone.lost_examples)) == (5, 0, 5, 3)
    assert (found.series, found.studies) == (6, 3)
    assert (found.unmatched_before, found.unmatched_after) == (1, 1)
    assert not found.changes_nothing
    assert rehearsed(live, live, *_traffic()).changes_nothing


def test_the_busiest_hour_counts_studies_not_series() -> None:
    found = rehearsed(RuleSet(), RuleSet().put(rule("a", ALL)), *_traffic())

    assert found.peak is not None
    assert (found.peak.at, found.peak.before, found.peak.after) == (0.0, 0, 1)
    assert (found.busiest_before, found.busiest_after) == (0, 1)


def test_minutes_and_alerts_come_from_measured_runs() -> None:
    lung = Experience(runs=10, seconds=30.0, results=8, raised=2)

    found = rehearsed(RuleSet().put(rule("a", THIN)), RuleSet().put(rule("a", ALL)), *_traffic(), lung=lung)
    assert found.loads["lung"] == Load(minutes_before=1.0, minutes_after=2.5, alerts_before=0.5, alerts_after=1.25)

    loud = RuleSet().put(rule("a", ALL, urgency=Urgency.HIGH))
    assert rehearsed(RuleSet(), loud, *_traffic()).loads["lung"] == Load(
        minutes_before=None, minutes_after=None, alerts_before=0.0, alerts_after=5.0
    )
    shadow = RuleSet().put(rule("a", ALL, urgency=Urgency.STAT, shadow=True))
    assert rehearsed(RuleSet(), shadow, *_traffic(), lung=lung).loads["lung"].alerts_after == 0.0


def test_another_version_of_a_model_is_another_model() -> None:
    found = rehearsed(RuleSet().put(rule("a", ALL)), RuleSet().put(rule("a", ALL, package="lung@2")), *_traffic())

    assert (found.models["lung"].lost, found.models["lung@2"].gained, found.rules["a"].gained) == (5, 5, 0)


def test_an_example_does_not_say_who_the_patient_is() -> None:
    header = {"Modality": "CT", "SOPClassUID": CT, "PatientName": "Miller^Ann", "SeriesDescription": "Thorax Miller"}
    found = rehearsed(RuleSet(), RuleSet().put(rule("a", ALL)), recorded(header))

    assert found.rules["a"].gained_examples[0].about == 'CT, 3 images, "Thorax …"'


def test_a_rule_that_chooses_gets_one_series_of_each_study_once_all_of_it_is_there() -> None:
    best = rule("a", ALL, prefer=("least SliceThickness",))

    found = rehearsed(RuleSet().put(rule("a", ALL)), RuleSet().put(best), *_traffic())

    a = found.rules["a"]
    assert (a.before, a.after, a.lost) == (5, 3, 2)
    assert [e.series_uid for e in a.lost_examples] == ["1.2.3.0", "1.2.3.2"], "the thick ones"
    assert (found.unmatched_before, found.unmatched_after) == (1, 3)
    assert (found.choices["a"].studies, found.choices["a"].candidates) == (3, 5)
    assert rehearsed(RuleSet().put(best), RuleSet().put(best), *_traffic()).changes_nothing


def test_the_winner_of_a_rehearsal_is_the_winner_of_the_stage() -> None:
    series = [
        recorded({"Modality": "CT", "SOPClassUID": CT, "SliceThickness": t, "SeriesNumber": n}, n, study_uid="1")
        for n, t in enumerate((2.0, 1.0, None, 1.0))
    ]
    lowest = rule("a", ALL, prefer=("least SliceThickness",))

    found = rehearsed(RuleSet(), RuleSet().put(lowest), *series)
    chosen = pick("", [_candidate(each) for each in series], lowest.prefer)

    [won] = found.rules["a"].gained_examples
    assert chosen.winner is not None
    assert won.series_uid == chosen.winner.series_uid == "1.2.3.1"


def _candidate(each: RecordedSeries) -> Candidate:
    return Candidate(series_uid=each.series_uid, study_uid=each.study_uid, facts=facts_from(each), about="")


def test_what_other_rules_do_with_the_candidates_stays_as_it_is() -> None:
    best = rule("a", ALL, prefer=("least SliceThickness",), package="one")
    both = RuleSet().put(best).put(rule("b", ALL, package="two"))

    found = rehearsed(RuleSet().put(rule("b", ALL, package="two")), both, *_traffic())

    assert (found.rules["b"].before, found.rules["b"].after) == (5, 5)
    assert (found.models["one"].after, found.models["two"].after) == (3, 5)


def test_studies_without_a_series_for_a_role_are_counted() -> None:
    thick = Role(name="thick", expression="SliceThickness > 2")
    best = rule("a", THIN, inputs=(thick,))

    found = rehearsed(RuleSet(), RuleSet().put(best), *_traffic(), recorded(_traffic()[1].header, 9, at=9000.0))

    assert found.choices["a"].missing == {"thick": 1}


@pytest.mark.parametrize(
    ("earlier", "there"),
    [
        ({"PatientID": "P", "StudyDate": "20260101"}, True),
        ({"PatientID": "P", "StudyDate": "20260310", "StudyTime": "0800"}, True),
        ({"PatientID": "P", "StudyDate": "20260310"}, False),  # the same day, and no time to tell
        ({"PatientID": "P", "StudyDate": "20260311"}, False),  # later
        ({"PatientID": "P"}, False),
        ({"PatientID": "P", "IssuerOfPatientID": "ELSEWHERE", "StudyDate": "20260101"}, False),
        ({"StudyDate": "20260101"}, False),
        ({"PatientID": "P", "StudyDate": "20260101", "Modality": "MR"}, False),  # it does not match the role
    ],
)
def test_earlier_studies_are_looked_for_in_the_recorded_time(earlier: dict[str, Any], there: bool) -> None:
    thin = {"Modality": "CT", "SOPClassUID": CT, "SliceThickness": 1.0}
    now = recorded(thin | {"PatientID": "P", "StudyDate": "20260310", "StudyTime": "101500"}, 0, at=2.0)
    then = recorded({"Modality": "CT", "SOPClassUID": CT, "SliceThickness": 5.0} | earlier, 8, at=1.0)
    prior = Role(name="prior", expression='Modality == "CT"', origin=Origin.PRIOR)
    rules = RuleSet().put(rule("a", "SliceThickness < 2", inputs=(prior,)))

    for traffic in ((then, now), (now, then)):
        found = rehearsed(RuleSet(), rules, *traffic)
        assert found.choices["a"].studies == 1
        assert found.choices["a"].missing == ({} if there else {"prior": 1})
