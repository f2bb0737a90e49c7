"""Says between which voxels of the network each voxel of the series lies, along one axis."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inference.networks.way import Axis

DENSE = 0.2  #: part of a plane from which on it is interpolated whole: to gather a value costs five times as much
Indices = npt.NDArray[np.int64]


class Ends:
    """The two voxels of the network's axis that each voxel of the series lies between, and the weight of the second."""

    low: Indices
    high: Indices
    weight: npt.NDArray[np.float64]

    def __init__(self, axis: Axis) -> None:
        places = axis.positions()
        if axis.nearest:
            places = np.floor(places + 0.5)
        self.low = np.clip(np.floor(places).astype(np.int64), 0, axis.size - 1)
        self.high = np.minimum(self.low + 1, axis.size - 1)
        self.weight = places - self.low
        self.high[self.weight == 0] = self.low[self.weight == 0]
        self._part = slice(axis.first, axis.stop)

    @property
    def seen(self) -> tuple[Indices, Indices, npt.NDArray[np.float32]]:
        """The same of the voxels that the network saw, weights in float32."""
        return self.low[self._part], self.high[self._part], self.weight[self._part].astype(np.float32)
