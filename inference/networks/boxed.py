"""Runs a network that gives boxes: window after window, each box in its place on the network's grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from inference.networks.device import memory
from inference.networks.forward import Opened, activate, computing
from inference.networks.windows import plan
from inference.packages.network import Detecting
from storage.facts.errors import Misconfigured

Tensor = torch.Tensor
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boxed:
    """Boxes on the network's grid, in indices: whole numbers are centres of voxels, edges lie between them."""

    low: Floats  #: (n, 3); of a plane, the first number is that of the plane in both corners
    high: Floats  #: (n, 3)
    chances: Floats  #: (n, kinds)


def boxed(opened: Opened, output: Detecting, checkpoint: Callable[[], None]) -> Boxed:
    """What the only model of ``opened`` finds in all windows.

    Raises Misconfigured where it gives something else than (windows, candidates, corners and a value for each kind).
    """
    (net,) = opened.nets.members
    found = []
    with memory("the boxes of the network"), torch.inference_mode(), computing(opened.nets):
        for image, origins in _batches(opened):
            checkpoint()
            answer = net(image).float()
            _require_boxes(answer, len(origins), 2 * (image.ndim - 2), len(output.keys))
            corners = 2 * (image.ndim - 2)
            chances = activate(output.activation, answer[..., corners:], -1).double().cpu().numpy()
            places = answer[..., :corners].double().cpu().numpy()
            found += [
                _placed(each, of, output, origin) for each, of, origin in zip(places, chances, origins, strict=True)
            ]
    return Boxed(
        low=np.concatenate([one.low for one in found]),
        high=np.concatenate([one.high for one in found]),
        chances=np.concatenate([one.chances for one in found]),
    )


def _batches(opened: Opened) -> Iterator[tuple[Tensor, list[tuple[int, int, int]]]]:
    """Windows, (windows, channels, …), each with its first voxel on the network's grid."""
    windows, image = opened.network.windows, opened.image
    cut = plan(image.shape[1:], windows)
    if windows.dimensions == 2:
        last = image.shape[1] - 1
        for row in cut.rows:
            planes = range(*row)
            near = range(-windows.neighbours, windows.neighbours + 1)
            for second, third in cut.columns:
                part = image[:, :, slice(*second), slice(*third)]
                stacked = [part[:, [min(max(p + n, 0), last) for p in planes]] for n in near]
                yield torch.cat(stacked, dim=0).transpose(0, 1), [(p, second[0], third[0]) for p in planes]
        return
    for row in cut.rows:
        for first in range(0, len(cut.columns), windows.batch):
            group = cut.columns[first : first + windows.batch]
            parts = [image[:, slice(*row), slice(*second), slice(*third)] for second, third in group]
            yield torch.stack(parts), [(row[0], second[0], third[0]) for second, third in group]


def _require_boxes(answer: Tensor, windows: int, corners: int, kinds: int) -> None:
    if answer.ndim != 3 or answer.shape[0] != windows or answer.shape[2] != corners + kinds:
        raise Misconfigured(
            f"the network gives {tuple(answer.shape)}: boxes are ({windows}, candidates, {corners} numbers of the "
            f"corners and {kinds} of the kinds that keys names)"
        )


def _placed(corners: Floats, chances: Floats, output: Detecting, origin: Sequence[int]) -> Boxed:
    """Boxes of one window on the whole grid; from outer edges to indices."""
    half = corners.shape[1] // 2
    first, second = corners[:, :half], corners[:, half:]
    if output.axes == "reversed":
        first, second = first[:, ::-1], second[:, ::-1]
    if output.corners == "centre":
        first, second = first - second / 2, first + second / 2
    low, high = first - 0.5 + np.array(origin[3 - half :]), second - 0.5 + np.array(origin[3 - half :])
    if half == 2:
        plane = np.full((len(low), 1), float(origin[0]))
        low, high = np.hstack([plane, low]), np.hstack([plane, high])
    return Boxed(low=low, high=high, chances=chances)
