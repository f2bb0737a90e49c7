"""Networks whose answer is known, and what their packages declare."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

Tensor = torch.Tensor
KERNEL = (0.25, 0.5, 0.25)  #: of the blur, along each axis

DENOISER = """
[network]
[[network.models]]
weights = "net"
format = "export"
[[network.prepare]]
do = "orient"
to = "RAS"
[[network.prepare]]
do = "range"
low = -1024
high = 3071
to = [-1, 1]
{steps}
[network.output]
kind = "enhancement"
image = "denoised"
residual = {residual}

[[images]]
key = "denoised"
label = "Denoised"
method = {{ value = "113088", scheme = "DCM", meaning = "Gaussian blur" }}
text = "Averaged over neighbouring voxels"
"""


class Blur(torch.nn.Module):
    """A weighted mean over 27 voxels; with ``residual`` what that takes off."""

    def __init__(self, *, residual: bool = False) -> None:
        super().__init__()
        self._residual = residual
        self.convolution = torch.nn.Conv3d(1, 1, 3, padding=1, padding_mode="replicate", bias=False)
        line = torch.tensor(KERNEL)
        cube = line[:, None, None] * line[None, :, None] * line[None, None, :]
        self.convolution.weight = torch.nn.Parameter(cube[None, None], requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        """(windows, 1, depth, height, width), the same."""
        blurred: Tensor = self.convolution(image)
        return image - blurred if self._residual else blurred


def exported(module: torch.nn.Module, *, dimensions: int = 3) -> bytes:
    """A torch.export archive that takes any size."""
    sizes = {axis: torch.export.Dim(f"size{axis}", min=4, max=512) for axis in range(2, 2 + dimensions)}
    program = torch.export.export(
        module.eval(), (torch.zeros(1, 1, *range(6, 6 + dimensions)),), dynamic_shapes=[sizes]
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def blurred(voxels: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """What ``Blur`` makes of a volume, by scipy."""
    result = voxels.astype(np.float64)
    for axis in range(3):
        result = ndimage.convolve1d(result, KERNEL, axis=axis, mode="nearest")
    return result
