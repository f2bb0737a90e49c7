"""The worker: claims INFER tasks, has them run in slots, keeps what the models said.

A thread a slot looks after the process and claims for it, others wait for the runs and record them: while a result is
written, its slot is at work on the next. One more thread looks out for what is urgent.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

from inference.arriving import LedgerArrivals
from inference.config import WorkerConfig
from inference.executors.ahead import Ahead, Plan
from inference.executors.keeper import DeviceNews, Keeper
from inference.executors.link import COMMAND
from inference.executors.pool import Pool, Site
from inference.packages.agreement import Labels, compare
from inference.packages.earlier import KEPT, keep_copy
from inference.packages.joining import Input
from inference.packages.manifest import Manifest
from inference.packages.package import Package
from inference.packages.store import SHIPPED, store_of
from inference.pipeline import Request
from inference.runtime import GaveWay, OutOfMemory
from storage.facts.errors import Misconfigured, Rejected, Transient
from storage.facts.prediction import SOFTWARE_FAILURE, Code, Prediction, Reason, Status
from storage.facts.routing import RegisteredPackage
from storage.facts.study import Urgency
from storage.facts.task import Kind, Later, Next, Task
from storage.ledger import Ledger, Transaction, this_host
from storage.settings import parse
from storage.stage import LOOK_AGAIN_SECONDS, Done, Handler, Stage
from storage.workers import COMPARED, rivals

log = logging.getLogger(__name__)

ACTOR = "inference"
RECORDERS = 2  #: threads a slot: one waits for the run, one may still record the last result
TEND_SECONDS = 0.2  #: between looks at a slot that is not ready
RESOURCE_INADEQUATE = Code(value="110527", scheme="DCM", meaning="Resource inadequate")  # CID 9300


class Worker:
    """Everything that one worker process needs to see an INFER task through."""

    def __init__(self, config: WorkerConfig, ledger: Ledger, slot: Sequence[str] = COMMAND) -> None:
        self._config, self._ledger = config, ledger
        self._packages: dict[tuple[str, str], Package] = {}
        self._registering, self._looked_at = threading.Lock(), 0
        run = ledger.data / "run"
        self._site = Site(scratch=run / "scratch", costs=run / f"costs-{this_host()}.json", command=slot)
        self._decoded = run / "decoded"
        self._reasons: dict[int, Code] = {}  #: of the last failure of a task, where it has a code

    def register(self) -> Sequence[str]:
        """Verify and register the packages of the models folder; returns what is wrong with the others."""
        self._looked_at = _changed_at(self._config.models)
        store, kept = store_of(self._config), self._config.data / KEPT
        faults: list[str] = list(store.faults)
        for package in store.packages:
            manifest = package.manifest
            entry = RegisteredPackage(
                package=manifest.id,
                version=manifest.version,
                digest=package.digest,
                title=manifest.title,
                manifest=manifest.model_dump(mode="json"),
            )
            try:
                with self._ledger.begin(ACTOR) as tx:
                    if package.folder.is_relative_to(kept):  # a copy of what is known, or nothing of ours
                        tx.catalogue.package_version(f"{manifest.id}@{manifest.version}")
                    tx.catalogue.register_package(entry)
            except Rejected as error:
                faults.append(str(error))
                continue
            self._packages[manifest.id, manifest.version] = package
            if package.folder.is_relative_to(SHIPPED) or package.folder.is_relative_to(kept):
                faults += keep_copy(package, kept)
        for fault in faults:
            log.error("%s", fault)
        return faults

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop."""
        pool = Pool(self._config, self._packages, self._site, self._tell)
        loops = {f"slot {keeper.number}": partial(self._serve, pool, keeper, stop) for keeper in pool.keepers}
        loops["lookout"] = partial(self._look_out, pool, stop)
        if self._config.decoders:
            arrivals = LedgerArrivals(self._ledger, self._packages)
            plan = Plan(folder=self._decoded, number=self._config.decoders, arrivals=arrivals)
            loops["decoding"] = partial(Ahead(plan).run, stop)
        threads = [threading.Thread(target=_ending, args=(loop, stop), name=name) for name, loop in loops.items()]
        for thread in threads:
            thread.start()
        stop.wait()
        pool.stop()
        self._ledger.bell.ring()
        for thread in threads:
            thread.join()
        pool.close()

    def infer(self, pool: Pool, keeper: Keeper, task: Task) -> Done | Later:
        """One package on one revision of a series. Raises Misconfigured when this worker does not have the package."""
        package = self._package(task)
        try:
            answer = pool.run(keeper, task, self._request(task), package, self._variant(package, keeper.device))
        except GaveWay as why:
            return Later(at=time.time(), why=f"put back: {why}")
        except OutOfMemory:
            self._reasons[task.id] = RESOURCE_INADEQUATE
            raise
        prediction = answer.outcome.kept(self._ledger.blobs.put)
        self._reasons.pop(task.id, None)
        log.info("%s on series %s: %s", task.payload["package"], task.series_uid, prediction.status.value)
        return self._done(task, prediction)

    def bury(self, task: Task, why: str) -> Done:
        """A run that was given up still ends in a report: failed, with its reason."""
        package = self._known(task)
        if package is None:
            return Done()
        prediction = Prediction(
            key=task.key,
            study_uid=task.study_uid or "",
            series_uid=task.series_uid or "",
            revision=int(task.payload["revision"]),
            algorithm=package.algorithm(),
            status=Status.FAILED,
            reason=Reason(code=self._reasons.pop(task.id, SOFTWARE_FAILURE), text=f"The analysis was given up: {why}."),
        )
        return self._done(task, prediction)

    def _see_through(self, stage: Stage, keeper: Keeper, task: Task) -> None:
        try:
            stage.see_through(task)
            keeper.vacate(task.id)
            self._compare(task)
        except (Transient, Rejected, ValueError) as error:  # the database, a blob, unlike grids: a lease runs out
            log.warning("%s: task %d: %s", ACTOR, task.id, error)
        finally:
            keeper.vacate(task.id)

    def _compare(self, task: Task) -> None:
        """Note how far the run agrees with what other versions of its package said of the series before."""
        with self._ledger.begin_reading() as tx:
            kept = tx.predictions.load(task.key)
        if kept is None:
            return
        with self._ledger.read() as session:
            others = rivals(session, kept)
        for other in others:
            pair = sorted((kept.prediction, other.prediction), key=lambda p: _number(p.algorithm.version))
            agreement = compare(pair[0], pair[1], (self._labels(pair[0]), self._labels(pair[1])))
            with self._ledger.begin(ACTOR) as tx:
                tx.trail.append(
                    COMPARED, study=task.study_uid, series=task.series_uid, package=pair[0].algorithm.package,
                    versions=[p.algorithm.version for p in pair], **asdict(agreement),
                )  # fmt: skip

    def _labels(self, prediction: Prediction) -> Labels | None:
        mask = prediction.mask
        if mask is None:
            return None
        kind = np.dtype(mask.dtype).newbyteorder("<")
        maps = [np.frombuffer(zlib.decompress(self._ledger.blobs.get(blob)), kind) for blob in mask.blobs]
        return np.stack([one.reshape(mask.shape) for one in maps])

    def _serve(self, pool: Pool, keeper: Keeper, stop: threading.Event) -> None:
        """One slot: see to its process, claim what suits it, let others wait for the run."""
        handler = Handler(work=partial(self.infer, pool, keeper), bury=self.bury)
        stage = Stage(
            ledger=self._ledger,
            handlers={Kind.INFER: handler},
            actor=ACTOR,
            stop=stop,
            choose=partial(pool.choose, keeper),
        )
        seen = -1
        with ThreadPoolExecutor(RECORDERS, thread_name_prefix=f"run {keeper.number}") as hands:
            while not stop.is_set():
                if not keeper.wait_vacant(1.0):
                    continue
                try:
                    if not keeper.tend():
                        stop.wait(TEND_SECONDS)
                    elif (task := stage.take()) is not None:
                        pool.occupy(keeper, task)
                        seen_to = hands.submit(self._see_through, stage, keeper, task)
                        seen_to.add_done_callback(partial(_surface, stop))
                    else:
                        seen = stage.rest(seen)
                except Transient as error:  # the database itself: nothing can be recorded, so wait
                    log.warning("%s: %s", ACTOR, error)
                    stop.wait(1.0)

    def _look_out(self, pool: Pool, stop: threading.Event) -> None:
        """Let what is urgent find a slot soon."""
        seen = -1
        while not stop.is_set():
            try:
                with self._ledger.begin_reading() as tx:
                    urgent = tx.queue.due([Kind.INFER], Urgency.HIGH)
                if urgent:
                    pool.look_out(urgent)
                seen = self._ledger.bell.wait(seen, LOOK_AGAIN_SECONDS)
            except Transient as error:
                log.warning("%s: %s", ACTOR, error)
                stop.wait(1.0)

    def _tell(self, news: DeviceNews) -> None:
        """A device goes out of service or comes back: the trail keeps it."""
        action = "device in service" if news.in_service else "device out of service"
        try:
            with self._ledger.begin(ACTOR) as tx:
                tx.trail.append(
                    action, outcome=0 if news.in_service else 8, device=news.device, host=this_host(), why=news.why
                )
        except Transient as error:
            log.warning("%s: %s was not noted: %s", news.device, action, error)

    def _package(self, task: Task) -> Package:
        name, version = str(task.payload["package"]), str(task.payload["version"])
        if (name, version) not in self._packages:
            self._look_again()
        try:
            return self._packages[name, version]
        except KeyError:
            known = ", ".join(f"{n}@{v}" for n, v in self._packages) or "none"
            raise Misconfigured(
                f"package {name}@{version} is not in {self._config.models} (there: {known}): put it back, or change "
                "the rule; then `dicom-node tasks retry`"
            ) from None

    def _look_again(self) -> None:
        """Register what was added since; a package appears by a rename, which the models folder shows."""
        with self._registering:
            if _changed_at(self._config.models) != self._looked_at:
                self.register()

    def _variant(self, package: Package, device: str) -> tuple[str, ...]:
        """How the proof on such a device allows to compute; a proof of other content or another torch says nothing."""
        manifest, kind = package.manifest, device.partition(":")[0]
        if manifest.network is None or not manifest.network.variants:
            return ()
        with self._ledger.begin_reading() as tx:
            known = [p for p in tx.catalogue.package_versions(manifest.id) if p.version == manifest.version]
        for proof in (proof for one in known for proof in one.proofs):
            document = proof.document
            same = (document.get("digest"), document.get("torch")) == (package.digest, _torch_version())
            if proof.passed and same and proof.device.partition(":")[0] == kind:
                return tuple(map(str, document.get("chosen", ())))
        return ()

    def _known(self, task: Task) -> Package | None:
        """The package, at least what the catalogue says of it: enough for a report that it could not be run."""
        name, version = str(task.payload["package"]), str(task.payload["version"])
        if (name, version) in self._packages:
            return self._packages[name, version]
        with self._ledger.begin_reading() as tx:
            found = [p for p in tx.catalogue.packages() if (p.package, p.version) == (name, version)]
        try:
            manifests = [parse(Manifest, entry.manifest, source=f"{name}@{version}") for entry in found]
        except Misconfigured:  # registered by another release
            return None
        return (
            Package(manifest=manifests[0], digest=found[0].digest, folder=self._config.models, weights={})
            if found
            else None
        )

    def _request(self, task: Task) -> Request:
        payload = task.payload
        chosen = {
            str(role): Input(
                role=str(role), series_uid=str(each["series"]), revision=int(each["revision"]),
                paths=self._paths(str(each["series"]), each["instances"]), decoded=self._decoded,
            )
            for role, each in payload.get("inputs", {}).items()
        }  # fmt: skip
        missing = {str(role): str(why) for role, why in payload.get("missing", {}).items()}
        missing |= {role: "its files were removed before the run" for role, each in chosen.items() if not each.paths}
        return Request(
            key=task.key,
            study_uid=task.study_uid or "",
            series_uid=task.series_uid or "",
            revision=int(task.payload["revision"]),
            paths=self._paths(task.series_uid or "", payload.get("instances")),
            inputs=tuple(each for each in chosen.values() if each.paths),
            missing=tuple(missing.items()),
            decoded=self._decoded,
        )

    def _paths(self, series_uid: str, instances: int | None) -> tuple[Path, ...]:
        """The files of a series. What came after it was complete belongs to its next revision."""
        with self._ledger.begin_reading() as tx:
            found = tx.studies.instances(series_uid)
        return tuple(Path(self._ledger.data, each.path) for each in found[:instances])

    def _done(self, task: Task, prediction: Prediction) -> Done:
        report = Next(
            kind=Kind.REPORT,
            key=task.key,
            payload={
                "destinations": list(task.payload.get("destinations", ())),
                "rules": _rules(task.payload),
                "shadow": bool(task.payload.get("shadow", False)),
                "asked": int(task.urgency),  # by order and rules, before the model has said anything
            },
            urgency=Urgency(max(task.urgency, prediction.urgency)),
        )

        def record(tx: Transaction) -> None:
            tx.predictions.save(prediction)

        return Done(follow=(report,), record=record, note={"status": prediction.status.value})


def _ending(loop: Callable[[], None], stop: threading.Event) -> None:
    """A loop that ends by a fault ends the worker, and the supervisor starts another: none goes on in part."""
    try:
        loop()
    finally:
        stop.set()


def _surface(stop: threading.Event, seen_to: Future[None]) -> None:
    """As for a loop: a fault that nobody foresaw ends the worker."""
    fault = seen_to.exception()
    if fault is not None:
        log.error("%s: %s", ACTOR, type(fault).__name__, exc_info=fault)
        stop.set()


def _changed_at(folder: Path) -> int:
    """When a package or version was last added to the models folder, or removed, ns; 0 where there is no folder."""
    try:
        return max(each.stat().st_mtime_ns for each in (folder, *filter(Path.is_dir, folder.iterdir())))
    except OSError:
        return 0


def _torch_version() -> str:
    """Of the torch that slots load; this process never does."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _rules(payload: Mapping[str, object]) -> list[str]:
    rules = payload.get("rules", ())
    return [str(rule) for rule in rules] if isinstance(rules, list | tuple) else []
