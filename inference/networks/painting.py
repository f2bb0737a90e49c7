"""Brings a network's averaged answer to the grid of the series as segment numbers, slab by slab."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

import numpy as np
import torch

from inference.networks.between import paint_between
from inference.networks.labels import Classes, Labels, Values
from inference.networks.launched import paint_launched
from inference.networks.way import Way
from inference.networks.windows import Slab


def paint(slabs: Iterable[Slab], way: Way, classes: Classes, *, nearest: bool) -> Labels:
    """Segment numbers on the grid of the series, or states where segments may overlap; 0 where the series was cut off.

    ``nearest``: labels are taken from the nearest voxel instead of interpolating values.
    """
    turned = way.turned
    first, second, third = (way.orientation.axes.index(axis) for axis in range(3))
    found = np.zeros((turned[first], turned[second], turned[third]), classes.dtype)
    labels = way.orientation.apply(found)  # a view: what is painted lies where the series has it
    if nearest and not way.is_same_grid:
        _paint_nearest(slabs, way, classes, labels)
        return found
    slabs = iter(slabs)
    start = next(slabs)
    slabs = chain([start], slabs)
    if not way.is_same_grid and start.values.device.type == "cpu":
        paint_between(slabs, way, classes, labels)
        return found
    # Plane by plane, each byte would go to another line of the series: all at once is faster.
    into = labels if abs(labels.strides[2]) == labels.itemsize else np.zeros(turned, classes.dtype)
    if way.is_same_grid:
        _copy(slabs, classes, into)
    else:
        paint_launched(slabs, way, classes, into)
    if into is not labels:
        labels[...] = into
    return found


def _copy(slabs: Iterable[Slab], classes: Classes, labels: Labels) -> None:
    """Segment numbers of the network's grid; on a CPU row by row, in threads."""
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for slab in slabs:
            into = labels[slab.first : slab.first + slab.values.shape[1]]
            if slab.values.device.type != "cpu":
                into[...] = classes.segments(classes.states(slab.values)).cpu().numpy()
                continue

            list(threads.map(partial(_copy_row, slab.values.numpy(), classes, into), range(len(into))))


def _copy_row(values: Values, classes: Classes, into: Labels, row: int) -> None:
    into[row] = classes.numbers(classes.found(values[:, row, None])[0])


def _paint_nearest(slabs: Iterable[Slab], way: Way, classes: Classes, labels: Labels) -> None:
    """Labels of the network's grid, each voxel of the series from its nearest one."""
    coarse = np.empty(way.size, classes.dtype)
    _copy(slabs, classes, coarse)
    seen = tuple(slice(axis.first, axis.stop) for axis in way.axes)
    places = [
        np.floor(axis.positions()[part] + 0.5).astype(np.int64) for axis, part in zip(way.axes, seen, strict=True)
    ]
    # In the order of the series, the last axis first: what follows then copies whole lines, and whole planes.
    lying = [way.orientation.axes.index(axis) for axis in range(3)]
    near, into = coarse.transpose(lying), labels[seen].transpose(lying)
    lines = near.take(places[lying[2]], 2).take(places[lying[1]], 1)
    for plane, place in enumerate(places[lying[0]]):
        into[plane] = lines[place]
