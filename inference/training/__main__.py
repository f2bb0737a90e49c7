"""``python -m inference.training``: train the example package, look at its phantoms, measure a package again."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from inference.training.evaluate import evaluate
from inference.training.loop import Plan, train
from inference.training.packaging import Trained, write
from inference.training.samples import make
from inference.training.series import write_series
from inference.training.validate import choose, measure
from storage.facts.errors import NodeError

#: First seeds of phantoms, so far apart that no set can reach into another.
TRAINING, STOPPING, VALIDATION, TEST = 1_000_000, 2_000_000, 3_000_000, 4_000_000
APART = 10_000  #: phantoms between the sets of two training seeds

log = logging.getLogger("inference.training")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it went well."""
    parser = argparse.ArgumentParser(prog="python -m inference.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train, choose operating points, measure, and write a package")
    training.add_argument("--out", type=Path, required=True, help="folder of the package")
    training.add_argument("--seed", type=int, default=7, help="of everything that is random (default 7)")
    training.add_argument("--samples", type=int, default=800, help="training samples (default 800)")
    training.add_argument("--epochs", type=int, default=Plan().epochs, help=f"most epochs (default {Plan().epochs})")
    training.add_argument("--phantoms", type=int, default=60, help="in the validation and the test set (default 60)")
    phantom = commands.add_parser("phantom", help="write one phantom as a DICOM series, and say what is in it")
    phantom.add_argument("--out", type=Path, required=True, help="folder of the series")
    phantom.add_argument("--seed", type=int, default=1, help="of the phantom (default 1)")
    phantom.add_argument("--nodules", type=int, choices=range(4), help="how many (default: as the seed has it)")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        return _train(chosen) if chosen.command == "train" else _phantom(chosen)
    except NodeError as error:
        print(error, file=sys.stderr)
        return 1


def _train(chosen: argparse.Namespace) -> int:
    start, offset = time.monotonic(), chosen.seed * APART
    samples = make(range(TRAINING + offset, TRAINING + offset + chosen.samples))
    stopping = make(range(STOPPING + offset, STOPPING + offset + max(8, chosen.samples // 6)))
    log.info("%d samples; training", len(samples))
    network, history = train(samples, stopping, Plan(seed=chosen.seed, epochs=chosen.epochs))
    log.info("choosing operating points on %d phantoms", chosen.phantoms)
    choices = choose(evaluate(network, range(VALIDATION + offset, VALIDATION + offset + chosen.phantoms)))
    log.info("measuring on %d others", chosen.phantoms)
    evidence = measure(evaluate(network, range(TEST + offset, TEST + offset + chosen.phantoms)), choices)
    trained = Trained(
        network=network,
        history=history,
        choices=choices,
        evidence=evidence,
        seed=chosen.seed,
        training=len(samples),
    )
    digest = write(chosen.out, trained)
    print(f"sensitivity              {evidence.sensitivity.text()}")
    print(f"false positives a series {evidence.false_positives.text()}")
    print(f"area under the curve     {evidence.series_auc.text()}")
    print(f"grades right             {evidence.grading.accuracy.text()}")
    print(f"weights SHA-256          {digest}")
    print(f"{chosen.out} in {time.monotonic() - start:.0f} s: read its report.md")
    return 0


def _phantom(chosen: argparse.Namespace) -> int:
    written = write_series(chosen.out, seed=chosen.seed, nodules=chosen.nodules)
    for nodule in written.phantom.nodules:
        z, y, x = nodule.centre
        print(
            f"nodule at ({x:.1f}, {y:.1f}, {z:.1f}) mm, diameter {2 * nodule.radius:.1f} mm, grade {nodule.grade + 1}"
        )
    print(f"{len(written.paths)} images in {chosen.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
