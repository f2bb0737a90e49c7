"""The one state machine, pair by pair."""

from __future__ import annotations

import itertools

import pytest

from storage.facts.errors import IllegalTransition
from storage.facts.task import SUCCESSORS, TRANSITIONS, Event, Kind, State, advance


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair_of_state_and_event(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert advance(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransition, match=f"a {state} task cannot {event}"):
            advance(state, event)


def test_every_kind_says_what_may_follow_it() -> None:
    assert set(SUCCESSORS) == set(Kind)


def test_no_task_can_follow_itself_in_a_loop() -> None:
    def reach(kind: Kind, seen: frozenset[Kind]) -> None:
        assert kind not in seen
        for after in SUCCESSORS[kind]:
            reach(after, seen | {kind})

    for kind in Kind:
        reach(kind, frozenset())
