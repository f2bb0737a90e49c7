"""Rules are versions of a set: nothing is in force that was not applied, and every version says who, why and what."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from storage.catalogue import Catalogue
from storage.facts.errors import Misconfigured, Rejected
from storage.facts.routing import (
    Late,
    Match,
    Rule,
    RuleDraft,
    RuleSet,
    RuleVersion,
    Verdict,
    changes,
    set_document,
    set_of,
)
from storage.facts.study import Urgency
from storage.ledger import Ledger
from storage.views import trail
from tests.storage.series import arrive

ANN, BOB = "operator ann", "operator bob"


def rule(name: str, **more: Any) -> Rule:
    return Rule(name=name, expression='Modality == "CT"', package="lung", destinations=("pacs",), **more)


def draft(ledger: Ledger, actor: str, rules: RuleSet) -> RuleDraft | None:
    with ledger.begin(actor) as tx:
        return tx.catalogue.keep_draft(rules)


def live(ledger: Ledger) -> RuleVersion:
    with ledger.begin_reading() as tx:
        return tx.catalogue.live()


def apply(ledger: Ledger, actor: str, reason: str = "because") -> RuleVersion | RuleDraft:
    with ledger.begin(actor) as tx:
        return tx.catalogue.apply_draft(reason)


ONE, TWO = RuleSet().put(rule("a")), RuleSet().put(rule("a")).put(rule("b", urgency=Urgency.STAT))


def test_an_installation_starts_with_the_empty_version_nought(ledger: Ledger) -> None:
    assert (live(ledger).number, live(ledger).rules) == (0, RuleSet())


def test_a_draft_is_not_in_force_until_it_is_applied(ledger: Ledger) -> None:
    draft(ledger, ANN, ONE)
    assert live(ledger).number == 0

    applied = apply(ledger, BOB, "the lungs come")

    assert isinstance(applied, RuleVersion)
    assert live(ledger) == applied
    assert (applied.number, applied.author, applied.reason, applied.rules) == (1, BOB, "the lungs come", ONE)
    with ledger.begin_reading() as tx:
        assert tx.catalogue.draft() is None


def test_every_version_is_in_the_trail_with_author_reason_and_difference(ledger: Ledger) -> None:
    draft(ledger, ANN, ONE)
    apply(ledger, ANN, "first")
    draft(ledger, BOB, TWO.put(rule("a", enabled=False, late=Late.IGNORE, shadow=True)))
    apply(ledger, BOB, "second")

    with ledger.read() as session:
        rows = [row for row in trail(session) if row.action == "rules applied"]
    assert [(row.actor, row.details["number"], row.details["reason"]) for row in rows] == [
        (ANN, 1, "first"), (BOB, 2, "second"),
    ]  # fmt: skip
    assert list(rows[0].details["diff"]["added"]) == ["a"]
    assert rows[1].details["diff"]["changed"] == {
        "a": {"enabled": [True, False], "shadow": [False, True], "late": ["rerun", "ignore"]}
    }
    assert rows[1].details["diff"]["added"]["b"]["urgency"] == "STAT"
    assert ledger.verify().faults == ()


def test_versions_are_kept_as_they_were(ledger: Ledger) -> None:
    for rules in (ONE, TWO, RuleSet()):
        with ledger.begin(ANN) as tx:
            tx.catalogue.enact(rules, "why")

    with ledger.begin_reading() as tx:
        assert [v.rules for v in tx.catalogue.versions()] == [RuleSet(), TWO, ONE]
        assert tx.catalogue.version(2).rules == TWO
        with pytest.raises(Rejected, match="there is no version 9 of the rules: see `dicom-node rules history`"):
            tx.catalogue.version(9)


def test_rolling_back_again_goes_further_back_and_leaves_every_version_standing(ledger: Ledger) -> None:
    for rules in (ONE, TWO, RuleSet()):
        with ledger.begin(ANN) as tx:
            tx.catalogue.enact(rules, "why")

    with ledger.begin(BOB) as tx:
        first = tx.catalogue.rollback("wrong")
    with ledger.begin(BOB) as tx:
        second = tx.catalogue.rollback("more than that")
    with ledger.begin(BOB) as tx:
        third = tx.catalogue.rollback("no, that one", to=2)

    assert [(v.number, v.restores, v.rules) for v in (first, second, third)] == [(4, 2, TWO), (5, 1, ONE), (6, 2, TWO)]
    assert live(ledger) == third


def test_there_is_nothing_to_roll_back_to_what_is_in_force(ledger: Ledger) -> None:
    with ledger.begin(ANN) as tx:
        with pytest.raises(Rejected, match="there is nothing to roll back"):
            tx.catalogue.rollback("why")
        tx.catalogue.enact(ONE, "why")
        with pytest.raises(Rejected, match="version 1 says the same as version 1, which is in force"):
            tx.catalogue.rollback("why", to=1)


def test_where_approval_is_needed_a_second_person_gives_it_to_what_they_saw(ledger: Ledger) -> None:
    draft(ledger, ANN, dataclasses.replace(ONE, approval=True))
    apply(ledger, ANN, "four eyes")
    draft(ledger, ANN, dataclasses.replace(TWO, approval=True))
    proposal = apply(ledger, ANN, "more lungs")

    assert isinstance(proposal, RuleDraft)
    assert live(ledger).number == 1
    digest = proposal.rules.digest()
    with ledger.begin(ANN) as tx, pytest.raises(Rejected, match="you took part in this change"):
        tx.catalogue.approve(digest)
    with ledger.begin(BOB) as tx, pytest.raises(Rejected, match=f"the proposal is {digest}, not 123"):
        tx.catalogue.approve("123")
    with ledger.begin(BOB) as tx:
        version = tx.catalogue.approve(digest)

    assert (version.number, version.author, version.approver, version.reason) == (2, ANN, BOB, "more lungs")
    assert live(ledger) == version


def test_what_is_changed_after_it_was_proposed_must_be_proposed_again(ledger: Ledger) -> None:
    with ledger.begin(ANN) as tx:
        tx.catalogue.enact(dataclasses.replace(ONE, approval=True), "four eyes")
    draft(ledger, ANN, dataclasses.replace(TWO, approval=True))
    apply(ledger, ANN)
    changed = draft(ledger, BOB, dataclasses.replace(TWO, approval=False))

    assert changed is not None
    assert (changed.proposed, changed.authors) == (False, (ANN, BOB))
    with ledger.begin("operator eve") as tx, pytest.raises(Rejected, match="the draft is not proposed yet"):
        tx.catalogue.approve(changed.rules.digest())


def test_no_way_round_the_second_person(ledger: Ledger) -> None:
    with ledger.begin(ANN) as tx:
        tx.catalogue.enact(dataclasses.replace(ONE, approval=True), "four eyes")

    attempts: tuple[Callable[[Catalogue], Any], ...] = (
        lambda book: book.put_rule(rule("b")),
        lambda book: book.remove_rule("a"),
        lambda book: book.enact(RuleSet(), "no more eyes"),
    )
    for attempt in attempts:
        with ledger.begin(ANN) as tx, pytest.raises(Rejected, match="a change of the rules needs a second person here"):
            attempt(tx.catalogue)
    with ledger.begin(ANN) as tx:
        back = tx.catalogue.rollback("all of it is wrong")
    assert (back.rules.rules, back.rules.approval) == ((), True), "a rollback does not weaken the approval"


def test_a_draft_on_a_version_that_is_no_longer_in_force_is_refused(ledger: Ledger) -> None:
    draft(ledger, ANN, ONE)
    with ledger.begin(BOB) as tx:
        tx.catalogue.put_rule(rule("urgent"))

    with pytest.raises(Rejected, match="the draft was begun on version 0, but version 1 is in force now"):
        apply(ledger, ANN)
    with ledger.begin(ANN) as tx:
        tx.catalogue.discard_draft()
        assert tx.catalogue.draft() is None
        with pytest.raises(Rejected, match="there is no draft"):
            tx.catalogue.discard_draft()


def test_a_draft_that_comes_to_what_is_in_force_is_gone(ledger: Ledger) -> None:
    with ledger.begin(ANN) as tx:
        tx.catalogue.enact(ONE, "why")
    assert draft(ledger, ANN, TWO) is not None
    assert draft(ledger, ANN, ONE) is None
    with pytest.raises(Rejected, match="there is no draft"):
        apply(ledger, ANN)


def test_rules_keep_their_place_and_move_when_told(ledger: Ledger) -> None:
    rules = RuleSet()
    for name in "abc":
        rules = rules.put(rule(name))
    moved = rules.put(rule("c", position=1)).put(rule("a", enabled=False))

    assert [(r.name, r.position) for r in moved.rules] == [("c", 1), ("a", 2), ("b", 3)]
    assert changes(rules, moved)["order"] == [["a", "b", "c"], ["c", "a", "b"]]
    assert [r.name for r in moved.remove("a").rules] == ["c", "b"]
    with ledger.begin(ANN) as tx:
        tx.catalogue.enact(moved, "why")
    assert live(ledger).rules == moved


def test_a_set_survives_being_plain_data_and_other_data_is_refused() -> None:
    rules = dataclasses.replace(TWO.put(rule("c", shadow=True, late=Late.IGNORE, enabled=False)), match=Match.FIRST)

    assert set_of(set_document(rules)) == rules
    for wrong in (
        {},
        {"match": "some", "approval": False, "rules": []},
        {"match": "all", "approval": 1, "rules": [{}]},
    ):
        with pytest.raises(Misconfigured):
            set_of(wrong)


def test_a_decision_knows_the_version_of_the_rules_and_whether_it_was_a_shadow(ledger: Ledger) -> None:

    with ledger.begin("test") as tx:
        arrive(tx, "1.2.3", "1.2")
        verdicts = [
            Verdict(rule="b", matched=True, explanation={"position": 2}, shadow=True),
            Verdict(rule="a", matched=False, explanation={"position": 1}),
        ]
        tx.catalogue.record_decisions("1.2", "1.2.3", 1, verdicts, 7)

    with ledger.begin_reading() as tx:
        found = tx.catalogue.decisions("1.2.3")
        assert [(v.rule, v.matched, v.shadow, version) for v, version in found] == [
            ("a", False, False, 7), ("b", True, True, 7),
        ]  # fmt: skip
        assert tx.catalogue.matches(0.0) == {"b": 1}
        assert [r.series_uid for r in tx.catalogue.recorded(0.0)] == ["1.2.3"]
        assert [r.series_uid for r in tx.catalogue.recorded(0.0, unmatched=True)] == ["1.2.3"]


def test_facts_of_an_earlier_revision_are_not_taken_for_those_of_the_present(ledger: Ledger) -> None:

    with ledger.begin("test") as tx:
        arrive(tx, "1.2.3", "1.2")
        tx.catalogue.keep_facts("1.2.3", 1, "way", {"is_mosaic": [False, "counted"]})
        assert tx.catalogue.without_facts(0.0, "way") == []
        assert tx.catalogue.without_facts(0.0, "another way") == ["1.2.3"]
    with ledger.begin("test") as tx:
        [before] = tx.catalogue.recorded(0.0)
        tx.studies.complete("1.2.3", {"Modality": "CT"})
        [after] = tx.catalogue.recorded(0.0)

        assert tx.catalogue.without_facts(0.0, "way") == ["1.2.3"]

    assert (before.derivation, after.derivation) == ("way", "")
    assert dict(after.facts) == {"is_mosaic": [False, "counted"]}, "old facts are better than none"
