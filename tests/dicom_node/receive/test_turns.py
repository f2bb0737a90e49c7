"""Few threads receive at a time; whoever has to wait for a peer or a disk keeps nobody else from it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from pynetdicom.association import Association

from dicom_node.receive.turns import Turn, Turns
from tests.dicom_node.receive.conftest import MakeReceiver, Receiver
from tests.dicom_node.receive.test_scp import _half_a_store, a_slice


def turns_of(receiver: Receiver) -> Turns:
    return receiver.scp._servers[0].turns  # type: ignore[attr-defined,no-any-return]


def test_no_more_work_at_a_time_than_there_are_turns() -> None:
    turns, working, most = Turns(3), set[int](), 0
    lock = threading.Lock()

    def work(number: int) -> None:
        nonlocal most
        turn = turns.turn()
        for _ in range(50):
            turn.take()
            turn.take()
            with lock:
                working.add(number)
                most = max(most, len(working))
            time.sleep(0.0002)
            with lock:
                working.discard(number)
            turn.give()
            turn.give()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(12)))

    assert most == 3
    assert turns.free == 3


def test_a_turn_without_turns_is_never_held() -> None:
    turn = Turn()
    turn.take()
    assert not turn.held


def test_peers_that_stall_in_a_message_keep_no_turn(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(stall_seconds=30.0)
    turns = turns_of(receiver)
    stalled = [receiver.associate() for _ in range(turns.number + 1)]
    for peer in stalled:
        peer.dul.socket.socket.sendall(_half_a_store(peer)[:-300])  # type: ignore[union-attr]
    _until_parts(receiver, len(stalled))
    good = receiver.associate()

    assert [good.send_c_store(a_slice(n)).Status for n in range(3)] == [0, 0, 0]
    good.release()
    for peer in stalled:
        peer.abort()
    _until_parts(receiver, 0)
    assert turns.free == turns.number


def test_a_peer_that_is_held_to_its_rate_keeps_no_turn(make_receiver: MakeReceiver) -> None:
    slow = {"ae_title": "SLOW", "maximum_mb_per_second": 0.001}
    receiver = make_receiver(peers=[{"ae_title": "PACS"}, slow])
    turns, stop = turns_of(receiver), threading.Event()

    def keep_sending(peer: Association) -> None:
        number = 0
        while not stop.is_set() and peer.is_established:
            peer.send_c_store(a_slice(number))
            number += 1

    held = [receiver.associate(calling="SLOW") for _ in range(turns.number)]
    good = receiver.associate()
    with ThreadPoolExecutor(len(held)) as pool:
        sending = [pool.submit(keep_sending, peer) for peer in held]
        seen = []
        for n in range(40):
            assert good.send_c_store(a_slice(100 + n)).Status == 0
            seen.append(turns.free)
            time.sleep(0.02)
        stop.set()
    for one in sending:
        one.result()

    assert seen.count(turns.number) > 30, seen  # but for the moment in which a request begins


def test_turns_come_back_when_messages_end_in_every_way(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()
    turns = turns_of(receiver)
    done, cut, wrong = receiver.associate(), receiver.associate(), receiver.associate()
    done.send_c_store(a_slice(1))
    cut.dul.socket.socket.sendall(_half_a_store(cut)[:-10])  # type: ignore[union-attr]
    cut.dul.socket.socket.close()  # type: ignore[union-attr]
    wrong.dul.socket.socket.sendall(_half_a_store(wrong) + b"\x09" * 100)  # type: ignore[union-attr]
    done.release()
    _until_parts(receiver, 0)

    assert turns.free == turns.number


def _until_parts(receiver: Receiver, number: int) -> None:
    until = time.monotonic() + 20
    while len(list(receiver.incoming.folder.glob("*.part"))) != number and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.3)
