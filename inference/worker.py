"""The worker: claims INFER tasks, runs the pipeline, keeps what the model said."""

from __future__ import annotations

import dataclasses
import logging
import threading
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from inference.config import WorkerConfig
from inference.packages.package import Package
from inference.packages.store import PackageStore
from inference.pipeline import Outcome, Request, predict
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured, Rejected
from storage.facts.prediction import SOFTWARE_FAILURE, Mask, Prediction, Reason, Status
from storage.facts.routing import RegisteredPackage
from storage.facts.study import Urgency
from storage.facts.task import Kind, Next, Task
from storage.ledger import Ledger, Transaction
from storage.stage import Done, Handler, Stage

log = logging.getLogger(__name__)

ACTOR = "inference"


class Worker:
    """Everything that one worker process needs to see an INFER task through."""

    def __init__(self, config: WorkerConfig, ledger: Ledger) -> None:
        self._config, self._ledger = config, ledger
        self._packages: dict[tuple[str, str], Package] = {}

    def register(self) -> Sequence[str]:
        """Verify and register the packages of the models folder; returns what is wrong with the others."""
        store = PackageStore(self._config.models)
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
                    tx.catalogue.register_package(entry)
            except Rejected as error:
                faults.append(str(error))
                continue
            self._packages[manifest.id, manifest.version] = package
        for fault in faults:
            log.error("%s", fault)
        return faults

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop."""
        deadline = max((p.manifest.deadline_seconds for p in self._packages.values()), default=600.0)
        handler = Handler(work=self.infer, bury=self.bury, deadline=deadline)
        Stage(ledger=self._ledger, handlers={Kind.INFER: handler}, actor=ACTOR, stop=stop).run()

    def infer(self, task: Task) -> Done:
        """One package on one revision of a series. Raises Misconfigured when this worker does not have the package."""
        package = self._package(task)
        outcome = predict(self._request(task), package, Runtime(device=self._config.device))
        prediction = self._keep_mask(outcome)
        log.info("%s on series %s: %s", task.payload["package"], task.series_uid, prediction.status.value)
        return self._done(task, prediction)

    def bury(self, task: Task, why: str) -> Done:
        """A run that was given up still ends in a report: failed, with its reason."""
        package = self._packages.get((str(task.payload["package"]), str(task.payload["version"])))
        if package is None:
            return Done()
        prediction = Prediction(
            key=task.key,
            study_uid=task.study_uid or "",
            series_uid=task.series_uid or "",
            revision=int(task.payload["revision"]),
            algorithm=package.algorithm(),
            status=Status.FAILED,
            reason=Reason(code=SOFTWARE_FAILURE, text=f"The analysis was given up: {why}."),
        )
        return self._done(task, prediction)

    def _package(self, task: Task) -> Package:
        name, version = str(task.payload["package"]), str(task.payload["version"])
        try:
            return self._packages[name, version]
        except KeyError:
            known = ", ".join(f"{n}@{v}" for n, v in self._packages) or "none"
            raise Misconfigured(
                f"package {name}@{version} is not in {self._config.models} (there: {known}): put it back, or change "
                "the rule; then `dicom-node tasks retry`"
            ) from None

    def _request(self, task: Task) -> Request:
        with self._ledger.begin_reading() as tx:
            instances = tx.studies.instances(task.series_uid or "")
        # What came after the series was complete belongs to its next revision.
        instances = instances[: int(task.payload.get("instances", len(instances)))]
        return Request(
            key=task.key,
            study_uid=task.study_uid or "",
            series_uid=task.series_uid or "",
            revision=int(task.payload["revision"]),
            paths=tuple(Path(self._ledger.data, instance.path) for instance in instances),
        )

    def _keep_mask(self, outcome: Outcome) -> Prediction:
        if outcome.mask is None:
            return outcome.prediction
        mask = np.ascontiguousarray(outcome.mask, dtype=np.uint8)
        blob = self._ledger.blobs.put(zlib.compress(mask.tobytes(), level=1))
        frames, rows, columns = mask.shape
        kept = Mask(blob=blob, shape=(frames, rows, columns), frames=outcome.mask_frames)
        return dataclasses.replace(outcome.prediction, mask=kept)

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


def _rules(payload: Mapping[str, object]) -> list[str]:
    rules = payload.get("rules", ())
    return [str(rule) for rule in rules] if isinstance(rules, list | tuple) else []
