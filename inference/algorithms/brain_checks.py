"""Decides whether what the brain networks marked is a whole brain, from its place, its size and their agreement.

The limits were set on a T1-weighted head (both networks agree with a Dice index of 0.98, no voxel lies on a face of the
volume) against copies of it that were cut, turned or reordered, bodies in CT, and geometric phantoms, for all of which
the networks mark something.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.imaging.irregular import COVERAGE_INCOMPLETE, INSUFFICIENT_QUALITY, NOT_SUPPORTED
from storage.facts.prediction import Reason

LEAST_AGREEMENT = 0.94  #: Dice index of the two networks' masks; 0.98 on heads, at most 0.93 on what is none
#: Area of the mask in cm² that may lie on each face of the volume, in the order of the axes: low end, high end. The
#: brain stem leaves through the lowest face; its section is below 10 cm².
LARGEST_CUT = ((2.0, 2.0), (2.0, 2.0), (10.0, 2.0))
_FACES = (("left", "right"), ("back", "front"), ("bottom", "top"))
#: Extent of an adult brain with cerebellum and stem in mm, generously: across, front to back, bottom to top.
EXTENT = ((105.0, 175.0), (135.0, 215.0), (105.0, 175.0))
_EXTENTS = ("across", "from back to front", "from bottom to top")

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What the networks said about a volume whose axes run to the right, front and head."""

    coarse: npt.NDArray[np.float32]  #: probabilities of the box network, over the whole volume
    mask: Mask  #: of the mask network, after post-processing
    spacing: tuple[float, float, float]  #: mm


def doubt(evidence: Evidence) -> Reason | None:
    """Why the mask is no whole brain, or None."""
    if not evidence.mask.any():
        return Reason(code=NOT_SUPPORTED, text="No brain was found in the images.")
    agreed = agreement(evidence)
    if agreed < LEAST_AGREEMENT:
        return Reason(
            code=INSUFFICIENT_QUALITY,
            text=f"The two networks do not agree on where the brain is (Dice index {agreed:.2f}, at least "
            f"{LEAST_AGREEMENT} needed): the images show no brain, or too poorly.",
        )
    cut = [f"{area:.0f} cm² at the {face}" for face, area, limit in _cuts(evidence) if area > limit]
    if cut:
        return Reason(
            code=COVERAGE_INCOMPLETE,
            text=f"The brain reaches the edge of the images ({', '.join(cut)}): a part of it was not imaged.",
        )
    for name, extent, (least, greatest) in zip(_EXTENTS, extents(evidence), EXTENT, strict=True):
        if not least <= extent <= greatest:
            return Reason(
                code=NOT_SUPPORTED,
                text=f"What was found measures {extent:.0f} mm {name}; an adult brain measures {least:.0f} to "
                f"{greatest:.0f} mm.",
            )
    return None


def agreement(evidence: Evidence) -> float:
    """Dice index of the two networks' masks, on the coarse grid."""
    coarse = evidence.coarse > 0.5
    places = [
        ((np.arange(n) + 0.5) * (size / n)).astype(np.intp)
        for n, size in zip(coarse.shape, evidence.mask.shape, strict=True)
    ]
    fine = evidence.mask[np.ix_(*places)]
    return 2.0 * float(np.count_nonzero(coarse & fine)) / float(np.count_nonzero(coarse) + np.count_nonzero(fine) or 1)


def extents(evidence: Evidence) -> Iterator[float]:
    """Size of the mask along each axis, in mm."""
    for axis, step in enumerate(evidence.spacing):
        planes = np.flatnonzero(evidence.mask.any(axis=tuple(a for a in range(3) if a != axis)))
        yield float(planes[-1] - planes[0] + 1) * step


def _cuts(evidence: Evidence) -> Iterator[tuple[str, float, float]]:
    """Each face of the volume with the area of mask on it (cm²) and what is allowed there."""
    cubic = float(np.prod(evidence.spacing))
    for axis, step in enumerate(evidence.spacing):
        for end in (0, 1):
            voxels = np.count_nonzero(np.take(evidence.mask, -end, axis=axis))
            yield _FACES[axis][end], float(voxels) * cubic / step / 100.0, LARGEST_CUT[axis][end]
