"""The order of work, on values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference.executors.schedule import Place, Policy, Run, Wish, make_way, pick
from storage.facts.study import Urgency

POLICY = Policy(ageing=900.0, warm=60.0, worth=30.0)
NOW = 10_000.0
FREE = Place(number=0, free=True)


def wish(
    task: int,
    urgency: Urgency = Urgency.ROUTINE,
    waited: float = 0.0,
    package: str = "p",
    places: tuple[int, ...] = (0, 1),
) -> Wish:
    return Wish(task=task, package=package, urgency=urgency, since=NOW - waited, places=frozenset(places))


def busy(number: int, urgency: Urgency = Urgency.ROUTINE, elapsed: float = 1.0, **more: object) -> Place:
    run = Run(task=90 + number, urgency=urgency, elapsed=elapsed, **{"expected": None, **more})  # type: ignore[arg-type]
    return Place(number=number, free=False, run=run)


def taken(me: Place, wishes: list[Wish], *others: Place) -> int | None:
    found = pick(me, wishes, sorted((me, *others), key=lambda p: p.number), POLICY, NOW)
    return None if found is None else found.task


def test_stat_is_first_however_long_others_have_waited() -> None:
    assert taken(FREE, [wish(1, waited=9000), wish(2, Urgency.HIGH, 5000), wish(3, Urgency.STAT)]) == 3


def test_high_is_before_routine_until_that_has_waited_longer_by_the_ageing_time() -> None:
    assert taken(FREE, [wish(1, waited=899), wish(2, Urgency.HIGH)]) == 2
    assert taken(FREE, [wish(1, waited=961), wish(2, Urgency.HIGH)]) == 1


def test_a_routine_run_does_not_starve_behind_a_stream_of_high_ones() -> None:
    """A HIGH run comes every 10 s and takes 10 s: the slot is never idle and never short of urgent work."""
    waiting, clock, done = (
        [Wish(task=0, package="r", urgency=Urgency.ROUTINE, since=0.0, places=frozenset({0}))],
        0.0,
        None,
    )
    for number in range(1, 1000):
        waiting.append(Wish(task=number, package="h", urgency=Urgency.HIGH, since=clock, places=frozenset({0})))
        chosen = pick(FREE, waiting, [FREE], POLICY, clock)
        assert chosen is not None
        waiting.remove(chosen)
        clock += 10.0
        if chosen.task == 0:
            done = clock
            break
    assert done is not None
    assert done <= POLICY.ageing + POLICY.warm + 20


def test_a_loaded_model_is_used_unless_that_makes_others_wait_long() -> None:
    me = Place(number=0, free=True, warm=frozenset({"w"}))
    assert taken(me, [wish(1, waited=50), wish(2, package="w")]) == 2
    assert taken(me, [wish(1, waited=61), wish(2, package="w")]) == 1
    assert taken(me, [wish(1, Urgency.STAT), wish(2, package="w", waited=50)]) == 1


def test_a_run_is_left_to_a_free_slot_that_has_its_model_and_taken_from_one_at_work() -> None:
    warm = frozenset({"p"})
    assert taken(FREE, [wish(1)], Place(number=1, free=True, warm=warm)) is None
    assert taken(FREE, [wish(1)], Place(number=1, free=False, warm=warm)) == 1
    assert taken(FREE, [wish(1), wish(2, package="other")], Place(number=1, free=False, warm=warm)) == 2


def test_a_slot_takes_only_what_it_may_run() -> None:
    assert taken(FREE, [wish(1, Urgency.STAT, places=(1,)), wish(2)]) == 2
    assert taken(FREE, [wish(1, places=(1,))]) is None


@given(
    st.lists(st.tuples(st.sampled_from(list(Urgency)), st.floats(0, 5000), st.sampled_from("abc")), max_size=12),
    st.lists(st.frozensets(st.sampled_from("abc")), min_size=1, max_size=3),
)
def test_free_slots_together_never_leave_work_undone(
    asked: list[tuple[Urgency, float, str]], loaded: list[frozenset[str]]
) -> None:
    everywhere = tuple(range(len(loaded)))
    wishes = [wish(n, u, waited, package, everywhere) for n, (u, waited, package) in enumerate(asked)]
    places = [Place(number=n, free=True, warm=warm) for n, warm in enumerate(loaded)]
    found = [pick(place, wishes, places, POLICY, NOW) for place in places]
    assert bool(wishes) == any(found)
    stat = {w.task for w in wishes if w.urgency is Urgency.STAT}
    assert not stat or any(w is not None and w.task in stat for w in found)


def stopped(wishes: list[Wish], *places: Place) -> list[int]:
    return make_way(wishes, places, POLICY, NOW)


def test_stat_stops_the_least_urgent_run_that_loses_the_least() -> None:
    places = (busy(0, Urgency.HIGH, 1.0), busy(1, elapsed=50.0), busy(2, elapsed=20.0))
    everywhere = (0, 1, 2)
    stat = [wish(n, Urgency.STAT, places=everywhere) for n in range(4)]
    assert stopped(stat[:1], *places) == [2]
    assert stopped(stat[:2], *places) == [2, 1]
    assert stopped(stat, *places) == [2, 1, 0]


def test_nothing_is_stopped_for_whom_a_slot_is_free_or_being_freed() -> None:
    assert stopped([wish(1, Urgency.STAT)], busy(0), Place(number=1, free=True)) == []
    assert stopped([wish(1, Urgency.STAT)], busy(0), busy(1, giving_way=True)) == []
    assert stopped([wish(1, Urgency.STAT), wish(2, Urgency.STAT)], busy(0), busy(1, giving_way=True)) == [0]


def test_stat_does_not_stop_stat_nor_what_it_cannot_replace() -> None:
    assert stopped([wish(1, Urgency.STAT)], busy(0, Urgency.STAT), busy(1, Urgency.STAT)) == []
    assert stopped([wish(1, Urgency.STAT, places=(1,))], busy(0)) == []


def test_high_stops_only_a_run_that_is_known_to_take_long_yet() -> None:
    high = [wish(1, Urgency.HIGH, places=(0,))]
    assert stopped(high, busy(0, elapsed=10.0)) == []
    assert stopped(high, busy(0, elapsed=10.0, expected=100.0)) == [0]
    assert stopped(high, busy(0, elapsed=60.0, expected=100.0)) == []
    assert stopped(high, busy(0, elapsed=1.0, expected=30.0)) == []
    assert stopped(high, busy(0, elapsed=10.0, expected=100.0, gave_way=True)) == []
    assert stopped([wish(1, waited=9000, places=(0,))], busy(0, elapsed=10.0, expected=100.0)) == []
    assert stopped([wish(1, Urgency.STAT, places=(0,))], busy(0, elapsed=99.0, expected=100.0)) == [0]
