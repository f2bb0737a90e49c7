"""The ROUTE stage: the version in force decides, and what it decided goes along with the run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from dicom_node.route.kept import derivation
from dicom_node.route.router import combine, route, routing_rule
from dicom_node.route.rules import evaluate
from dicom_node.worklist.priority import of_order
from storage.facts.errors import Transient
from storage.facts.routing import Late, Match, RegisteredPackage, Rule, RuleSet
from storage.facts.study import Urgency
from storage.facts.task import Kind, Next, Task
from storage.ledger import Ledger
from storage.stage import Stage
from tests.dicom_node.route.making import CT, NODE, facts
from tests.storage.series import arrive

PACKAGES = [RegisteredPackage(package="lung", version=v, digest=v, title="", manifest={}) for v in ("1.0", "2.0")]
SERIES, STUDY = "1.2.3", "1.2"


def rule(name: str, when: str = 'Modality == "CT"', **more: Any) -> Rule:
    return Rule(**({"name": name, "expression": when, "package": "lung", "destinations": ("pacs",)} | more))


def enact(ledger: Ledger, *rules: Rule, match: Match = Match.ALL) -> None:
    with ledger.begin("test") as tx:
        for package in PACKAGES:
            if tx.catalogue.register_package(package) and package.version == "2.0":
                tx.catalogue.promote("lung", "2.0", "newer", {}, without_self_test="tests")
        tx.catalogue.enact(RuleSet(match=match).of(list(rules)), "why")


def routed(ledger: Ledger, header: dict[str, Any] | None = None, revision: int = 1) -> list[Task]:
    """Let a series of three slices become complete and be routed; the runs that are asked for."""
    with ledger.begin("test") as tx:
        arrive(tx, SERIES, STUDY, {"KVP": 120.0} | (header or {}), count=3)
        tx.queue.enqueue(
            Next(
                kind=Kind.ROUTE, key=f"{SERIES}/{revision}", series_uid=SERIES, study_uid=STUDY,
                payload={"revision": revision},
            )
        )  # fmt: skip
    Stage(
        ledger=ledger, handlers={Kind.ROUTE: route(ledger, NODE, of_order)}, actor="test", stop=threading.Event()
    ).step()
    return _claimed(ledger)


def _claimed(ledger: Ledger) -> list[Task]:
    found = []
    with ledger.begin("test") as tx:
        while (task := tx.queue.claim([Kind.INFER], 60.0)) is not None:
            found.append(task)
    return found


def test_a_run_carries_the_version_of_the_rules_and_all_that_they_wanted(ledger: Ledger) -> None:
    enact(ledger, rule("old"))
    enact(ledger, rule("thick", urgency=Urgency.HIGH), rule("thin", destinations=("viewer",)))

    [run] = routed(ledger)

    assert dict(run.payload) == {
        "revision": 1, "instances": 3, "package": "lung", "version": "2.0", "rules": ["thick", "thin"],
        "rules_version": 2, "destinations": ["pacs", "viewer"], "shadow": False,
    }  # fmt: skip
    assert run.urgency is Urgency.HIGH


def test_a_change_leaves_alone_what_is_under_way(ledger: Ledger) -> None:
    enact(ledger, rule("a", package="lung@1.0"))
    with ledger.begin("test") as tx:
        arrive(tx, SERIES, STUDY, count=3)
    runs = routed(ledger)
    enact(ledger, rule("b", destinations=("elsewhere",)))

    with ledger.begin_reading() as tx:
        assert [(v.rule, version) for v, version in tx.catalogue.decisions(SERIES)] == [("a", 1)]
    assert [(r.payload["version"], r.payload["destinations"]) for r in runs] == [("1.0", ["pacs"])]


def test_the_facts_are_kept_with_the_series(ledger: Ledger) -> None:
    enact(ledger, rule("a"))
    routed(ledger)

    with ledger.begin_reading() as tx:
        [recorded] = tx.catalogue.recorded(0.0)
    assert recorded.derivation == derivation(NODE)
    assert recorded.facts["slice_spacing_mm"] == [1.0, "from the positions of 3 slices"]


def test_where_the_first_match_wins_the_others_say_so(ledger: Ledger) -> None:
    enact(ledger, rule("watch", shadow=True), rule("a"), rule("b"), rule("c", shadow=True), match=Match.FIRST)
    [run] = routed(ledger)

    assert run.payload["rules"] == ["watch", "a"]
    with ledger.begin_reading() as tx:
        told = {v.rule: (v.matched, v.explanation["why"]) for v, _ in tx.catalogue.decisions(SERIES)}
    why = "the condition holds, but rule a comes first and the set stops at the first match"
    assert told["b"] == told["c"] == (False, why)
    assert told["watch"][0]
    assert told["a"][0]


def test_a_run_that_only_shadow_rules_want_is_a_shadow_and_overtakes_nothing(ledger: Ledger) -> None:
    enact(ledger, rule("watch", shadow=True, urgency=Urgency.STAT))
    [run] = routed(ledger, {"RequestedProcedurePriority": "STAT"})

    assert (run.payload["shadow"], run.payload["destinations"], run.urgency) == (True, [], Urgency.ROUTINE)
    with ledger.begin_reading() as tx:
        assert [r.series_uid for r in tx.catalogue.recorded(0.0, unmatched=True)] == [SERIES], "nobody gets a result"


def test_a_shadow_rule_adds_nothing_to_a_run_that_another_wants() -> None:
    rules = [rule("watch", shadow=True, urgency=Urgency.STAT, destinations=("trial",)), rule("real")]
    [run] = combined(rules)

    assert (run.shadow, run.destinations, run.urgency, run.rules) == (
        False,
        ("pacs",),
        Urgency.ROUTINE,
        ("watch", "real"),
    )


def combined(rules: Sequence[Rule]) -> list[Any]:
    placed = RuleSet().of(list(rules)).rules
    found = evaluate(
        [routing_rule(each) for each in placed], facts({"Modality": "CT", "SOPClassUID": CT, "KVP": 120.0})
    )
    return list(combine(found, PACKAGES))


def test_a_shadow_rule_waits_for_no_package_but_others_do() -> None:
    assert combined([rule("watch", package="not-there", shadow=True)]) == []
    with pytest.raises(Transient, match="rule 'real' asks for package not-there, which no worker has registered"):
        combined([rule("real", package="not-there")])


def test_late_objects_run_again_or_not_as_the_rule_says(ledger: Ledger) -> None:
    enact(ledger, rule("again"), rule("once", package="lung@1.0", late=Late.IGNORE))

    assert [r.payload["version"] for r in routed(ledger)] == ["2.0", "1.0"]
    assert [r.payload["version"] for r in routed(ledger, revision=2)] == ["2.0"]
    with ledger.begin_reading() as tx:
        told = {v.rule: v.explanation["why"] for v, _ in tx.catalogue.decisions(SERIES)}
    assert told["once"] == "the condition holds, but it came late, and the rule ignores late objects"
