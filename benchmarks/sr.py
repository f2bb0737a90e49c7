"""CPU seconds of a measurement report on a long series: with segments, and with detections.

python benchmarks/sr.py --slices 600
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dicom_node.results import region, source
from dicom_node.results.document import Circumstance
from dicom_node.results.identity import Naming
from dicom_node.results.sr import measurement_report
from tests import builders
from tests.dicom_node.results import finding
from tests.dicom_node.results.making import NODE


def main() -> None:
    """Print the CPU time of each report, headers read before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=600)
    slices = parser.parse_args().slices
    sources = builders.slices(slices, 8, 8, step=1.0)
    for ds in sources:
        del ds.PixelData
        ds.Rows = ds.Columns = 64
    labels = np.zeros((slices, 64, 64), np.uint8)
    labels[slices // 3 :, 8:30, 8:30], labels[slices // 2 :, 34:50, 8:30] = 1, 2
    origin = source.read(sources)
    counts = region.areas(labels, 2)
    for what, prediction, shown in (
        ("two segments", builders.prediction(sources, labels), labels),
        ("two detections, graded", finding.found(sources), None),
    ):
        naming = Naming(prediction=prediction, node=NODE, made_at=builders.MADE_AT)
        circumstance = Circumstance(naming=naming, source=origin)
        started = time.process_time()
        made = measurement_report(circumstance, shown, None if shown is None else counts)
        print(f"{what}: {time.process_time() - started:.2f} CPU seconds, {len(made.ContentSequence)} items at the root")


if __name__ == "__main__":
    main()
