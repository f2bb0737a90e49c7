"""The CHOOSE stage: waits while better may come, takes one series of a study, says why, and survives what happens."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from dicom_node.route.chooser import choose
from dicom_node.route.router import route
from dicom_node.worklist.priority import of_order
from storage import views
from storage.facts.routing import Choice, Late, Match, Origin, Outcome, RegisteredPackage, Role, Rule, RuleSet
from storage.facts.study import Urgency
from storage.facts.task import Kind, Next, Task
from storage.ledger import Ledger
from storage.stage import Stage
from tests.dicom_node.route.making import MR, NODE
from tests.storage.series import arrive

STUDY = "1.2"
LONG_AGO = 1_700_000_000.0
THIN = {"KVP": 120.0, "SliceThickness": 1.0, "ConvolutionKernel": "STANDARD"}
THICK = THIN | {"SliceThickness": 5.0}
SHARP = THIN | {"ConvolutionKernel": "LUNG"}
T1 = {"Modality": "MR", "SOPClassUID": MR, "SeriesDescription": "t1_mprage"}
FLAIR = {"Modality": "MR", "SOPClassUID": MR, "SeriesDescription": "t2_flair"}
WITH_FLAIR = (Role(name="flair", expression='mr_sequence == "FLAIR"'),)


def rule(name: str = "best", when: str = 'Modality == "CT"', **more: Any) -> Rule:
    given = {"prefer": ('kernel_class != "sharp"', "least SliceThickness"), "settle": 0.0, "wait": 60.0} | more
    return Rule(**({"name": name, "expression": when, "package": "lung", "destinations": ("pacs",)} | given))


def brain(**more: Any) -> Rule:
    return rule("brain", 'mr_sequence == "T1"', **({"prefer": (), "inputs": WITH_FLAIR} | more))


def enact(ledger: Ledger, *rules: Rule, match: Match = Match.ALL) -> None:
    with ledger.begin("test") as tx:
        tx.catalogue.register_package(
            RegisteredPackage(package="lung", version="1.0", digest="d", title="", manifest={})
        )
        tx.catalogue.enact(RuleSet(match=match).of(list(rules)), "why")


def stage(ledger: Ledger) -> Stage:
    handlers = {Kind.ROUTE: route(ledger, NODE, of_order), Kind.CHOOSE: choose(ledger, NODE, of_order)}
    return Stage(ledger=ledger, handlers=handlers, actor="test", stop=threading.Event())


def work(ledger: Ledger) -> None:
    """Everything that is due now."""
    steps = stage(ledger)
    while steps.step():
        pass


def receive(ledger: Ledger, number: int, header: dict[str, Any], *, study: str = STUDY, **more: Any) -> str:
    """A series arrives, becomes complete and is to be routed."""
    uid = f"{study}.{number}"
    with ledger.begin("test") as tx:
        arrive(tx, uid, study, {"PatientID": "P1", "StudyDate": "20260301"} | header, **({"at": LONG_AGO} | more))
        series = tx.studies.series(uid)
        assert series is not None
        payload = {"revision": series.revision}
        tx.queue.enqueue(
            Next(kind=Kind.ROUTE, key=f"{uid}/{series.revision}", series_uid=uid, study_uid=study, payload=payload)
        )
    return uid


def runs(ledger: Ledger) -> list[Task]:
    """The runs that were asked for since the last question."""
    found = []
    with ledger.begin("test") as tx:
        while (task := tx.queue.claim([Kind.INFER], 60.0)) is not None:
            found.append(task)
    return found


def choices(ledger: Ledger, study: str = STUDY) -> list[Choice]:
    with ledger.begin_reading() as tx:
        return tx.catalogue.choices(study)


def waiting(ledger: Ledger) -> list[views.TaskView]:
    with ledger.read() as session:
        return [t for t in views.tasks(session) if t.kind == Kind.CHOOSE.value and t.state == "waiting"]


def test_one_series_of_the_study_is_run_and_the_choice_says_why(ledger: Ledger) -> None:
    enact(ledger, rule(settle=0.0))
    for number, header in enumerate((THICK, SHARP, THIN)):
        receive(ledger, number, header)
    work(ledger)

    [run] = runs(ledger)
    [choice] = choices(ledger)
    assert run.series_uid == choice.series_uid == f"{STUDY}.2"
    assert run.key == choice.run == f"{STUDY}.2/1/lung@1.0/best/1"
    assert dict(run.payload) == {
        "revision": 1, "instances": 1, "package": "lung", "version": "1.0", "rules": ["best"], "rules_version": 1,
        "destinations": ["pacs"], "shadow": False, "inputs": {}, "missing": {},
    }  # fmt: skip
    [told] = choice.explanation["picks"]
    assert [c["series"] for c in told["candidates"]] == [f"{STUDY}.2", f"{STUDY}.0", f"{STUDY}.1"]
    assert "`least SliceThickness` decides" in choice.explanation["why"]
    with ledger.read() as session:
        [row] = [r for r in views.trail(session, STUDY) if r.action == "series chosen"]
    assert row.details["explanation"]["picks"] == [told]
    assert "P1" not in str(row.details), "no patient in the trail"


def test_rules_without_a_choice_do_not_wait_for_one(ledger: Ledger) -> None:
    enact(ledger, rule(settle=3600.0), rule("all", prefer=(), settle=30.0))
    receive(ledger, 0, THICK, at=time.time())
    work(ledger)

    assert [r.payload["rules"] for r in runs(ledger)] == [["all"]]
    [task] = waiting(ledger)
    assert task.reason == "3600 s without a new object show that no other series follows"


def test_it_waits_while_another_series_arrives_and_no_longer(ledger: Ledger) -> None:
    enact(ledger, rule())
    with ledger.begin("test") as tx:
        tx.queue.enqueue(
            Next(kind=Kind.ASSEMBLE, key="open", study_uid=STUDY, series_uid=f"{STUDY}.1", not_before=time.time() + 99)
        )
    receive(ledger, 0, THICK)
    work(ledger)
    assert runs(ledger) == []
    assert waiting(ledger)[0].reason == "1 series of the study still arrive"

    with ledger.begin("test") as tx:
        tx.queue.hasten(Kind.ASSEMBLE, "open", 0.0)
    with ledger.begin("test") as tx:
        task = tx.queue.claim([Kind.ASSEMBLE], 60.0)
        assert task is not None
        tx.queue.finish(task)
    receive(ledger, 1, THIN)
    work(ledger)

    assert [r.series_uid for r in runs(ledger)] == [f"{STUDY}.1"]


def test_an_open_association_may_bring_more(ledger: Ledger) -> None:
    enact(ledger, rule())
    receive(ledger, 0, THICK)
    with ledger.begin("test") as tx:
        tx.studies.open_association("a", "CT1", "NODE", "127.0.0.1", LONG_AGO)
    _carry(ledger, "a", f"{STUDY}.0")
    work(ledger)
    assert runs(ledger) == []
    assert waiting(ledger)[0].reason == "the association that brought the study is still open"

    with ledger.begin("test") as tx:
        tx.studies.close_association("a", "released")
        tx.queue.hasten_all(Kind.CHOOSE)
    work(ledger)
    assert len(runs(ledger)) == 1


def _carry(ledger: Ledger, association: str, series: str) -> None:
    from sqlalchemy.orm import Session

    from storage.tables import AssociationSeriesRow

    with Session(ledger._engine) as session, session.begin():
        session.add(AssociationSeriesRow(association_id=association, series_uid=series))


def test_the_wait_ends_whatever_still_arrives(ledger: Ledger) -> None:
    enact(ledger, rule(wait=0.05))
    with ledger.begin("test") as tx:
        tx.queue.enqueue(
            Next(kind=Kind.ASSEMBLE, key="open", study_uid=STUDY, series_uid=f"{STUDY}.1", not_before=time.time() + 99)
        )
    receive(ledger, 0, THICK)
    work(ledger)
    time.sleep(0.06)
    work(ledger)

    assert [r.series_uid for r in runs(ledger)] == [f"{STUDY}.0"]
    assert choices(ledger)[0].explanation["still_arriving"] == 1


def test_a_rule_with_a_role_takes_it_along(ledger: Ledger) -> None:
    enact(ledger, brain())
    receive(ledger, 0, T1, count=3)
    work(ledger)
    assert runs(ledger) == []
    assert waiting(ledger)[0].reason == "no series yet for flair"

    receive(ledger, 1, FLAIR, count=4)
    work(ledger)

    [run] = runs(ledger)
    assert run.series_uid == f"{STUDY}.0"
    assert run.payload["inputs"] == {"flair": {"series": f"{STUDY}.1", "study": STUDY, "revision": 1, "instances": 4}}
    assert run.payload["missing"] == {}


def test_a_role_that_nobody_fills_goes_along_as_missing(ledger: Ledger) -> None:
    enact(ledger, brain(wait=0.05))
    receive(ledger, 0, T1)
    work(ledger)
    time.sleep(0.06)
    work(ledger)

    [run] = runs(ledger)
    assert run.payload["inputs"] == {}
    assert set(run.payload["missing"]) == {"flair"}
    assert run.payload["missing"]["flair"].startswith("no series of that kind was there after ")
    assert choices(ledger)[0].explanation["missing"] == ["flair"]


def test_a_role_alone_begins_nothing(ledger: Ledger) -> None:
    enact(ledger, brain())
    receive(ledger, 1, FLAIR)
    work(ledger)

    assert waiting(ledger) == []
    assert choices(ledger) == []


def test_a_better_series_that_comes_late_makes_a_new_run_that_knows_what_it_replaces(ledger: Ledger) -> None:
    enact(ledger, rule())
    receive(ledger, 0, THICK)
    work(ledger)
    [first] = runs(ledger)
    receive(ledger, 1, THIN)
    work(ledger)
    [second] = runs(ledger)

    assert (first.series_uid, second.series_uid) == (f"{STUDY}.0", f"{STUDY}.1")
    assert second.key == f"{STUDY}.1/1/lung@1.0/best/2"
    assert choices(ledger)[1].explanation["replaces"] == [first.key]


def test_what_is_no_better_changes_nothing_and_says_so(ledger: Ledger) -> None:
    enact(ledger, rule())
    receive(ledger, 0, THIN)
    work(ledger)
    runs(ledger)
    receive(ledger, 1, THICK)
    work(ledger)

    assert runs(ledger) == []
    assert [c.outcome for c in choices(ledger)] == [Outcome.CHOSEN, Outcome.STANDS]
    assert choices(ledger)[1].explanation["why"] == (
        "the same series would be taken as before: the earlier result stands"
    )


def test_a_rule_that_ignores_what_is_late_keeps_its_choice(ledger: Ledger) -> None:
    enact(ledger, rule(late=Late.IGNORE))
    receive(ledger, 0, THICK)
    work(ledger)
    runs(ledger)
    receive(ledger, 1, THIN)
    work(ledger)

    assert runs(ledger) == []
    assert choices(ledger)[1].explanation["why"] == (
        "it came late, and the rule ignores what is late: the earlier choice stands"
    )


def test_late_slices_of_the_chosen_series_run_it_again(ledger: Ledger) -> None:
    enact(ledger, rule())
    receive(ledger, 0, THIN, count=2)
    work(ledger)
    [first] = runs(ledger)
    receive(ledger, 0, THIN, count=5)
    work(ledger)
    [second] = runs(ledger)

    assert [(r.payload["revision"], r.payload["instances"]) for r in (first, second)] == [(1, 2), (2, 5)]


def test_late_slices_before_the_choice_are_no_reason_to_leave_a_series_out(ledger: Ledger) -> None:
    enact(ledger, rule(late=Late.IGNORE, settle=3600.0))
    receive(ledger, 0, THIN, count=2, at=time.time())
    work(ledger)
    receive(ledger, 0, THIN, count=5, at=time.time())
    work(ledger)
    assert len(waiting(ledger)) == 1

    with ledger.begin_reading() as tx:
        assert [v.matched for v, _ in tx.catalogue.decisions(f"{STUDY}.0")] == [True]


def test_a_series_that_is_routed_while_the_choice_is_made_is_not_lost(ledger: Ledger) -> None:
    enact(ledger, rule())
    receive(ledger, 0, THICK)
    assert stage(ledger).step()  # routes
    with ledger.begin("test") as tx:
        busy = tx.queue.claim([Kind.CHOOSE], 60.0)
    assert busy is not None
    done = choose(ledger, NODE, of_order).work(busy)
    receive(ledger, 1, THIN)
    work(ledger)
    with ledger.begin("test") as tx:
        done.record(tx)  # type: ignore[union-attr, misc]
        tx.queue.finish(busy, done.follow)  # type: ignore[union-attr]

    assert {r.series_uid for r in runs(ledger)} >= {f"{STUDY}.1"}


def test_a_process_that_dies_while_it_chooses_leaves_one_run(ledger: Ledger) -> None:
    enact(ledger, rule())
    receive(ledger, 0, THIN)
    assert stage(ledger).step()  # routes
    with ledger.begin("test") as tx:
        dead = tx.queue.claim([Kind.CHOOSE], -1.0)  # its lease has run out: it was killed
    assert dead is not None
    choose(ledger, NODE, of_order).work(dead)  # it had worked, but recorded nothing
    work(ledger)

    assert len(runs(ledger)) == 1
    assert len(choices(ledger)) == 1


def test_the_version_that_routed_the_latest_series_decides(ledger: Ledger) -> None:
    enact(ledger, rule(settle=3600.0))
    receive(ledger, 0, THICK, at=time.time())
    work(ledger)
    enact(ledger, rule(prefer=("greatest SliceThickness",), destinations=("viewer",)))
    receive(ledger, 1, THIN)
    work(ledger)

    [run] = runs(ledger)
    assert (run.series_uid, run.payload["rules_version"]) == (f"{STUDY}.0", 2)
    assert run.payload["destinations"] == ["viewer"]


def test_a_prior_is_found_by_patient_and_a_namesake_of_another_issuer_is_none(ledger: Ledger) -> None:
    prior = (Role(name="prior", expression='mr_sequence == "T1"', origin=Origin.PRIOR),)
    enact(ledger, brain(inputs=prior, wait=0.0), rule("none", "false", prefer=()))
    receive(ledger, 0, T1 | {"StudyDate": "20250101"}, study="1.3")
    receive(ledger, 0, T1 | {"StudyDate": "20250601", "IssuerOfPatientID": "ELSEWHERE"}, study="1.4")
    receive(ledger, 0, T1 | {"StudyDate": "20250601", "PatientID": "P2"}, study="1.5")
    work(ledger)
    runs(ledger)
    receive(ledger, 0, T1)
    work(ledger)

    [run] = runs(ledger)
    assert run.payload["inputs"]["prior"]["series"] == "1.3.0"
    assert run.payload["inputs"]["prior"]["study"] == "1.3"


def test_a_series_whose_files_are_gone_is_no_candidate(ledger: Ledger) -> None:
    prior = (Role(name="prior", expression='mr_sequence == "T1"', origin=Origin.PRIOR),)
    enact(ledger, brain(inputs=prior, wait=0.0))
    receive(ledger, 0, T1 | {"StudyDate": "20250101"}, study="1.3")
    work(ledger)
    runs(ledger)
    with ledger.begin("test") as tx:
        tx.studies.forget_files("1.3")
    receive(ledger, 0, T1)
    work(ledger)

    [run] = runs(ledger)
    assert set(run.payload["missing"]) == {"prior"}


def test_a_shadow_rule_chooses_and_delivers_nothing(ledger: Ledger) -> None:
    enact(ledger, rule(shadow=True, urgency=Urgency.STAT))
    receive(ledger, 0, THIN)
    work(ledger)

    [run] = runs(ledger)
    assert (run.payload["shadow"], run.payload["destinations"], run.urgency) == (True, [], Urgency.ROUTINE)


def test_an_order_makes_the_run_urgent(ledger: Ledger) -> None:
    enact(ledger, rule())
    receive(ledger, 0, THIN | {"RequestedProcedurePriority": "STAT"})
    work(ledger)

    assert [r.urgency for r in runs(ledger)] == [Urgency.STAT]


def test_looking_again_leaves_no_rows_in_the_trail(ledger: Ledger) -> None:
    enact(ledger, rule(settle=3600.0))
    receive(ledger, 0, THIN, at=time.time())
    work(ledger)
    with ledger.read() as session:
        before = len(views.trail(session))
    for _ in range(3):
        with ledger.begin("test") as tx:
            tx.queue.hasten_all(Kind.CHOOSE)
        work(ledger)

    with ledger.read() as session:
        assert len(views.trail(session)) == before


@pytest.mark.parametrize("header", [{"Modality": "SR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.22"}])
def test_what_the_floor_bars_is_no_candidate(ledger: Ledger, header: dict[str, Any]) -> None:
    enact(ledger, rule(when="true", prefer=("least SeriesNumber",)))
    receive(ledger, 0, header | {"SeriesNumber": 1})
    receive(ledger, 1, THIN | {"SeriesNumber": 2})
    work(ledger)

    assert [r.series_uid for r in runs(ledger)] == [f"{STUDY}.1"]


def test_it_works_on_either_database(any_ledger: Ledger) -> None:
    prior = (*WITH_FLAIR, Role(name="prior", expression="true", origin=Origin.PRIOR))
    enact(any_ledger, brain(inputs=prior, wait=0.0))
    receive(any_ledger, 0, T1 | {"StudyDate": "20250101"}, study="1.3")
    work(any_ledger)
    runs(any_ledger)
    receive(any_ledger, 1, FLAIR)
    receive(any_ledger, 0, T1)
    work(any_ledger)

    [run] = runs(any_ledger)
    assert set(run.payload["inputs"]) == {"flair", "prior"}
    with any_ledger.begin_reading() as tx:
        assert tx.catalogue.experience() == {}
