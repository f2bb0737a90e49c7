"""A whole 600-slice CT: from files to a volume against SimpleITK, and the node's run against its bare forward passes.

    python -m benchmarks.inference_study [--slices 600] [--matrix 512] [--rounds 3] [--only load]
    python -m benchmarks.inference_study --only run --anatomy
    python -m benchmarks.inference_study --only run --filters 32 --classes 105 --overlap 0.25 --orient RAS --back labels

Runs alternate, each in a process of its own, with files in the page cache. The network is a SegResNet of MONAI with 8
filters, at 3 mm in windows of 96 x 96 x 96: small for its kind, which makes the node's share look large. With random
weights on noise it sees a border in nearly every voxel, which is the worst case for the way back. With ``--anatomy``
the study is a body of ellipsoids and noise, and the network says what tissue a smoothed voxel is by its grey value,
beside all that it computes otherwise: structures have an inside, as those of trained networks have. The third line is
the shape of what hospitals run: the 3 mm network of MONAI's wholeBody_ct_segmentation (Project-MONAI/model-zoo,
configs_3mm/inference.json: 32 filters, 105 classes, overlap 0.25, RAS, labels brought back by the nearest voxel), with
random weights. SimpleITK is needed for ``load`` alone.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

if TYPE_CHECKING:
    import torch

WINDOW = (96, 96, 96)
PIXEL, STEP, WANTED = 0.7, 1.0, 3.0  #: mm
MANIFEST = """
id = "benchmark"
version = "1.0.0"
title = "Benchmark"
manufacturer = "Benchmark"
intended_use = "None"
licence = "None"
algorithm = "network"
[[weights]]
name = "net"
file = "net.pt"
sha256 = "{digest}"
source = "made by the benchmark"
[accepts]
modality = ["CT"]
[network]
average = "logits"
[[network.models]]
weights = "net"
{model}
[[network.prepare]]
do = "orient"
to = "{orient}"
[[network.prepare]]
do = "resample"
spacing = [{wanted}, {wanted}, {wanted}]
[[network.prepare]]
do = "range"
low = -1000
high = 1000
[network.windows]
size = [96, 96, 96]
overlap = {overlap}
[network.output]
kind = "segmentation"
activation = "softmax"
segments = {segments}
back = "{back}"
"""
ARCHITECTURE = """format = "state-dict"
architecture = {{ name = "monai.SegResNet", arguments = {{ {arguments} }} }}"""
TISSUES = (-1000, -800, 40, 150, 700)  #: HU: air, lung, soft tissue, blood, bone
#: Ellipsoids, each over the ones before: middle and half axes as parts of the picture (down, across, along), HU.
BODY = (
    ((0.0, 0.0, 0.0), (0.6, 0.85, 1.5), 40),
    ((-0.05, -0.42, 0.1), (0.4, 0.3, 0.6), -800),
    ((-0.05, 0.42, 0.1), (0.4, 0.3, 0.6), -800),
    ((-0.15, 0.1, 0.0), (0.2, 0.25, 0.25), 150),
    ((0.38, 0.0, 0.0), (0.1, 0.1, 2.0), 700),
)
SEGMENT = """
[[segments]]
number = {number}
label = "Part {number}"
category = {{ value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }}
type = {{ value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }}
colour = [250, 0, {number}]
"""


def write_study(folder: Path, slices: int, matrix: int) -> None:
    """Uncompressed CT slices of smooth noise."""
    from tests import builders

    chance = np.random.default_rng(1)
    small = chance.normal(size=(8, matrix // 8, matrix // 8))
    for number, ds in enumerate(builders.slices(slices, 8, 8, step=STEP)):
        plane = np.kron(small[number % 8], np.ones((8, 8))) * 400 + chance.integers(0, 40, (matrix, matrix)) + 900
        builders.pixels(ds, plane.astype(np.int16))
        ds.PixelSpacing = [PIXEL, PIXEL]
        ds.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def write_body(folder: Path, slices: int, matrix: int) -> None:
    """Uncompressed CT slices of a body with lungs, heart and spine, and noise."""
    from tests import builders

    chance = np.random.default_rng(1)
    noise = chance.normal(0, 20, (8, matrix, matrix))
    y, x = np.mgrid[-1 : 1 : matrix * 1j, -1 : 1 : matrix * 1j]
    for number, ds in enumerate(builders.slices(slices, 8, 8, step=STEP)):
        z = 2 * number / slices - 1
        plane = noise[number % 8] + 24
        for (up, left, along), (height, width, depth), hu in BODY:
            inside = ((y - up) / height) ** 2 + ((x - left) / width) ** 2 + ((z - along) / depth) ** 2 < 1
            plane[inside] = noise[number % 8][inside] + hu + 1024
        builders.pixels(ds, plane.astype(np.int16))
        ds.PixelSpacing = [PIXEL, PIXEL]
        ds.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def traced(net: torch.nn.Module) -> bytes:
    """The network, which adds to what it computes the tissue that a smoothed voxel has by its value: TorchScript."""
    import torch

    class Sees(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net
            self.register_buffer("tissues", torch.tensor([(hu + 1000) / 2000 for hu in TISSUES])[:, None, None, None])

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            smooth = torch.nn.functional.avg_pool3d(image, 3, stride=1, padding=1, count_include_pad=False)
            answer: torch.Tensor = self.net(image) * 1e-3 - (smooth - self.tissues) ** 2 * 1e3
            return answer

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(Sees().eval(), torch.rand(1, 1, *WINDOW), check_trace=False), buffer)
    return buffer.getvalue()


def write_package(folder: Path, shape: argparse.Namespace) -> None:
    """The network with random weights, as a package."""
    import torch

    from inference.networks.architectures import build
    from inference.packages.network import Architecture

    torch.manual_seed(1)
    arguments: dict[str, JsonValue] = {
        "spatial_dims": 3, "in_channels": 1, "out_channels": shape.classes, "init_filters": shape.filters,
    }  # fmt: skip
    net, buffer = build(Architecture(name="monai.SegResNet", arguments=arguments)), io.BytesIO()
    if shape.anatomy:
        content, model = traced(net), 'format = "torchscript"'
    else:
        torch.save(net.state_dict(), buffer)
        given = ", ".join(f"{name} = {value}" for name, value in arguments.items())
        content, model = buffer.getvalue(), ARCHITECTURE.format(arguments=given)
    (folder / "net.pt").write_bytes(content)
    text = MANIFEST.format(
        digest=hashlib.sha256(content).hexdigest(),
        model=model,
        wanted=WANTED,
        orient=shape.orient,
        overlap=shape.overlap,
        segments=list(range(shape.classes)),
        back=shape.back,
    )
    text += "".join(SEGMENT.format(number=number) for number in range(1, shape.classes))
    (folder / "model.toml").write_text(text, encoding="utf-8")


def load_node(folder: Path) -> dict[str, float]:
    """Files to int16 HU with geometry."""
    from inference.imaging.volume import load

    paths = sorted((folder / "study").iterdir())
    load(paths[:8])  # imports
    return _timed(lambda: load(paths))


def load_simpleitk(folder: Path) -> dict[str, float]:
    """The same by SimpleITK, which is told the order of the files: to sort them costs it more."""
    import SimpleITK  # type: ignore[import-not-found]

    paths = [str(path) for path in sorted((folder / "study").iterdir())]

    def read(names: list[str]) -> object:
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(names)
        return SimpleITK.GetArrayViewFromImage(reader.Execute())

    read(paths[:8])
    return _timed(lambda: read(paths))


def run_node(folder: Path) -> dict[str, float]:
    """Files to a prediction with its mask on the source grid."""
    from inference.packages.package import open_package
    from inference.pipeline import Request, predict
    from inference.runtime import Kept, Runtime

    package, runtime = open_package(folder / "package"), Runtime(device="cpu", models=Kept())
    paths = tuple(sorted((folder / "study").iterdir()))

    def run(some: tuple[Path, ...]) -> dict[str, float]:
        outcome = predict(Request(key="k", study_uid="1", series_uid="2", revision=0, paths=some), package, runtime)
        assert outcome.mask is not None, outcome.prediction.reason
        return outcome.prediction.seconds

    run(paths[:8])  # imports, weights, kernels
    steps: dict[str, float] = {}
    return _timed(lambda: steps.update(run(paths))) | steps


def run_bare(folder: Path) -> dict[str, float]:
    """As many windows through the same network, and nothing else."""
    import torch

    from inference.networks.device import device_of
    from inference.networks.forward import load_nets
    from inference.networks.windows import plan
    from inference.packages.package import open_package

    package = open_package(folder / "package")
    network = package.manifest.network
    assert network is not None
    net = load_nets(package, device_of("cpu")).members[0]
    slices = len(list((folder / "study").iterdir()))
    matrix = json.loads((folder / "size.json").read_text(encoding="utf-8"))
    size = [round(slices * STEP / WANTED), round(matrix * PIXEL / WANTED), round(matrix * PIXEL / WANTED)]
    count = plan([max(a, b) for a, b in zip(size, WINDOW, strict=True)], network.windows).count
    patch = torch.rand(1, 1, *WINDOW)

    def forward() -> None:
        for _ in range(count):
            net(patch)

    with torch.inference_mode():
        net(patch)
        return _timed(forward) | {"windows": count}


TASKS: dict[str, Callable[[Path], dict[str, float]]] = {
    "load-node": load_node, "load-simpleitk": load_simpleitk, "run-node": run_node, "run-bare": run_bare,
}  # fmt: skip
PAIRS = (("load-node", "load-simpleitk"), ("run-node", "run-bare"))


def _timed(work: Callable[[], object]) -> dict[str, float]:
    cpu, start = time.process_time(), time.perf_counter()
    kept = work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    del kept
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu": cpu, "peak MB": peak}


def measure(task: str, folder: Path, threads: int) -> dict[str, float]:
    """One task in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.inference_study", "--task", task, "--folder", str(folder)]
    out = subprocess.run([*command, "--threads", str(threads)], capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def main() -> None:
    """Measure, or be measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slices", type=int, default=600)
    parser.add_argument("--matrix", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="load or run; default: both")
    parser.add_argument("--filters", type=int, default=8, help="of the network's first level")
    parser.add_argument("--classes", type=int, default=5, help="background among them")
    parser.add_argument("--overlap", type=float, default=0.5, help="of windows, as a part of one")
    parser.add_argument("--orient", default="SPL", help="how the network sees the volume; SPL is how it lies in memory")
    parser.add_argument("--back", default="probabilities", help="what returns to the source grid: or logits, or labels")
    parser.add_argument("--anatomy", action="store_true", help="a body, and structures with an inside; 5 classes")
    parser.add_argument("--task", choices=TASKS, help="be measured in this; the others are for measuring")
    parser.add_argument("--folder", type=Path, help="of the study, for --task")
    arguments = parser.parse_args()
    if arguments.task:
        import torch

        torch.set_num_threads(arguments.threads)
        print(json.dumps(TASKS[arguments.task](arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("study", "package"):
            (folder / part).mkdir()
        (folder / "size.json").write_text(str(arguments.matrix), encoding="utf-8")
        (write_body if arguments.anatomy else write_study)(folder / "study", arguments.slices, arguments.matrix)
        write_package(folder / "package", arguments)
        for pair in (one for one in PAIRS if one[0].startswith(arguments.only)):
            rounds = [[measure(task, folder, arguments.threads) for task in pair] for _ in range(arguments.rounds)]
            report(pair, rounds)


def report(pair: tuple[str, str], rounds: list[list[dict[str, float]]]) -> None:
    """Medians of both, the range of the ratios, and the steps of the first."""
    for key in ("seconds", "cpu", "peak MB"):
        mine, theirs = ([found[side][key] for found in rounds] for side in (0, 1))
        ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
        print(
            f"{key}: {pair[0]} {statistics.median(mine):.2f}, {pair[1]} {statistics.median(theirs):.2f}, "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )
    more = {
        key: [found[0][key] for found in rounds] for key in rounds[0][0] if key not in ("seconds", "cpu", "peak MB")
    }
    print("  steps:", ", ".join(f"{key} {statistics.median(values):.2f}" for key, values in more.items()) or "none")


if __name__ == "__main__":
    main()
