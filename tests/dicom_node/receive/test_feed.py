"""The link between the receiving process and its index: in order, nothing lost when either end goes away."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from dicom_node.receive import feed as feeds
from dicom_node.receive.events import (
    Began,
    Closed,
    Died,
    Event,
    Missed,
    Opened,
    Refused,
    Reported,
    Stopped,
    decode,
    encode,
)  # fmt: skip
from dicom_node.receive.feed import Feed, serve
from dicom_node.receive.landing import Landed, Origin
from storage.facts.errors import Transient
from storage.facts.study import Instance

ORIGIN = Origin(association="A-1", calling_ae="PACS", called_ae="DICOM_NODE", address="127.0.0.1")


def landed(number: int = 1) -> Landed:
    instance = Instance(
        sop_instance_uid=f"1.2.{number}", sop_class_uid="1.2", transfer_syntax_uid="1.2.840.10008.1.2.1",
        series_uid="1.3", study_uid="1.4", path=f"instances/1.4/1.3/1.2.{number}.dcm", size=7, digest="ab",
        header={"Modality": "CT", "ImagePositionPatient": [0.0, -1.5, 3.0], "Rows": 512},
    )  # fmt: skip
    return Landed(path=f"/incoming/{number}.dcm", instance=instance, origin=ORIGIN, at=12.5)


@pytest.mark.parametrize(
    "event",
    [
        Began(ae_title="N"), Stopped(), Died(pid=7), Missed(), Reported(event_type=2, data=b"\0\1"),
        Opened(origin=ORIGIN, at=3.5), Closed(association="A-1", ending="released"),
        Refused(what="object refused", origin=ORIGIN, why="0xA700", object="1.2.3"),
        Refused(what="connection refused", origin=ORIGIN, why="too many"), landed(),
    ],
    ids=lambda event: type(event).__name__,
)  # fmt: skip
def test_an_event_crosses_the_link_unchanged(event: Event) -> None:
    assert decode(encode(event)) == event


class Keeper:
    """An index that only remembers; it can be made to fail, and to die."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.seen: list[Event] = []
        self.idle = threading.Event()
        self.failures = 0
        self.dies = False
        self.remaining = [0]  #: what each look into incoming leaves

    def take(self, events: Sequence[Event]) -> list[int]:
        if self.failures:
            self.failures -= 1
            raise Transient("not now")
        if not events:
            self.idle.set()
        self.seen += events
        if self.dies:
            self._link.shutdown(socket.SHUT_RDWR)  # after it wrote, before it said so
        return [self.remaining.pop(0) if event == Missed() else n + 1 for n, event in enumerate(events)]

    def live(self) -> None:
        self._link = self._feed.connect()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with self._link:
            serve(self._link, self.take)


@pytest.fixture
def feed() -> Iterator[Feed]:
    made = Feed()
    made.start()
    yield made
    made.stop()


def test_everything_that_was_told_arrives_in_order_whoever_told_it(feed: Feed) -> None:
    keeper = Keeper(feed)
    keeper.live()
    events: list[Event] = [Opened(origin=ORIGIN, at=1.0), *map(landed, range(1200)),
                           Closed(association="A-1", ending="released")]  # fmt: skip
    for event in events:
        feed.tell(event)
    feed.stop()

    assert keeper.seen == events


def test_what_an_index_did_not_confirm_is_told_to_its_successor(feed: Feed) -> None:
    first, second = Keeper(feed), Keeper(feed)
    first.dies = True
    first.live()
    feed.tell(landed(1))
    feed.tell(Closed(association="A-1", ending="released"))
    until = time.monotonic() + 5
    while not first.seen and time.monotonic() < until:
        time.sleep(0.01)
    feed.tell(landed(2))
    second.live()
    feed.stop()

    assert first.seen == second.seen[:2] == [landed(1), Closed(association="A-1", ending="released")]
    assert second.seen[2:] == [landed(2)]


def test_a_ledger_that_does_not_answer_is_tried_again_and_an_asker_is_told_then(feed: Feed) -> None:
    keeper = Keeper(feed)
    keeper.failures = 1
    keeper.live()

    assert feed.ask(Began(ae_title="N"), 5.0) == 1
    assert keeper.seen == [Began(ae_title="N")]


def test_nobody_waits_for_an_index_that_is_not_there(feed: Feed) -> None:
    began = time.monotonic()

    assert feed.ask(Began(ae_title="N"), 0.2) is None
    assert time.monotonic() - began < 1.0


def test_an_index_that_is_away_for_long_costs_no_memory_and_looks_for_itself_later(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "BACKLOG", 10)
    for number in range(50):
        feed.tell(landed(number))
    room = feed.make_way()
    keeper = Keeper(feed)
    keeper.live()
    feed.stop()

    told = [event for event in keeper.seen if isinstance(event, Landed)]
    assert room
    assert len(told) <= 12
    assert keeper.seen[-1] == Missed()


def test_an_index_is_asked_to_look_until_nothing_remains_though_nothing_else_happens(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "BACKLOG", 10)
    for number in range(50):
        feed.tell(landed(number))
    behind = feed.behind
    keeper = Keeper(feed)
    keeper.remaining = [30, 10, 0]
    keeper.live()
    until = time.monotonic() + 5
    while feed.behind and time.monotonic() < until:
        time.sleep(0.01)

    assert behind in (49, 50)  # one may be on its way already
    assert feed.behind == 0
    assert keeper.seen.count(Missed()) == 3


def test_senders_wait_while_the_index_is_behind_and_are_refused_beyond_a_limit(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "BACKLOG", 10)
    monkeypatch.setattr(feeds, "PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(feeds, "FULL", 40)
    began = time.monotonic()
    feed.make_way()
    unhindered = time.monotonic() - began
    for number in range(30):
        feed.tell(landed(number))
    began = time.monotonic()
    room = feed.make_way()
    hindered = time.monotonic() - began
    for number in range(30, 60):
        feed.tell(landed(number))

    assert unhindered < 0.1
    assert hindered >= 0.2
    assert room
    assert not feed.make_way()


def test_an_index_to_which_nothing_is_told_may_do_what_it_put_off(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "IDLE_SECONDS", 0.05)
    keeper = Keeper(feed)
    keeper.live()

    assert keeper.idle.wait(5)


def test_a_node_that_ends_while_the_ledger_is_away_does_not_wait_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "STOP_SECONDS", 0.3)
    feed = Feed()
    feed.start()
    keeper = Keeper(feed)
    keeper.failures = 10**6
    keeper.live()
    feed.tell(landed())
    time.sleep(0.3)
    began = time.monotonic()
    feed.stop()

    assert time.monotonic() - began < 2.0
    assert keeper.seen == []
