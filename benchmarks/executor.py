"""How well slots are filled: many models, many studies, against the best schedule for the run times that were measured.

``python -m benchmarks.executor --studies 200 --models 8 --slots 2``: everything is real but the models, which sleep
for a time of their own and take a time of their own to load. Prints

- the makespan, from the first claim to the last recorded result;
- the bound that no schedule can beat: all work, each model loaded once, divided by the slots, or the longest run;
- the ratio of the two, which is to stay below 1.15;
- how long STAT studies waited that came while all slots were at work.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from storage.facts.study import Urgency
from storage.ledger import Ledger
from tests.inference.executors.rig import Rig


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One stand-in; seconds."""

    name: str
    load: float
    patch: float
    patches: int

    @property
    def run(self) -> float:
        """Seconds of one run, its model loaded."""
        return self.patch * self.patches


def models(number: int, dice: random.Random) -> list[Model]:
    """Short and long ones: patches of 50 to 150 ms, runs of a tenth of a second to two, a second at most to load."""
    return [
        Model(
            name=f"model-{n}",
            load=round(dice.uniform(0.2, 1.0), 2),
            patch=round(dice.uniform(0.05, 0.15), 3),
            patches=dice.randint(2, 14),
        )
        for n in range(number)
    ]


def bound(chosen: list[Model], slots: int) -> float:
    """What no schedule can beat, seconds: even if work could be divided at will."""
    work = sum(model.run for model in chosen) + sum({model.name: model.load for model in chosen}.values())
    return max(work / slots, max(model.run + model.load for model in chosen))


def fill(rig: Rig, studies: int, kinds: list[Model], dice: random.Random) -> list[Model]:
    """The queue: nine routine studies in ten, one that is high; returns the model of each."""
    for model in kinds:
        rig.package(model.name, load=str(model.load), patch=str(model.patch), patches=str(model.patches))
    chosen = [dice.choice(kinds) for _ in range(studies)]
    for key, model in enumerate(chosen, 1):
        rig.ask(str(key), model.name, dice.choices([Urgency.ROUTINE, Urgency.HIGH], [9, 1])[0])
    return chosen


def interrupt(rig: Rig, model: Model, number: int, over: threading.Event) -> list[tuple[str, float]]:
    """STAT studies, one every few seconds; returns key and time of each."""
    asked = []
    for key in range(100_001, 100_001 + number):
        if over.wait(4.0):
            break
        rig.ask(str(key), model.name, Urgency.STAT)
        asked.append((str(key), time.time()))
    return asked


def measure(rig: Rig, chosen: list[Model], slots: int, stats: int) -> None:
    """Run the queue dry and print how it went."""
    over, asked = threading.Event(), []
    short = min(chosen, key=lambda model: model.run)
    thread = threading.Thread(target=lambda: asked.extend(interrupt(rig, short, stats, over)))
    with rig.working(rig.config(slots)):
        rig.wait(lambda: bool(rig.events()), 60)
        thread.start()
        rig.wait(lambda: set(rig.states().values()) <= {"done", "failed"}, 3600)
        over.set()
        thread.join()
        rig.wait(lambda: set(rig.states().values()) <= {"done", "failed"}, 60)
    tasks = rig.tasks()
    first = min(at for at, event, *_ in rig.events() if event == "begin")
    last = max(task.ended_at or 0.0 for task in tasks.values())
    best = bound(chosen + [short] * len(asked), slots)
    print(f"{len(tasks)} studies, {len({m.name for m in chosen})} models, {slots} slots")
    print(f"makespan {last - first:.1f} s, bound {best:.1f} s, ratio {(last - first) / best:.3f}")
    begun = {key: at for at, event, _, key in reversed(rig.events()) if event == "begin"}
    waits = [begun[key] - at for key, at in asked]
    if waits:
        patch = max(model.patch for model in chosen)
        print(
            f"STAT waited {statistics.median(waits) * 1000:.0f} ms (median), {max(waits) * 1000:.0f} ms (most); "
            f"the longest patch takes {patch * 1000:.0f} ms, its model {short.load:g} s to load"
        )
    print(f"put back for others: {len(rig.trail('task defer'))}; failed: {len(rig.trail('task retry'))}")


def main() -> None:
    """Parse, fill, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--stat", type=int, default=0, help="STAT studies that come while it runs")
    parser.add_argument("--seed", type=int, default=5)
    given = parser.parse_args()
    dice = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models").mkdir()
        ledger = Ledger(folder / "data")
        rig = Rig(ledger=ledger, models=folder / "models", journal=folder / "journal")
        chosen = fill(rig, given.studies, models(given.models, dice), dice)
        measure(rig, chosen, given.slots, given.stat)
        ledger.close()


if __name__ == "__main__":
    main()
