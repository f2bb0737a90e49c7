"""CPU seconds and memory of a Segmentation: written by columns, and by highdicom alone, in turn.

    python benchmarks/seg.py --slices 600 --classes 117 --rounds 3

Each run is a process of its own that makes the object and writes it to a file; the label maps are ellipsoids. Both get
the same headers and the same labels; the pixels of the files are compared, bit by bit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from highdicom.seg import Segmentation, SegmentationTypeValues

from dicom_node.results import region, seg, source
from dicom_node.results.frames import parts
from dicom_node.results.identity import Naming
from tests import builders
from tests.dicom_node.results.making import NODE

Labels = npt.NDArray[np.uint8]
SIZE = 512
FORMS = {"BINARY": (seg.BINARY, ExplicitVRLittleEndian), "LABELMAP": (seg.LABELMAP, RLELossless)}


def ellipsoids(slices: int, classes: int) -> Labels:
    """A label map of so many ellipsoids, wherever chance puts them."""
    chance = np.random.default_rng(5)
    labels = np.zeros((slices, SIZE, SIZE), np.uint8)
    for number in range(1, classes + 1):
        centre = chance.uniform((0, 80, 80), (slices, SIZE - 80, SIZE - 80))
        half = chance.uniform((10, 10, 10), (60, 50, 50))
        low = np.maximum((centre - half).astype(int), 0)
        high = np.minimum((centre + half).astype(int) + 1, labels.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = np.ogrid[box]
        inside = sum(((axis - c) / h) ** 2 for axis, c, h in zip(axes, centre, half, strict=True)) <= 1
        labels[box][inside] = number
    return labels


def headers(slices: int) -> list[Dataset]:
    """The headers of a CT series."""
    made = builders.slices(slices, 8, 8, step=1.0)
    for ds in made:
        del ds.PixelData
        ds.Rows = ds.Columns = SIZE
    return made


def columns(naming: Naming, origin: source.Source, labels: Labels, kind: str, path: Path) -> None:
    """As the node writes it."""
    counts = region.areas(labels, len(naming.prediction.segments))
    made = seg.segmentation(naming, origin, labels, counts, kind)
    with path.open("wb") as file:
        for part in parts(made.header, made.frames):
            file.write(part)


def highdicom(naming: Naming, origin: source.Source, labels: Labels, kind: str, path: Path) -> None:
    """As highdicom writes it."""
    for image in origin.images:
        image.update(origin.header)
    form = next(name for name, (known, _) in FORMS.items() if known == kind)
    made: Dataset = Segmentation(
        list(origin.images), labels, SegmentationTypeValues[form],
        [seg._describe(naming, segment) for segment in naming.prediction.segments],
        naming.uid("series"), 1, naming.uid(kind), 1, "Maker", "Model", "1", "1",
        transfer_syntax_uid=FORMS[form][1], content_label="AI",
    )  # fmt: skip
    made.save_as(path)


WRITERS: dict[str, Callable[..., None]] = {"columns": columns, "highdicom": highdicom}


def once(writer: str, form: str, slices: int, classes: int, path: Path) -> None:
    """One run, in this process; prints what it took as JSON."""
    labels, sources = ellipsoids(slices, classes), headers(slices)
    one = builders.segments()[0]
    segments = tuple(replace(one, number=n, label=f"class {n}") for n in range(1, classes + 1))
    naming = Naming(
        prediction=builders.prediction(sources, labels, segments=segments), node=NODE, made_at=builders.MADE_AT
    )
    origin = source.read(sources)
    before, wall = time.process_time(), time.perf_counter()
    WRITERS[writer](naming, origin, labels, FORMS[form][0], path)
    took = {"cpu_s": time.process_time() - before, "wall_s": time.perf_counter() - wall}
    status = Path("/proc/self/status").read_text()  # what getrusage says goes back to before exec
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
    print(json.dumps(took | {"rss_mb": peak, "file_mb": path.stat().st_size / 1e6}))


def compare(paths: Sequence[Path], form: str) -> str:
    """Whether two files hold the same pixels."""
    ours, other = (dcmread(path) for path in paths)
    if form == "BINARY":
        equal = ours.PixelData == other.PixelData
    else:
        equal = bool(np.array_equal(ours.pixel_array, other.pixel_array))
    return f"{ours.NumberOfFrames} frames, pixels {'equal' if equal else 'DIFFERENT'}"


def main() -> None:
    """Alternate the writers and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=600)
    parser.add_argument("--classes", type=int, default=117)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--form", choices=list(FORMS), action="append")
    parser.add_argument("--once", nargs=3, metavar=("WRITER", "FORM", "PATH"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        once(args.once[0], args.once[1], args.slices, args.classes, Path(args.once[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        for form in args.form or list(FORMS):
            paths = {writer: Path(folder) / f"{writer}.dcm" for writer in WRITERS}
            runs: dict[str, list[dict[str, float]]] = {writer: [] for writer in WRITERS}
            for _ in range(args.rounds):
                for writer, path in paths.items():
                    command = [sys.executable, __file__, "--slices", str(args.slices), "--classes", str(args.classes)]
                    ran = subprocess.run(
                        [*command, "--once", writer, form, str(path)], capture_output=True, text=True, check=True
                    )
                    runs[writer].append(json.loads(ran.stdout.splitlines()[-1]))
            report(form, runs)
            print(f"  {compare([paths['columns'], paths['highdicom']], form)}")


def report(form: str, runs: dict[str, list[dict[str, float]]]) -> None:
    """Medians of each writer, and their ratio."""
    medians = {w: {key: statistics.median(r[key] for r in ran) for key in ran[0]} for w, ran in runs.items()}
    print(f"{form}:")
    for writer, m in medians.items():
        print(
            f"  {writer:10} {m['cpu_s']:6.2f} CPU-s {m['wall_s']:6.2f} s {m['rss_mb']:6.0f} MB RSS "
            f"{m['file_mb']:7.1f} MB file"
        )
    ours, other = medians["columns"], medians["highdicom"]
    print(f"  {other['cpu_s'] / ours['cpu_s']:.1f} times faster, {ours['rss_mb'] / other['rss_mb']:.2f} of the memory")


if __name__ == "__main__":
    main()
