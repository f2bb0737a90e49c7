"""A slot: the process that models run in. It loads torch and foreign weights, and may be killed at any moment.

It never sees the ledger. What it knows comes through a pipe from the worker, and it ends when the worker does. A fault
that nobody foresaw ends it, too: what such a fault leaves behind, on a GPU above all, is not to be built on.
"""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from types import TracebackType

from inference.executors import messages, parcel, vitals
from inference.executors.device import Device, open_device
from inference.executors.memory import ran_out
from inference.executors.warm import Warm
from inference.pipeline import Outcome, predict
from inference.runtime import GaveWay, OutOfMemory, Runtime
from storage.facts.errors import Misconfigured, Rejected, Transient

log = logging.getLogger(__name__)

ALIVE_SECONDS = 0.25  #: between proofs of life at least
WARM_PART = 0.5  #: of the slot's memory that idle models may fill: runs want the rest
SCALES = (0.5, 0.25)  #: of tiles, tried one after another when memory runs out


class Checkpoint:
    """What a run calls between patches: says that it lives, hears whether it should end."""

    def __init__(self, pipe: Connection, number: int) -> None:
        self._pipe, self._number, self._told = pipe, number, 0.0

    def __call__(self) -> None:
        """Raises GaveWay when something urgent waits."""
        now = time.monotonic()
        if now - self._told >= ALIVE_SECONDS:
            self._told = now
            self._pipe.send_bytes(parcel.say(messages.Alive(number=self._number)))
        while self._pipe.poll(0):
            order = pickle.loads(self._pipe.recv_bytes())  # from the worker, which is trusted
            if isinstance(order, messages.GiveWay) and order.number == self._number:
                raise GaveWay


class Slot:
    """One device, its warm models, and one run at a time."""

    def __init__(self, pipe: Connection, device: Device) -> None:
        self._pipe, self._device = pipe, device
        self._warm = Warm(device, int(device.total() * WARM_PART))

    def serve(self) -> None:
        """Run what the worker sends until it sends no more."""
        self._device.probe()
        self._say(messages.Ready(device=self._device.name, kind=self._device.kind, total=self._device.total()))
        while True:
            try:
                order = pickle.loads(self._pipe.recv_bytes())  # from the worker, which is trusted
            except EOFError:
                return
            if isinstance(order, messages.Job):
                self._say(self._answer(order))

    def _say(self, message: object) -> None:
        self._pipe.send_bytes(parcel.say(message))

    def _answer(self, job: messages.Job) -> object:
        try:
            return self._run(job)
        except GaveWay:
            return messages.MadeWay(number=job.number, warm=self._warm.packages)
        except Transient as error:
            remedy = messages.Remedy.MEMORY if ran_out(error) else messages.Remedy.RETRY
            return self._failed(job, remedy, error)
        except Rejected as error:
            return self._failed(job, messages.Remedy.REJECT, error)
        except Misconfigured as error:
            return self._failed(job, messages.Remedy.MEND, error)

    def _failed(self, job: messages.Job, remedy: messages.Remedy, error: Exception) -> messages.Failed:
        return messages.Failed(number=job.number, remedy=remedy, why=str(error), warm=self._warm.packages)

    def _run(self, job: messages.Job) -> messages.Finished:
        digest = job.package.digest
        self._warm.pinned = job.pinned
        self._warm.make_room(job.need, digest)
        own, before, start = self._warm.size(digest), self._device.used(), time.perf_counter()
        self._device.forget_peak()
        outcome, where = self._climb(job)
        measured = messages.Measured(
            seconds=time.perf_counter() - start,
            peak=max(self._device.peak() - before, 0) + own,
            on_processor=where != self._device.name,
        )
        body, sizes = parcel.pack(outcome, job.scratch)
        return messages.Finished(
            number=job.number, answer=body, sizes=sizes, measured=measured, warm=self._warm.packages
        )

    def _climb(self, job: messages.Job) -> tuple[Outcome, str]:
        """Try as the package says, then with less and less memory. Raises Transient when nothing of it suffices."""
        checkpoint = Checkpoint(self._pipe, job.number)
        for device, scale in self._ways(job):
            variant = job.variant if device == self._device.name else ()  # it was proven there alone
            runtime = Runtime(
                device=device, models=self._warm, checkpoint=checkpoint, tile_scale=scale, variant=variant
            )
            try:
                return predict(job.request, job.package, runtime), device
            except (MemoryError, RuntimeError, OSError, Transient) as error:
                if not ran_out(error):
                    raise
                log.warning("%s ran out of memory on %s at scale %g", job.package.manifest.id, device, scale)
        raise OutOfMemory(
            f"{job.package.manifest.id} found too little memory on {self._device.name} for series "
            f"{job.request.series_uid}, even alone and in small tiles"
        )

    def _ways(self, job: messages.Job) -> Iterator[tuple[str, float]]:
        yield self._device.name, 1.0
        if self._warm.free():
            yield self._device.name, 1.0
        for scale in SCALES:
            self._warm.free()
            yield self._device.name, scale
        if job.processor and self._device.name != "cpu":
            self._warm.free()
            yield "cpu", 1.0
        self._warm.free()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the worker ends."""
    parser = argparse.ArgumentParser(prog="python -m inference.executors.slot", description="Started by the worker.")
    parser.add_argument("--pipe", type=int, required=True, help="descriptor of the pipe to the worker")
    parser.add_argument("--device", required=True, help="cpu, cuda:0 …")
    parser.add_argument("--limit", type=int, required=True, help="memory of this process, bytes")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads for torch; 0: as many as it likes")
    parser.add_argument("--log-level", default="INFO")
    given = parser.parse_args(arguments)
    vitals.die_with(sys.stdin.fileno())
    vitals.offer_to_the_killer()
    logging.basicConfig(
        level=given.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its messages quote element values
    if given.threads:
        os.putenv("OMP_NUM_THREADS", str(given.threads))  # read by OpenMP when torch is loaded
    pipe = Connection(given.pipe)
    sys.excepthook = _LastWords(pipe)
    try:
        Slot(pipe, open_device(given.device, given.limit)).serve()
    except (Misconfigured, Transient) as error:  # of the device; those of a run were answered
        pipe.send_bytes(parcel.say(messages.Broken(why=str(error))))
        return 1
    except (BrokenPipeError, ConnectionResetError):  # the worker is gone
        return 1
    return 0


class _LastWords:
    """Tells the worker what kind of fault ends the process; its text stays unsaid, for it may quote a header."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def __call__(self, kind: type[BaseException], value: BaseException, where: TracebackType | None) -> None:
        del value
        self._pipe.send_bytes(parcel.say(messages.Broken(why=f"internal error: {kind.__name__} (see the log)")))
        print(f"the slot ends by {kind.__name__}:\n{''.join(traceback.format_tb(where))}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
