"""How soon after its last slice a compressed series is analysed, with and without decoding while it arrives.

    python -m benchmarks.ahead [--slices 300] [--matrix 512] [--rate 20] [--syntax jpeg2000] [--rounds 3]

Slices of smooth noise are entered into a ledger at a steady rate; the run is asked for with the last. Its model does
nothing, so what is measured is reading, decoding and the hand-offs. Runs alternate; each has a worker of its own.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from storage.facts.arrival import Arrival
from storage.facts.study import Instance
from storage.facts.task import Kind, Next
from storage.ledger import Ledger

SYNTAXES = {"jpeg2000": JPEG2000Lossless, "jpeg-ls": JPEGLSLossless, "rle": RLELossless}
SERIES, STUDY = "1.9.7", "1.8.7"


def write_series(data: Path, slices: int, matrix: int, syntax: str) -> list[Path]:
    """Compressed CT slices where the receiver would put them."""
    from tests import builders

    folder = data / "instances" / STUDY / SERIES
    folder.mkdir(parents=True)
    chance = np.random.default_rng(1)
    small = chance.normal(size=(8, matrix // 8, matrix // 8))
    paths = []
    for number, ds in enumerate(builders.slices(slices, 8, 8, step=1.0)):
        plane = np.kron(small[number % 8], np.ones((8, 8))) * 400 + chance.integers(0, 40, (matrix, matrix)) + 900
        builders.pixels(ds, plane.astype(np.int16))
        ds.compress(syntax, generate_instance_uid=False)
        paths.append(folder / f"{number:04d}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def measure(folder: Path, paths: Sequence[Path], rate: float, decoders: int) -> float:
    """Seconds from the last slice to the recorded result."""
    from tests.inference.executors.rig import Rig

    with tempfile.TemporaryDirectory(dir=folder) as name:
        data = Path(name)
        (data / "instances").symlink_to(paths[0].parents[2])
        rig = Rig(ledger=Ledger(data), models=data / "models", journal=data / "journal")
        rig.package("model")
        try:
            with rig.working(rig.config().model_copy(update={"decoders": decoders})) as _:
                rig.wait(lambda: bool(rig.trail("device in service")))
                began = time.monotonic()
                for number, path in enumerate(paths):
                    time.sleep(max(began + number / rate - time.monotonic(), 0))
                    with rig.ledger.begin("receive") as tx:
                        tx.studies.record([_arrival(path, number)])
                        tx.queue.enqueue(Next(kind=Kind.ASSEMBLE, key=SERIES, series_uid=SERIES, study_uid=STUDY))
                last = time.monotonic()
                with rig.ledger.begin("receive") as tx:
                    tx.studies.complete(SERIES, {"Modality": "CT"})
                payload = {"package": "model", "version": "1.0.0", "revision": 1, "instances": len(paths)}
                with rig.ledger.begin("route") as tx:
                    tx.queue.enqueue(
                        Next(kind=Kind.INFER, key="7", payload=payload, series_uid=SERIES, study_uid=STUDY)
                    )
                rig.wait_over(["7"], 300)
                return time.monotonic() - last
        finally:
            rig.ledger.close()


def _arrival(path: Path, number: int) -> Arrival:
    instance = Instance(
        sop_instance_uid=f"1.2.{number}.7", sop_class_uid="1.2.840.10008.5.1.4.1.1.2", transfer_syntax_uid="1.2",
        series_uid=SERIES, study_uid=STUDY, path=str(path.relative_to(path.parents[3])), size=1, digest="00",
        header={"Modality": "CT"},
    )  # fmt: skip
    return Arrival(instance=instance, association=None, calling_ae="CT1", called_ae="NODE", received_at=time.time())


def main() -> None:
    """Measure both ways in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--matrix", type=int, default=512)
    parser.add_argument("--rate", type=float, default=20.0, help="slices a second")
    parser.add_argument("--syntax", choices=SYNTAXES, default="jpeg2000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--decoders", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        paths = write_series(Path(name) / "series", given.slices, given.matrix, SYNTAXES[given.syntax])
        rounds = [[measure(Path(name), paths, given.rate, n) for n in (0, given.decoders)] for _ in range(given.rounds)]
    print(f"{given.slices} slices, {given.syntax}, {given.rate:g} a second; seconds from the last one to the result:")
    for label, found in zip(("without", f"with {given.decoders} decoder(s)"), zip(*rounds, strict=True), strict=True):
        print(f"  {label}: {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})")


if __name__ == "__main__":
    main()
