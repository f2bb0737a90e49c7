"""Mutated PDU streams against a live receiver: it must not crash, hang or leak, and a good sender beside it succeeds.

    python benchmarks/fuzz.py --streams 100000 --seed 1

Each stream is a valid conversation (association, C-ECHO, C-STORE in fragments, release) damaged in one to four places:
bytes, lengths, PDU types, fragments left out, doubled, cut or put in another order. At the end: descriptors, threads
and resident memory of the receiver, and what the legitimate sender was told.
"""

from __future__ import annotations

import argparse
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from dicom_node.commands.bench_parties import make_slices
from dicom_node.deliver import command
from dicom_node.deliver.association import Association, Proposal, _request
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.dimse import send
from dicom_node.deliver.echo import echo
from storage.facts.errors import Transient

CT, EXPLICIT, VERIFICATION = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.1"
INTERESTING = (0, 1, 2, 5, 6, 7, 0xFF, 0x7FFF, 0xFFFF, 0x20000, 0x7FFFFFFF, 0xFFFFFFFF)


def p_data(context: int, control: int, data: bytes) -> bytes:
    """One fragment in one P-DATA-TF."""
    return struct.pack(">BxLLBB", 4, len(data) + 6, len(data) + 2, context, control) + data


def conversation(to: Destination) -> list[bytes]:
    """The PDUs that a well-behaved peer would send."""
    proposals = [
        Proposal(abstract_syntax=CT, transfer_syntaxes=(EXPLICIT,)),
        Proposal(abstract_syntax=VERIFICATION, transfer_syntaxes=(EXPLICIT,)),
    ]
    store = command.encode({
        command.COMMAND_FIELD: command.C_STORE_RQ, command.MESSAGE_ID: 1, command.AFFECTED_CLASS: CT,
        command.AFFECTED_INSTANCE: "1.2.3.4", command.PRIORITY: 0, command.DATA_SET_TYPE: command.A_DATA_SET,
    })  # fmt: skip
    ask = command.encode({
        command.COMMAND_FIELD: command.C_ECHO_RQ, command.MESSAGE_ID: 2, command.AFFECTED_CLASS: VERIFICATION,
        command.DATA_SET_TYPE: command.NO_DATA_SET,
    })  # fmt: skip
    data = struct.pack("<HH2sH", 8, 0x16, b"UI", len(CT) + len(CT) % 2) + CT.encode() + b"\0" * (len(CT) % 2)
    data += struct.pack("<HH2sH", 8, 0x18, b"UI", 8) + b"1.2.3.4\0" + bytes(300)
    release = struct.pack(">BxLL", 5, 4, 0)
    return [
        _request(to, proposals), p_data(3, 3, ask), p_data(1, 3, store), p_data(1, 0, data[:200]),
        p_data(1, 2, data[200:]), p_data(3, 3, ask), release,
    ]  # fmt: skip


def damaged(pdus: list[bytes], dice: random.Random) -> list[bytes]:
    """The conversation with one to four faults."""
    found = [bytearray(pdu) for pdu in pdus]
    first = dice.random() < 0.3  # mostly behind the association request, or little else would be reached
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(0 if first else 1, len(found))
        dice.choice(FAULTS)(found, at, dice)
    return [bytes(pdu) for pdu in found]


def _byte(pdus: list[bytearray], at: int, dice: random.Random) -> None:
    if pdus[at]:
        pdus[at][dice.randrange(len(pdus[at]))] = dice.randrange(256)


def _length(pdus: list[bytearray], at: int, dice: random.Random) -> None:
    offset = dice.choice((2, 6, dice.randrange(max(len(pdus[at]) - 4, 1))))
    if offset + 4 <= len(pdus[at]):
        pdus[at][offset : offset + 4] = struct.pack(">L", dice.choice(INTERESTING))


def _kind(pdus: list[bytearray], at: int, dice: random.Random) -> None:
    pdus[at][:1] = bytes([dice.randrange(10)])


def _cut(pdus: list[bytearray], at: int, dice: random.Random) -> None:
    del pdus[at][dice.randrange(len(pdus[at]) + 1) :]


