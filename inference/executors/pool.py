"""All slots of a worker, and which run goes where."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.config import PackageSection, WorkerConfig
from inference.executors import vitals
from inference.executors.breaker import Breaker
from inference.executors.device import has_gpu
from inference.executors.keeper import Answer, DeviceNews, Keeper, Work
from inference.executors.link import COMMAND, Terms
from inference.executors.measured import Costs
from inference.executors.schedule import Policy, Wish, make_way, pick
from inference.executors.watch import Limits
from inference.packages.package import Package
from inference.pipeline import Request
from inference.runtime import GaveWay
from storage.facts.errors import Misconfigured
from storage.facts.task import Task

log = logging.getLogger(__name__)

MACHINE_PART = 0.8  #: of the machine's memory that slots may have together: the rest is for those who receive
_NONE = PackageSection()


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a pool keeps things, and how it starts slots."""

    scratch: Path  #: folder for arrays on their way; what workers of this machine left there is removed
    costs: Path  #: file with measured memory and times
    command: Sequence[str] = COMMAND


class Pool:
    """The slots. ``packages`` by identifier and version; tasks of others may run on any slot, where they fail."""

    def __init__(
        self,
        config: WorkerConfig,
        packages: Mapping[tuple[str, str], Package],
        site: Site,
        tell: Callable[[DeviceNews], None],
    ) -> None:
        slots = config.slots
        self._config, self._packages = config, packages
        self._policy = Policy(ageing=slots.ageing_seconds, warm=slots.warm_seconds, worth=slots.worth_seconds)
        self._costs = Costs(site.costs)
        self._gave_way: set[int] = set()
        self._scratch = _own(site.scratch)
        devices = devices_of(config)
        limit = slots.memory_mb * 2**20 or int(vitals.machine_bytes() * MACHINE_PART / len(devices))
        terms = Terms(
            limit=limit,
            threads=max(config.threads // len(devices), 1) if config.threads else 0,
            log_level=config.log_level,
            command=site.command,
        )
        limits = Limits(
            stall=slots.stall_seconds, give_way=slots.give_way_seconds, memory=limit, grace=slots.grace_seconds
        )
        self.keepers = tuple(
            Keeper(number, device, terms, limits, _breaker(config), tell) for number, device in enumerate(devices)
        )

    def choose(self, keeper: Keeper, tasks: Iterable[Task]) -> Task | None:
        """What that slot should take of the tasks that are due."""
        by_id = {task.id: task for task in tasks}
        places = [other.place() for other in self.keepers]
        me = places[keeper.number]
        wish = pick(me, [self._wish(task) for task in by_id.values()], places, self._policy, time.time())
        return None if wish is None else by_id[wish.task]

    def occupy(self, keeper: Keeper, task: Task) -> None:
        """Take the slot for a task that was claimed for it."""
        package = self._package(task)
        cost = None if package is None or keeper.ready is None else self._costs.cost(package, keeper.ready.kind)
        keeper.occupy(task.id, task.urgency, cost.seconds if cost else None, task.id in self._gave_way)

    def look_out(self, urgent: Iterable[Task]) -> None:
        """Stop what must make way for these tasks."""
        places = [keeper.place() for keeper in self.keepers]
        for number in make_way([self._wish(task) for task in urgent], places, self._policy, time.time()):
            log.info("slot %d is told to make way", number)
            self.keepers[number].give_way()

    def run(
        self, keeper: Keeper, task: Task, request: Request, package: Package, variant: tuple[str, ...] = ()
    ) -> Answer:
        """Run a task on the slot that was occupied for it, computing in a proven way; raises as Keeper.run does."""
        ready = keeper.ready
        kind = ready.kind if ready is not None else ""
        work = Work(
            task=task.id,
            request=request,
            package=package,
            need=self._costs.need(package, kind),
            processor=self._rule(package).processor,
            pinned=frozenset(p.digest for p in tuple(self._packages.values()) if self._rule(p).pinned),
            variant=variant,
        )
        try:
            answer = keeper.run(work, self._scratch / f"{keeper.number}-{task.id}-{task.attempt}")
        except GaveWay:
            self._gave_way.add(task.id)
            raise
        self._gave_way.discard(task.id)
        if not answer.measured.on_processor:
            self._costs.note(package, kind, answer.measured)
        return answer

    def stop(self) -> None:
        """Runs have their grace from now on."""
        now = time.monotonic()
        for keeper in self.keepers:
            keeper.stopping = now

    def close(self) -> None:
        """End every process."""
        for keeper in self.keepers:
            keeper.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _wish(self, task: Task) -> Wish:
        package = self._package(task)
        return Wish(
            task=task.id,
            package="" if package is None else package.digest,
            urgency=task.urgency,
            since=task.created_at,
            places=frozenset(k.number for k in self.keepers) if package is None else self._places(package),
        )

    def _places(self, package: Package) -> frozenset[int]:
        """Slots that may run it: where the site wants it, and of those the ones with enough memory, if any has."""
        wanted = self._rule(package).devices
        allowed = [k for k in self.keepers if not wanted or k.device in wanted]
        large = [k for k in allowed if k.ready is None or self._costs.need(package, k.ready.kind) <= k.ready.total]
        return frozenset(k.number for k in large or allowed)

    def _package(self, task: Task) -> Package | None:
        return self._packages.get((str(task.payload.get("package")), str(task.payload.get("version"))))

    def _rule(self, package: Package) -> PackageSection:
        return self._config.packages.get(package.manifest.id, _NONE)


def devices_of(config: WorkerConfig) -> tuple[str, ...]:
    """One entry a slot. Raises Misconfigured when a package is meant for a device that has none."""
    devices = config.slots.devices or _found(config)
    for name, section in config.packages.items():
        if section.devices and not set(section.devices) & set(devices):
            raise Misconfigured(
                f"packages.{name}.devices: none of {', '.join(section.devices)} has a slot (there: "
                f"{', '.join(devices)})"
            )
    return devices


def _found(config: WorkerConfig) -> tuple[str, ...]:
    if config.device == "cuda":
        return ("cuda:0",)
    if config.device not in ("auto", "cpu"):
        return (config.device,)
    number = _count_gpus() if config.device == "auto" and has_gpu() else 0
    return tuple(f"cuda:{n}" for n in range(number)) or ("cpu",) * config.slots.processors


def _count_gpus() -> int:
    """In a process of its own: this one never loads torch."""
    code = "from inference.executors.device import gpus; print(gpus())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout.strip().isdigit():
        log.error("the GPUs cannot be counted, so that the CPU is used: %s", done.stderr.strip().rpartition("\n")[2])
        return 0
    return int(done.stdout)


def _breaker(config: WorkerConfig) -> Breaker:
    return Breaker(patience=config.slots.patience, probe_seconds=config.slots.probe_seconds)


def _own(folder: Path) -> Path:
    """A folder for this process below the one for all; those of killed workers of this machine are removed."""
    host = socket.gethostname()
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.glob(f"{host}:*"):
        if not vitals.exists(int(other.name.rpartition(":")[2])):
            shutil.rmtree(other, ignore_errors=True)
    own = folder / f"{host}:{os.getpid()}"
    own.mkdir(exist_ok=True)
    return own
