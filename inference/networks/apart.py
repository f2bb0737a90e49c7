"""Takes segments that overlap apart: label maps, in each of which no voxel is in two of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from inference.networks.clean import clean
from inference.packages.network import Clean, Segmentation

Labels = npt.NDArray[Any]  #: of 8 or 16 bits


def apart(states: npt.NDArray[Any], output: Segmentation, voxel_ml: float) -> list[Labels]:
    """As few maps as it takes when each segment goes, in the order of numbers, to the first one where it has room.

    ``states``: a set of bits for each voxel, one for each channel. Segments are cleaned each by itself before; those
    without a voxel are in none. There is always one map.
    """
    kind = np.dtype(np.min_scalar_type(max(output.segments))).type
    maps: list[Labels] = [np.zeros(states.shape, kind)]
    for channel, number in sorted(enumerate(output.segments), key=lambda pair: pair[1]):
        own = (states >> states.dtype.type(channel) & states.dtype.type(1)).astype(kind) * kind(number)
        own = clean(own, _steps(output, number), voxel_ml)
        where = own > 0
        free = next((one for one in maps if not one[where].any()), None)
        if free is None:
            maps.append(own)
        else:
            free[where] = number
    return maps


def _steps(output: Segmentation, number: int) -> list[Clean]:
    """What is done to one segment."""
    return [step.model_copy(update={"segments": (number,)}) for step in output.clean if number in step.segments]
