"""The receive buffer under pynetdicom: what is asked for is what came, however it came."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dicom_node.receive.wire import Patience, StreamSocket

PATIENCE = Patience(association_seconds=5.0, stall_seconds=5.0, least_rate=0)


def link_on(peer: socket.socket, maximum_pdu: int) -> StreamSocket:
    """The receiver's end, without pynetdicom's association around it."""
    link = StreamSocket.__new__(StreamSocket)
    cast(Any, link).__dict__.update(socket=peer, event_queue=SimpleNamespace(put=lambda _event: None))
    link.begin(PATIENCE, maximum_pdu)
    return link


@pytest.fixture(name="pair")
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection: the peer's and the receiver's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as theirs,
        listener.accept()[0] as ours,
    ):
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield theirs, ours


@pytest.mark.parametrize("seed", range(8))
def test_what_is_read_is_what_was_sent_wherever_it_was_cut(
    pair: tuple[socket.socket, socket.socket], seed: int
) -> None:
    theirs, ours = pair
    draw = random.Random(seed)
    sent = draw.randbytes(400_000)
    link = link_on(ours, 4096)

    def send() -> None:
        at = 0
        while at < len(sent):
            size = draw.choice((1, 5, 100, 3000, 70_000))
            theirs.sendall(sent[at : at + size])
            at += size
            if size < 100:
                time.sleep(0.0005)

    sender = threading.Thread(target=send)
    sender.start()
    sizes, got = random.Random(seed + 100), bytearray()
    while left := len(sent) - len(got):
        if left >= 6 and sizes.random() < 0.5:
            link.fill(6)
        got += link.recv(min(left, sizes.choice((6, 7, 250, 4096, 60_000))))
    sender.join()

    assert got == sent


def test_of_a_peer_that_went_away_only_what_it_sent_is_read(pair: tuple[socket.socket, socket.socket]) -> None:
    theirs, ours = pair
    link = link_on(ours, 4096)
    theirs.sendall(b"0123456789")
    link.fill(6)
    theirs.close()

    assert link.recv(1000) == b"0123456789"
