"""Runs a declared network that detects: parts of its maps, or its own boxes, become boxes on the grid of the series.

Windows are joined by non-maximum suppression, models and mirrors by weighted box fusion, as the package declares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.algorithms.boxes import Boxes, fuse, suppress
from inference.algorithms.raw import Box, Raw
from inference.imaging.volume import Volume
from inference.networks.boxed import boxed
from inference.networks.forward import Opened, maps_of, open_network, views
from inference.networks.way import Way
from inference.packages.network import Detecting
from inference.packages.package import Package
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured, Rejected

Floats = npt.NDArray[np.float64]
Place = tuple[float, float, float]
MOST = 1000  #: candidates of a kind; more is a network that marks noise
OVERLAP = 0.5  #: of boxes, from which they mark one thing where the package does not say


def detect(volume: Volume, package: Package, runtime: Runtime, output: Detecting) -> Raw:
    """Boxes with their probability; planes are looked at one by one where the network sees planes.

    Raises Misconfigured when the network has other channels than are declared, Rejected when it gives no numbers.
    """
    opened = open_network(volume, package, runtime)
    planes = opened.network.windows.dimensions == 2
    apart = output.form == "boxes" or output.fuse is not None
    looks = views(opened) if apart else iter([(opened, ())])
    found = [_looked(view, axes, output, runtime.checkpoint) for view, axes in looks]
    boxes: list[Box] = []
    for number, key in enumerate(output.keys):
        if not key:
            continue
        runtime.checkpoint()
        for one in _rows(_merged([view[number] for view in found], output, planes=planes)):
            low, high = _on_source(*one[:2], opened.way, volume.voxels.shape)
            box = Box(key=key, low=low, high=high, score=one[2], values={})
            boxes.append(box if output.extent is None else _measured(box, volume, output.extent))
    return Raw(boxes=tuple(boxes), device=str(opened.nets.device))


def _looked(view: Opened, axes: Sequence[int], output: Detecting, checkpoint: Callable[[], None]) -> list[Boxes]:
    """The candidates of each channel that one look gives, on the network's grid, mirrored back."""
    seen = _of_boxes(view, output, checkpoint) if output.form == "boxes" else _of_maps(view, output, checkpoint)
    return [_mirrored(boxes, axes, view.image.shape[1:]) for boxes in seen]


def _of_boxes(view: Opened, output: Detecting, checkpoint: Callable[[], None]) -> list[Boxes]:
    found = boxed(view, output, checkpoint)
    if not all(np.isfinite(each).all() for each in (found.low, found.high, found.chances)):
        raise Rejected("The network gave values that are no numbers; its result is withheld.")
    first = 1 if view.network.windows.dimensions == 2 else 0
    edges = (found.high - found.low)[:, first:]
    large = (edges > 0).all(axis=1) & (edges.clip(0).prod(axis=1) >= output.smallest)
    seen = []
    for chances in found.chances.T:
        order = np.argsort(-chances, kind="stable")
        kept = order[(large & (chances >= output.at_least))[order]][:MOST]
        seen.append(Boxes(low=found.low[kept], high=found.high[kept], scores=chances[kept]))
    return seen


def _of_maps(view: Opened, output: Detecting, checkpoint: Callable[[], None]) -> list[Boxes]:
    values = maps_of(view, checkpoint)
    if len(values) != len(output.keys):
        raise Misconfigured(
            f"the network gives {len(values)} maps, but keys of [network.output] names {len(output.keys)}"
        )
    if not np.isfinite(values).all():
        raise Rejected("The network gave values that are no numbers; its result is withheld.")
    planes = view.network.windows.dimensions == 2
    return [
        _parts(chances, output, planes=planes) if key else _boxes([])
        for key, chances in zip(output.keys, values, strict=True)
    ]


