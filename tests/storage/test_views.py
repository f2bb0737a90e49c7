"""What the ledger answers to people, however much it has."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from storage import views
from storage.facts.study import Urgency
from storage.ledger import Ledger
from tests.storage.predicting import prediction_of
from tests.storage.series import arrive


def test_results_of_one_study_are_found_among_those_of_many(ledger: Ledger) -> None:
    with ledger.begin("test") as tx:
        for number in range(600):
            arrive(tx, f"1.2.{number}.1", f"1.2.{number}")
            urgency = Urgency.HIGH if number % 100 == 7 else Urgency.ROUTINE
            tx.predictions.save(replace(prediction_of(f"1.2.{number}"), urgency=urgency))

    with ledger.read() as session:
        few, all_ = views.worklist(session, limit=10), views.worklist(session, limit=10_000)
        mine = views.worklist(session, study="1.2.599", limit=1)
        none = views.worklist(session, study="1.2.600")
        late = views.worklist(session, since=all_[-1].made_at + 1)

    assert [item.study_uid for item in mine] == ["1.2.599"]
    assert none == late == []
    assert [item.urgency for item in few] == [Urgency.HIGH] * 6 + [Urgency.ROUTINE] * 4
    assert [item.study_uid for item in all_[:10]] == [item.study_uid for item in few]
    assert len({item.study_uid for item in all_}) == 600
    assert all(one.made_at <= other.made_at for one, other in pairwise(all_[6:]))


def test_what_a_later_revision_said_anew_is_not_shown(ledger: Ledger) -> None:
    with ledger.begin("test") as tx:
        arrive(tx, "1.2.1.1", "1.2.1")
        old = prediction_of("1.2.1")
        new = replace(old, key="1.2.1.1/2/p@1", revision=2)
        other = replace(old, key="1.2.1.1/1/q@1", algorithm=replace(old.algorithm, package="q"))
        for one in (old, new, other):
            tx.predictions.save(one)

    with ledger.read() as session:
        assert {item.prediction.key for item in views.worklist(session)} == {new.key, other.key}
        assert {item.prediction.key for item in views.worklist(session, study="1.2.1")} == {new.key, other.key}