def _double(pdus: list[bytearray], at: int, dice: random.Random) -> None:
    pdus.insert(dice.randrange(len(pdus)), bytearray(pdus[at]))


def _swap(pdus: list[bytearray], at: int, dice: random.Random) -> None:
    other = dice.randrange(len(pdus))
    pdus[at], pdus[other] = pdus[other], pdus[at]


def _noise(pdus: list[bytearray], at: int, dice: random.Random) -> None:
    pdus[at] += dice.randbytes(dice.randrange(1, 300))


FAULTS: tuple[Callable[[list[bytearray], int, random.Random], None], ...] = (
    _byte, _byte, _length, _length, _kind, _cut, _double, _swap, _noise,
)  # fmt: skip


def attack(to: Destination, pdus: list[bytes]) -> None:
    """Send it all, read what comes, go away."""
    try:
        with socket.create_connection((to.host, to.port), timeout=20) as link:
            link.sendall(pdus[0])
            link.settimeout(0.05)
            try:
                link.recv(65536)  # the answer to the association request, where it still is one
            except TimeoutError:
                pass
            link.settimeout(20)
            link.sendall(b"".join(pdus[1:]))
            link.shutdown(socket.SHUT_WR)
            while link.recv(65536):
                pass
    except TimeoutError:
        print("a stream was neither answered nor closed within 20 s", flush=True)
        HUNG.append(1)
    except OSError:
        pass  # reset, as it deserves


HUNG: list[int] = []


def legitimate(to: Destination, stop: threading.Event, told: list[int]) -> None:
    """Send good objects all the while."""
    with tempfile.TemporaryDirectory() as folder:
        files = make_slices(Path(folder), 4)
        while not stop.is_set():
            try:
                told += [answer.status for answer in send(files, to)]
            except Transient as error:
                print(f"the legitimate sender: {error}", flush=True)
                told.append(-1)
            stop.wait(0.2)


def main() -> int:
    """Attack, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=8)
    given = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    to = Destination(name="node", ae_title="DICOM_NODE", host="127.0.0.1", port=port, calling_ae="FUZZ")
    code = "from dicom_node.commands.bench_node import main; main()"
    with (
        tempfile.TemporaryDirectory() as folder,
        open(Path(folder) / "log", "wb") as log,
        subprocess.Popen([sys.executable, "-c", code, f"{folder}/data", str(port), "none"], stderr=log) as process,
    ):
        try:
            return _compare(to, psutil.Process(process.pid), given)
        finally:
            process.terminate()


def _compare(to: Destination, receiver: psutil.Process, given: argparse.Namespace) -> int:
    for _ in range(100):
        try:
            echo(to)
            break
        except Transient:
            time.sleep(0.1)
    pdus, stop, told = conversation(to), threading.Event(), list[int]()
    beside = threading.Thread(target=legitimate, args=(to, stop, told))
    beside.start()
    began = time.monotonic()
    with ThreadPoolExecutor(given.threads) as pool:
        for start in range(0, given.streams, 2000):
            seeds = range(start, min(start + 2000, given.streams))
            list(pool.map(lambda n: attack(to, damaged(pdus, random.Random(f"{given.seed}/{n}"))), seeds))
            memory = receiver.memory_info().rss // 2**20
            print(f"{seeds.stop} streams, {time.monotonic() - began:.0f} s: {memory} MB resident, "
                  f"{receiver.num_fds()} descriptors, {receiver.num_threads()} threads", flush=True)  # fmt: skip
    stop.set()
    beside.join()
    time.sleep(15)  # what waits for a peer that has gone gives up meanwhile
    print(f"at rest: {receiver.num_fds()} descriptors, {receiver.num_threads()} threads; hung: {len(HUNG)}; "
          f"legitimate sender: {len(told)} objects, {sum(s != 0 for s in told)} refused or lost")  # fmt: skip
    good = not HUNG and told and not any(told) and receiver.is_running() and receiver.num_threads() < 20
    with Association(to, [Proposal(abstract_syntax=VERIFICATION, transfer_syntaxes=(EXPLICIT,))]):
        pass
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
