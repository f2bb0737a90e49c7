"""From a volume to a mask on its own grid, as ``[network.output]`` of kind segmentation declares it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from inference.networks.apart import apart
from inference.networks.clean import clean
from inference.networks.device import memory
from inference.networks.forward import Opened, activated, stream
from inference.networks.labels import Classes, Labels, softmax
from inference.networks.painting import paint
from inference.networks.windows import Slab
from inference.packages.network import Segmentation
from storage.facts.errors import Misconfigured, Rejected

ROWS = 8  #: of an answer that are activated at a time on a GPU


def segment(opened: Opened, output: Segmentation, checkpoint: Callable[[], None], voxel_ml: float) -> list[Labels]:
    """Segment numbers (frames, rows, columns), cleaned; several maps where segments overlap.

    Raises Misconfigured when the network's classes are not those that are declared, Rejected when it gives no numbers.
    """
    network, way = opened.network, opened.way
    early = network.average == "probabilities"
    soft = output.back == "probabilities" and not early  # logits are averaged, probabilities brought back
    nearest = output.back == "labels"
    needs_mean = not output.competing or not (nearest or way.is_same_grid)
    classes = Classes(output, as_logits=not early and not soft, device=opened.nets.device)
    soft = soft and (
        needs_mean or not output.competing
    )  # the class with the greatest logit has the greatest probability
    with memory("the answer of the network"), torch.inference_mode():
        answers = _sound(stream(opened, checkpoint, averaged=needs_mean), len(output.segments))
        if soft:
            answers = _activated(answers, opened)
        labels = paint(answers, way, classes, nearest=nearest)
    return apart(labels, output, voxel_ml) if output.overlapping else [clean(labels, output.clean, voxel_ml)]


def _activated(answers: Iterator[Slab], opened: Opened) -> Iterator[Slab]:
    """Probabilities in the place of logits, a row at a time: of many classes, a slab is the peak of memory."""
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for slab in answers:
            values = slab.values
            if values.untyped_storage().data_ptr() == opened.image.untyped_storage().data_ptr():
                values = values.clone()  # a network may give back what it was given
            if values.device.type == "cpu" and getattr(opened.network.output, "activation", "") == "softmax":
                list(threads.map(softmax, values.numpy().swapaxes(0, 1)))
            else:
                for first in range(0, values.shape[1], ROWS):
                    some = values[:, first : first + ROWS]
                    some.copy_(activated(opened.network, some, 0))
            yield replace(slab, values=values)


def _sound(answers: Iterator[Slab], classes: int) -> Iterator[Slab]:
    for slab in answers:
        if slab.values.shape[0] != classes:
            raise Misconfigured(
                f"the network gives {slab.values.shape[0]} classes, but segments of [network.output] names {classes}"
            )
        if not torch.isfinite(slab.values.sum()):
            raise Rejected("The network gave values that are no numbers; its result is withheld.")
        yield slab
