"""From a volume to a mask on its own grid, as ``[network.output]`` of kind segmentation declares it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from inference.networks.apart import apart
from inference.networks.clean import clean
from inference.networks.device import memory
from inference.networks.forward import Opened, activated, stream
from inference.networks.labels import Classes, paint
from inference.networks.windows import Slab
from inference.packages.network import Segmentation
from storage.facts.errors import Misconfigured, Rejected


def segment(
    opened: Opened, output: Segmentation, checkpoint: Callable[[], None], voxel_ml: float
) -> list[npt.NDArray[np.uint8]]:
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
            answers = (replace(slab, values=activated(network, slab.values, 0)) for slab in answers)
        labels = paint(answers, way, classes, nearest=nearest)
    maps = apart(labels, output, voxel_ml) if output.overlapping else [clean(labels, output.clean, voxel_ml)]
    return [np.ascontiguousarray(way.orientation.undo(one)) for one in maps]


def _sound(answers: Iterator[Slab], classes: int) -> Iterator[Slab]:
    for slab in answers:
        if slab.values.shape[0] != classes:
            raise Misconfigured(
                f"the network gives {slab.values.shape[0]} classes, but segments of [network.output] names {classes}"
            )
        if not torch.isfinite(slab.values.sum()):
            raise Rejected("The network gave values that are no numbers; its result is withheld.")
        yield slab
