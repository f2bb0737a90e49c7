"""A rehearsal of recorded traffic takes the series that the stages took of it, rule by rule and role by role."""

from __future__ import annotations

import random
from typing import Any

import pytest

from dicom_node.route.kept import facts_from
from dicom_node.route.rehearsal import Rehearsal, rehearse
from storage.facts.routing import Match, Origin, Outcome, RegisteredPackage, Role, Rule, RuleSet
from storage.facts.study import Urgency
from storage.ledger import Ledger
from tests.dicom_node.route.making import CT, MR
from tests.dicom_node.route.test_chooser import receive, runs, work

CONDITIONS = (
    'Modality == "CT"', 'Modality == "MR"', "SliceThickness <= 2", "SliceThickness > 1 || is_mosaic",
    'mr_sequence == "T1"', 'kernel_class != "sharp"', "number_of_frames >= 2", "has(ImageType)",
    'SeriesDescription contains "flair"',
)  # fmt: skip
PREFERENCES = (
    "least SliceThickness", "greatest number_of_frames", 'kernel_class != "sharp"', "SliceThickness <= 2",
    "greatest SeriesNumber", "no such thing",
)  # fmt: skip


def a_header(draw: random.Random) -> dict[str, Any]:
    modality = draw.choice(["CT", "CT", "MR", "MR", "SR"])
    header: dict[str, Any] = {"Modality": modality, "SOPClassUID": {"CT": CT, "MR": MR}.get(modality, "1.2.3")}
    if draw.random() < 0.8:
        header["SliceThickness"] = draw.choice([1.0, 1.0, 2.0, 5.0, "thin"])
    if draw.random() < 0.7:
        header["SeriesNumber"] = draw.choice([1, 1, 2, 3, None])
    if draw.random() < 0.5:
        header["ConvolutionKernel"] = draw.choice(["STANDARD", "LUNG", "B30f"])
    if draw.random() < 0.7:
        header["SeriesDescription"] = draw.choice(["t1_mprage", "t2_flair", "localizer", "Thorax"])
    if draw.random() < 0.3:
        header["ImageType"] = draw.choice([["ORIGINAL", "PRIMARY"], ["DERIVED", "SECONDARY"]])
    return header


def some_rules(draw: random.Random) -> RuleSet:
    rules = []
    for number in range(draw.randint(1, 5)):
        roles = tuple(
            Role(
                name=name, expression=draw.choice(CONDITIONS), prefer=_some(draw, PREFERENCES),
                origin=draw.choice([Origin.STUDY, Origin.STUDY, Origin.PRIOR]),
            )
            for name in ("one", "two")[: draw.choice([0, 0, 1, 2])]
        )  # fmt: skip
        rules.append(
            Rule(
                name=f"rule{number}", expression=draw.choice(CONDITIONS), package=f"package{number}",
                destinations=("pacs",), prefer=_some(draw, PREFERENCES), inputs=roles, wait=0.0, settle=0.0,
                enabled=draw.random() < 0.9, shadow=draw.random() < 0.2,
                urgency=draw.choice([Urgency.ROUTINE, Urgency.HIGH]),
            )
        )  # fmt: skip
    return RuleSet(match=draw.choice([Match.ALL, Match.FIRST])).of(rules)


def _some(draw: random.Random, lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(draw.sample(lines, draw.choice([0, 1, 2])))


def traffic(ledger: Ledger, draw: random.Random) -> list[str]:
    """Studies of up to six series; some of them late, and some of the same patient on other days."""
    studies = [f"1.{number}" for number in range(1, 6)]
    for study in studies:
        day = {"PatientID": draw.choice(["P1", "P2"]), "StudyDate": f"2026030{draw.randint(1, 3)}",
               "StudyTime": draw.choice(["", "101500", "120000"])}  # fmt: skip
        for number in draw.sample(range(10), draw.randint(1, 6)):
            receive(ledger, number, a_header(draw) | day, study=study, count=draw.choice([1, 2, 2, 5]))
            if draw.random() < 0.3:
                work(ledger)
    work(ledger)
    return studies


def rehearsed(ledger: Ledger, rules: RuleSet, study: str, *, alone: bool = True) -> Rehearsal:
    """One study's traffic, or the whole in order of arrival."""
    with ledger.begin_reading() as tx:
        recorded = [(each, facts_from(each)) for each in tx.catalogue.recorded(0.0)]
    wanted = [each for each in recorded if not alone or each[0].study_uid == study]
    return rehearse(wanted, RuleSet(), rules, {})


@pytest.mark.parametrize("seed", range(12))
def test_what_is_rehearsed_is_what_was_decided(ledger: Ledger, seed: int) -> None:
    draw = random.Random(seed)
    rules = some_rules(draw)
    with ledger.begin("test") as tx:
        for rule in rules.rules:
            tx.catalogue.register_package(
                RegisteredPackage(package=rule.package, version="1.0", digest="d", title="", manifest={})
            )
        tx.catalogue.enact(rules, "why")
    studies = traffic(ledger, draw)
    asked = [(str(run.payload["rules"][0]), run.study_uid, run.series_uid) for run in runs(ledger)]

    for study in studies:
        found = rehearsed(ledger, rules, study)
        with ledger.begin_reading() as tx:
            choices = tx.catalogue.choices(study)
        for rule in rules.rules:
            change = found.rules[rule.name]
            if not rule.chooses:
                assert change.after == len({s for name, of, s in asked if (name, of) == (rule.name, study)})
                continue
            made = [one for one in choices if one.rule == rule.name and one.outcome is Outcome.CHOSEN]
            live = [made[-1].series_uid] if made else []
            assert [one.series_uid for one in change.gained_examples] == live, (study, rule)
            roles = {role.name for role in rule.inputs if role.origin is Origin.STUDY}
            missing = set(made[-1].explanation["missing"]) if made else set()
            assert set(found.choices[rule.name].missing) & roles == missing & roles, (study, rule)
