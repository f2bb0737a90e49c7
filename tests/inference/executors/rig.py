"""A ledger with small series, packages of stand-ins, and a worker to run them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.uid import UID

from inference.config import PackageSection, SlotsSection, WorkerConfig
from inference.worker import Worker
from storage import views
from storage.facts.arrival import Arrival
from storage.facts.prediction import Prediction
from storage.facts.study import Instance, Urgency
from storage.facts.task import Kind, Next
from storage.ledger import Ledger
from tests import builders
from tests.inference import manifests
from tests.inference.executors.standins import NAME
from tests.inference.manifests import accepts, head, measurement, packed, segment

SLOT = (sys.executable, "-X", "faulthandler", "-m", "tests.inference.executors.slot_main")
SLICES = 3


def write_package(
    models: Path, name: str, *, version: str = "1.0.0", deadline: float = 60.0, weights: bytes = b"", **parameters: str
) -> None:
    """A package that does what its parameters say (tests.inference.executors.standins)."""
    told = "\n[parameters]\n" + "\n".join(f'{key} = "{value}"' for key, value in parameters.items()) + "\n"
    first = head(name, version=version, title="Stand-in", algorithm=NAME, more=f"deadline_seconds = {deadline}\n")
    text = first + (manifests.weights("net", "net.bin", weights) if weights else "") + told + accepts("CT")
    text += segment(1, "All") + measurement("size", plausible=(0.0, 10.0))
    packed(models / name / version, text, {"net.bin": weights} if weights else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """What a test of the worker has."""

    ledger: Ledger
    models: Path
    journal: Path

    def package(self, name: str, **given: Any) -> str:
        """Write a package whose runs are noted in the journal."""
        write_package(self.models, name, journal=str(self.journal), **given)
        return name

    def ask(self, key: str, package: str, urgency: Urgency = Urgency.ROUTINE) -> None:
        """A series of its own for each key, which is a number, and a run on it."""
        paths = _files(self.ledger.data, key)
        with self.ledger.begin("test") as tx:
            arrivals = [_arrival(f"1.2.{number}.{key}", f"1.9.{key}", path) for number, path in enumerate(paths, 1)]
            tx.studies.record(arrivals)
            tx.studies.complete(f"1.9.{key}", {"Modality": "CT"})
        self.ask_also(key, package, like=key, urgency=urgency)

    def ask_also(
        self, key: str, package: str, *, like: str, version: str = "1.0.0", urgency: Urgency = Urgency.ROUTINE
    ) -> None:
        """A run on the series of another key."""
        payload = {"package": package, "version": version, "revision": 1, "instances": SLICES}
        with self.ledger.begin("test") as tx:
            tx.queue.enqueue(
                Next(
                    kind=Kind.INFER,
                    key=key,
                    payload=payload,
                    urgency=urgency,
                    series_uid=f"1.9.{like}",
                    study_uid=f"1.8.{like}",
                )
            )

    def config(self, slots: int = 1, packages: dict[str, PackageSection] | None = None, **more: Any) -> WorkerConfig:
        """A worker on the CPU."""
        section = SlotsSection(processors=slots, **{"memory_mb": 2000, **more})
        return WorkerConfig(
            data=self.ledger.data, models=self.models, device="cpu", threads=1, slots=section, packages=packages or {}
        )

    @contextmanager
    def working(self, config: WorkerConfig | None = None) -> Iterator[Worker]:
        """A worker at work in this process."""
        worker = Worker(config or self.config(), self.ledger, SLOT)
        worker.register()
        stop = threading.Event()
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        try:
            yield worker
        finally:
            stop.set()
            thread.join()

    def states(self) -> dict[str, str]:
        """Of the runs, by key."""
        return {key: task.state for key, task in self.tasks().items()}

    def tasks(self, kind: Kind = Kind.INFER) -> dict[str, views.TaskView]:
        """By key."""
        with self.ledger.read() as session:
            return {t.key: t for t in views.tasks(session, limit=10_000) if t.kind == kind}

    def said(self, key: str) -> Prediction:
        """What was kept of a run."""
        with self.ledger.begin_reading() as tx:
            kept = tx.predictions.load(key)
        assert kept is not None
        return kept.prediction

    def trail(self, action: str) -> list[views.AuditView]:
        """Rows of the trail with that action."""
        with self.ledger.read() as session:
            return [row for row in views.trail(session, limit=100_000) if row.action == action]

    def events(self) -> list[tuple[float, str, int, str]]:
        """The journal: time, what, process, key."""
        if not self.journal.exists():
            return []
        lines = [line.split() for line in self.journal.read_text(encoding="utf-8").splitlines()]
        return [(float(at), event, int(pid), uid.removeprefix(_FIRST)) for at, event, pid, uid in lines]

    def wait(self, until: Callable[[], bool], seconds: float = 90.0) -> None:
        """Until it is so."""
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, f"still: {[(t.key, t.state, t.reason) for t in self.tasks().values()]}"
            time.sleep(0.05)

    def wait_over(self, keys: Sequence[str], seconds: float = 90.0) -> None:
        """Until these runs are done or failed."""
        self.wait(lambda: all(self.states().get(key) in ("done", "failed") for key in keys), seconds)


_FIRST = "1.2.1."


def _files(data: Path, key: str) -> list[str]:
    """A few slices, named by what the journal shall say."""
    folder = data / "instances" / key
    folder.mkdir(parents=True)
    for number, dataset in enumerate(builders.slices(SLICES, 8, 8), 1):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.{number}.{key}")
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return [f"instances/{key}/{number}.dcm" for number in range(1, SLICES + 1)]


def _arrival(uid: str, series: str, path: str) -> Arrival:
    instance = Instance(
        sop_instance_uid=uid,
        sop_class_uid=builders.CT,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        series_uid=series,
        study_uid=f"1.8.{series.removeprefix('1.9.')}",
        path=path,
        size=1,
        digest="00",
        header={"Modality": "CT"},
    )
    return Arrival(instance=instance, association=None, calling_ae="CT1", called_ae="NODE", received_at=time.time())
