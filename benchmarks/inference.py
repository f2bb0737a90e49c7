"""How much the node adds to a network: stitching against MONAI's, and a whole run against its bare forward passes.

    python -m benchmarks.inference [--size 160 256 256] [--rounds 3] [--only stitch]

Runs alternate, each in a process of its own, so that memory is that of one and load on the machine meets all of them.
A size of 600 512 512 is a large CT; 25 classes of it need 16 GB for MONAI alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch

WINDOW = (64, 96, 96)
OVERLAP = 0.5


class Answer(torch.nn.Module):
    """A network that costs nothing: what is left is stitching."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.answer = torch.rand(1, classes, *WINDOW)

    def forward(self, image: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return self.answer


def small_network(classes: int, width: int) -> torch.nn.Module:
    """Four convolutions: a very cheap network, which makes the node's share look large."""
    torch.manual_seed(1)
    layers: list[torch.nn.Module] = []
    for number in range(3):
        layers += [torch.nn.Conv3d(width if number else 1, width, 3, padding=1), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Conv3d(width, classes, 1)).eval()


def stitch_node(size: tuple[int, ...], classes: int) -> float:
    from inference.networks.labels import winners
    from inference.networks.windows import slabs
    from inference.packages.network import Windows

    image, net = torch.zeros(1, *size), Answer(classes)
    labels = np.empty(size, np.uint8)
    windows = Windows(size=WINDOW, overlap=OVERLAP)
    start = time.perf_counter()
    for slab in slabs(image, net, windows, lambda: None, averaged=False):
        labels[slab.first : slab.first + slab.values.shape[1]] = winners(slab.values).numpy()
    return time.perf_counter() - start


def stitch_monai(size: tuple[int, ...], classes: int) -> float:
    from monai.inferers.utils import sliding_window_inference

    image, net = torch.zeros(1, 1, *size), Answer(classes)
    start = time.perf_counter()
    answer = sliding_window_inference(image, WINDOW, 1, net, overlap=OVERLAP, mode="gaussian")
    answer.argmax(1).to(torch.uint8).numpy()
    return time.perf_counter() - start


def run_node(size: tuple[int, ...], classes: int) -> float:
    """Voxels to a mask: to the device, turned, normalised, windows, argmax, back."""
    from inference.networks.segment import segment
    from inference.packages.network import Segmentation
    from tests.inference.networks.making import network_of, nothing, opened, volume_of

    output = Segmentation(kind="segmentation", activation="softmax", segments=tuple(range(classes)))
    network = network_of(
        prepare=[{"do": "orient", "to": "SAR"}, {"do": "range", "low": -1000, "high": 1000}],
        windows={"size": WINDOW, "overlap": 0.25},
        average="logits",
        output=output,
    )
    volume, net = volume_of(_voxels(size)), small_network(classes, 16)
    start = time.perf_counter()
    segment(opened(volume, network, net), output, nothing, volume.voxel_ml)
    return time.perf_counter() - start


def run_bare(size: tuple[int, ...], classes: int) -> float:
    """The same windows through the network, and nothing else."""
    from inference.networks.windows import plan
    from inference.packages.network import Windows

    cut = plan(size, Windows(size=WINDOW, overlap=0.25))
    net, image = small_network(classes, 16), torch.rand(1, 1, *WINDOW)
    start = time.perf_counter()
    for _ in range(cut.count):
        net(image)
    return time.perf_counter() - start


def _voxels(size: tuple[int, ...]) -> Any:
    return np.random.default_rng(0).integers(-1000, 1000, size, dtype=np.int16)


TASKS = {"stitch-node": stitch_node, "stitch-monai": stitch_monai, "run-node": run_node, "run-bare": run_bare}

PAIRS = (
    (("stitch-node", "stitch-monai"), 3),
    (("stitch-node", "stitch-monai"), 25),
    (("run-node", "run-bare"), 3),
)


def measure(task: str, size: list[int], classes: int) -> dict[str, float]:
    """Seconds, CPU seconds and added memory (MB) of one task in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.inference", "--task", task, "--classes", str(classes), "--size"]
    out = subprocess.run([*command, *map(str, size)], capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def main() -> None:
    """Measure, or be measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, nargs=3, default=[160, 256, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="stitch or run; default: both")
    parser.add_argument("--task", choices=TASKS, help="be measured in this; the others are for measuring")
    parser.add_argument("--classes", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.task:
        torch.set_num_threads(arguments.threads)
        with torch.inference_mode():
            TASKS[arguments.task]((64, 96, 96), 2)  # imports, kernels
            before, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
            seconds = TASKS[arguments.task](tuple(arguments.size), arguments.classes)
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(json.dumps({"seconds": seconds, "cpu": time.process_time() - cpu, "memory": memory}))
        return
    for pair, classes in (one for one in PAIRS if one[0][0].startswith(arguments.only)):
        rounds = [[measure(task, arguments.size, classes) for task in pair] for _ in range(arguments.rounds)]
        for key in ("seconds", "cpu", "memory"):
            mine, theirs = ([found[side][key] for found in rounds] for side in (0, 1))
            ratios = [a / b for a, b in zip(mine, theirs, strict=True) if b]
            print(
                f"{classes} classes, {key}: {pair[0]} {statistics.median(mine):.2f}, {pair[1]} "
                f"{statistics.median(theirs):.2f}, ratio {min(ratios, default=0):.2f} to {max(ratios, default=0):.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