def _parts(chances: npt.NDArray[np.float32], output: Detecting, *, planes: bool) -> Boxes:
    """Connected parts of a map, the most probable first, each with the greatest probability in it."""
    touching = np.ones((3, 3, 3), bool)
    if planes:
        touching[[0, 2]] = False
    labels, count = ndimage.label(chances >= output.at_least, touching)
    if not count:
        return _boxes([])
    parts = ndimage.find_objects(labels)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    scores = ndimage.maximum(chances, labels, np.arange(1, count + 1))
    rim = np.array([0.0 if planes else 0.5, 0.5, 0.5])
    rows = []
    for number in np.argsort(-scores, kind="stable")[:MOST]:
        if sizes[number] >= output.smallest:
            first, stop = np.array([(part.start, part.stop) for part in parts[number]], np.float64).T
            rows.append(np.r_[first - rim, stop - 1 + rim, scores[number]])
    return _boxes(rows)


def _merged(views: Sequence[Boxes], output: Detecting, *, planes: bool) -> Boxes:
    """One box for each thing; in planes, of each plane by itself."""
    if not planes:
        return _joined(views, output)
    numbers = np.unique(np.concatenate([view.low[:, 0] for view in views]))
    rows: list[Floats] = []
    for number in numbers:
        inside = [_of_plane(view, number) for view in views]
        joined = _joined(inside, output)
        rows += [np.r_[number, low, number, high, score] for low, high, score in _rows(joined)]
    rows.sort(key=lambda row: -row[-1])
    return _boxes(rows)


def _of_plane(boxes: Boxes, number: float) -> Boxes:
    inside = boxes.low[:, 0] == number
    return Boxes(low=boxes.low[inside, 1:], high=boxes.high[inside, 1:], scores=boxes.scores[inside])


def _joined(views: Sequence[Boxes], output: Detecting) -> Boxes:
    own = OVERLAP if output.form == "boxes" else None
    most = output.suppress or own
    if most is not None:
        views = [_picked(view, suppress(view, most)) for view in views]
    return views[0] if len(views) == 1 else fuse(views, output.fuse or OVERLAP)


def _picked(boxes: Boxes, kept: npt.NDArray[np.intp]) -> Boxes:
    return Boxes(low=boxes.low[kept], high=boxes.high[kept], scores=boxes.scores[kept])


def _mirrored(boxes: Boxes, axes: Sequence[int], size: Sequence[int]) -> Boxes:
    low, high = boxes.low.copy(), boxes.high.copy()
    for axis in axes:
        low[:, axis], high[:, axis] = size[axis] - 1 - boxes.high[:, axis], size[axis] - 1 - boxes.low[:, axis]
    return Boxes(low=low, high=high, scores=boxes.scores)


def _on_source(low: Floats, high: Floats, way: Way, shape: tuple[int, ...]) -> tuple[Place, Place]:
    """Outer edges from the network's grid to the grid of the series; a plane keeps its own number."""
    first, last = way.point(_place(low)), way.point(_place(high))
    largest = np.array(shape) - 0.5
    ends = np.minimum(first, last), np.maximum(first, last)
    return _place(np.clip(ends[0], -0.5, largest)), _place(np.clip(ends[1], -0.5, largest))


def _place(numbers: Floats) -> Place:
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _rows(boxes: Boxes) -> Iterator[tuple[Floats, Floats, float]]:
    return zip(boxes.low, boxes.high, map(float, boxes.scores), strict=True)


def _boxes(rows: Sequence[Floats]) -> Boxes:
    """From rows of lowest corner, highest corner, score."""
    table = np.array(rows, np.float64).reshape(-1, 7)
    return Boxes(low=table[:, :3], high=table[:, 3:6], scores=table[:, 6])


def _measured(box: Box, volume: Volume, key: str) -> Box:
    edges = [(high - low) * step for low, high, step in zip(box.low, box.high, volume.spacing, strict=True)]
    return Box(key=box.key, low=box.low, high=box.high, score=box.score, values={key: float(max(edges))})
