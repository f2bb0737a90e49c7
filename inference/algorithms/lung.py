"""Measures how dense the lungs are on CT: volume, mean, %LAA-950 and Perc15 of the aerated parenchyma.

What is measured is exactly what the mask shows: voxels under -400 HU inside the lungs, without trachea and main
bronchi. -400 HU lies half way between parenchyma (about -850) and soft tissue (about +50), so that a blurred pleura
falls where it is. Vessels, nodules and consolidation above it are left out, since densitometry is about parenchyma and
the convention leaves out large vessels and airways (QIBA profile for CT lung density): the volume is therefore that of
aerated lung, smaller than total lung capacity by vessels and disease. Indices: %LAA-950 after Gevenois et al., Am J
Respir Crit Care Med 1996;154:187; Perc15 after Dirksen et al., Am J Respir Crit Care Med 1999;160:1468.

The anatomy is decided on a grid of about 2.5 mm, the border on the full grid. Where a rule has a number, it was chosen
from anatomy and checked on real scans, not fitted to a phantom.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.algorithms import airways
from inference.algorithms.airways import Airways, Spacing, Trachea
from storage.facts.errors import Rejected

RIGHT, LEFT = 1, 2  #: values in the mask
GAS = 3  #: only while lungs and gas are told apart

TISSUE_HU = -400  #: half way between parenchyma and soft tissue
WALL_HU = -600  #: a diaphragm or junction line, blurred by the scan, is still denser; most parenchyma is not
GAS_HU = -900  #: a tenth of any lung is denser; nothing in the middle of a bubble is
EMPHYSEMA_HU = -950  #: low attenuation area
PADDING_HU = -1024  #: nothing measured is lighter
GRID_MM = 2.5  #: of the coarse grid
GAS_ML = 2.0  #: smaller bubbles are not looked at
PIECE_ML = 20.0  #: smaller parts of a lung have no say of their own
LUNG_ML = 100.0  #: the largest piece of a lung is at least this
SMALLEST_ML = 400.0  #: less than an adult holds even after breathing out
CUT_CM2 = 5.0  #: lung in the outermost frame that makes the scan incomplete
TRACE_CM2 = 0.5  #: and that is worth a warning
EROSIONS = 5  #: of coarse voxels, to part lungs that touch
SHARE = 0.1  #: of the larger lung; a smaller other side is no lung


class Refusal(StrEnum):
    """Why lungs are not measured."""

    NO_LUNGS = "no aerated lung is in the scan"
    CUT_AT_TOP = "the lung apices are not in the scan"
    CUT_AT_BOTTOM = "the lung bases are not in the scan"
    NO_AIRWAY = "no trachea leads to the aerated region"
    TOO_SMALL = "the aerated lung is smaller than 400 mL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Densitometry:
    """What is measured in one region; zeros where it is empty."""

    volume_ml: float
    mean_hu: float
    laa950_percent: float  #: share of voxels under -950 HU
    perc15_hu: int  #: the HU that 15 % of the voxels do not exceed


@dataclass(frozen=True, slots=True, kw_only=True)
class LungResult:
    """Mask and numbers, or a refusal; a refused scan keeps an empty mask."""

    mask: NDArray[np.uint8]  #: shape of the scan: 1 right lung, 2 left lung, 0 else
    both: Densitometry
    right: Densitometry
    left: Densitometry
    airway_ml: float  #: lumen of trachea and main bronchi, excluded
    tracheal_air_hu: float | None
    refusal: Refusal | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """The scan in blocks of about GRID_MM."""

    hu: NDArray[np.int16]  #: mean of the block
    open: NDArray[np.bool_]  #: no wall runs through the block
    factors: tuple[int, int, int]
    spacing: Spacing

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing)) / 1000.0


def _go_on() -> None:
    """Nothing waits."""


def measure(hu: NDArray[np.int16], spacing: Spacing, checkpoint: Callable[[], None] = _go_on) -> LungResult:
    """Lung densitometry of one axial CT.

    ``hu``: frames from foot to head, rows from front to back, columns from the patient's right to left. ``spacing``: mm
    between frames, rows, columns. ``checkpoint`` is called between the steps. Raises Rejected where the array is no
    volume, and what the checkpoint raises.
    """
    if hu.ndim != 3 or min(hu.shape) < 8 or min(spacing) <= 0:
        raise Rejected(f"a lung CT needs at least 8 frames, rows and columns and a positive spacing, not {hu.shape}")
    grid = _coarsen(hu, spacing)
    checkpoint()
    body = _body(grid.hu)
    trachea = airways.find_trachea(grid.hu, body, grid.spacing)
    checkpoint()
    tree = airways.grow(hu, spacing, trachea, grid.factors) if trachea else None
    air = (grid.hu < TISSUE_HU) & body & ~_blocks(tree, grid)
    checkpoint()
    lungs, gas = _pieces(air & grid.open, grid)
    if not lungs:
        return _refused(hu.shape, Refusal.NO_LUNGS, tree)
    midline = float(np.mean(trachea.columns)) if trachea else _midline(body)
    checkpoint()
    sides = _sides(air, lungs, gas, midline)
    checkpoint()
    mask = _full(hu, sides, air, grid.factors, tree)
    checkpoint()
    refusal, warnings = _complete(mask, spacing, trachea)
    both, right, left = _densitometry(hu, mask, spacing)
    if refusal is None and both.volume_ml < SMALLEST_ML:
        refusal = Refusal.TOO_SMALL
    if refusal is not None:
        return _refused(hu.shape, refusal, tree)
    return LungResult(
        mask=mask,
        both=both,
        right=right,
        left=left,
        airway_ml=tree.volume_ml if tree else 0.0,
        tracheal_air_hu=tree.air_hu if tree else None,
        refusal=None,
        warnings=(*warnings, *_remarks(right, left, tree)),
    )


def _coarsen(hu: NDArray[np.int16], spacing: Spacing) -> _Grid:
    """Block means, and which blocks hold no wall; rows, columns and frames that fill no block are dropped."""
    factors = tuple(max(1, round(GRID_MM / s)) for s in spacing)
    frames, rows, columns = (n // f for n, f in zip(hu.shape, factors, strict=True))
    size = int(np.prod(factors))
    means, walls = np.empty((frames, rows, columns), np.int16), np.empty((frames, rows, columns), np.int32)
    for k in range(frames):
        slab = hu[k * factors[0] : (k + 1) * factors[0], : rows * factors[1], : columns * factors[2]]
        means[k] = _block_sums(slab, factors) // size
        walls[k] = _block_sums(slab >= WALL_HU, factors)
    spaced = tuple(s * f for s, f in zip(spacing, factors, strict=True))
    return _Grid(
        hu=means,
        open=walls <= size // 32,
        factors=(factors[0], factors[1], factors[2]),
        spacing=(spaced[0], spaced[1], spaced[2]),
    )


def _block_sums(slab: NDArray[Any], factors: tuple[int, ...]) -> NDArray[np.int32]:
    """Sums over blocks of one slab that is one block deep."""
    flat = slab.sum(axis=0, dtype=np.int32)
    rows, columns = flat.shape[0] // factors[1], flat.shape[1] // factors[2]
    by_row = flat.reshape(rows, factors[1], flat.shape[1]).sum(axis=1)
    sums: NDArray[np.int32] = by_row.reshape(rows, columns, factors[2]).sum(axis=2, dtype=np.int32)
    return sums


def _body(coarse: NDArray[np.int16]) -> NDArray[np.bool_]:
    """The largest piece of tissue with everything that it encloses in its axial cuts."""
    labels, count = ndimage.label(coarse > TISSUE_HU)
    if not count:
        return np.zeros(coarse.shape, np.bool_)
    body = labels == int(np.bincount(labels.ravel())[1:].argmax()) + 1
    return np.stack([ndimage.binary_fill_holes(cut) for cut in body])


def _blocks(tree: Airways | None, grid: _Grid) -> NDArray[np.bool_]:
    """Coarse blocks that hold airway."""
    out = np.zeros(grid.hu.shape, np.bool_)
    if tree is not None:
        starts = (part.start for part in tree.box)
        at = np.array([(i + b) // f for i, b, f in zip(np.nonzero(tree.mask), starts, grid.factors, strict=True)])
        within = (at < np.array(out.shape)[:, np.newaxis]).all(axis=0)
        out[tuple(at[:, within])] = True
    return out


def _pieces(open_air: NDArray[np.bool_], grid: _Grid) -> tuple[list[NDArray[np.bool_]], NDArray[np.bool_]]:
    """Parts that no wall crosses: those that are lung, and all those that are gas (stomach, bowel)."""
    labels, _ = ndimage.label(open_air)
    sizes = np.bincount(labels.ravel()) * grid.voxel_ml
    sizes[0] = 0.0
    lungs: list[NDArray[np.bool_]] = []
    gas = np.zeros(open_air.shape, np.bool_)
    boxes = ndimage.find_objects(labels)
    for number in np.argsort(-sizes):
        if sizes[number] < GAS_ML:
            break
        box = boxes[number - 1]
        piece = labels[box] == number
        if _is_gas(piece, grid.hu[box]):
            gas[box] |= piece
        elif sizes[number] >= (PIECE_ML if lungs else LUNG_ML):
            whole = np.zeros(open_air.shape, np.bool_)
            whole[box] = piece
            lungs.append(whole)
    return lungs, gas


def _is_gas(piece: NDArray[np.bool_], coarse: NDArray[np.int16]) -> bool:
    """Whether nearly all of a piece, away from its blurred rim, is about as light as room air.

    The 90th percentile tells emphysema from bowel: even destroyed lungs keep denser parts, a bubble has none.
    """
    core = ndimage.binary_erosion(piece)
    return float(np.percentile(coarse[core if core.any() else piece], 90)) < GAS_HU


def _midline(body: NDArray[np.bool_]) -> float:
    columns = np.flatnonzero(body.any(axis=(0, 1)))
    return float(columns.mean()) if columns.size else body.shape[2] / 2.0


def _sides(
    air: NDArray[np.bool_], lungs: list[NDArray[np.bool_]], gas: NDArray[np.bool_], midline: float
) -> NDArray[np.uint8]:
    """1 for right, 2 for left, for all air that hangs together with a lung piece and is no nearer to gas."""
    seeds = np.zeros(air.shape, np.uint8)
    seeds[gas] = GAS
    for piece in lungs:
        box = ndimage.find_objects(piece.astype(np.uint8))[0]
        seeds[box][piece[box]] = _part(piece[box], midline - box[2].start)[piece[box]]
    labels, count = ndimage.label(air)
    reached = np.zeros(count + 1, np.bool_)
    reached[labels[(seeds == RIGHT) | (seeds == LEFT)]] = True
    reached[0] = False
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    sides = np.where(reached[labels], seeds[tuple(nearest)], 0)
    return np.where(sides == GAS, 0, sides).astype(np.uint8)


def _part(piece: NDArray[np.bool_], midline: float) -> NDArray[np.uint8]:
    """Erodes a piece until it falls into two lungs, then gives each voxel to the nearer one."""
    core = piece
    for _ in range(EROSIONS):
        seeds = _two_lungs(core, midline)
        if seeds is not None:
            nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
            return np.asarray(seeds[tuple(nearest)])
        core = ndimage.binary_erosion(core)
    centre = float(np.nonzero(piece)[2].mean())
    return np.full(piece.shape, RIGHT if centre < midline else LEFT, np.uint8)


def _two_lungs(core: NDArray[np.bool_], midline: float) -> NDArray[np.uint8] | None:
    """The two largest parts as RIGHT and LEFT if they lie either side of the midline and neither is a mere scrap."""
    labels, count = ndimage.label(core)
    if count < 2:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    pair = np.argsort(-sizes)[:2] + 1
    if sizes[pair[1] - 1] < SHARE * sizes[pair[0] - 1]:
        return None
    centres = [float(np.nonzero(labels == number)[2].mean()) for number in pair]
    if not min(centres) < midline < max(centres):
        return None
    right, left = pair if centres[0] < centres[1] else pair[::-1]
    return np.where(labels == right, RIGHT, np.where(labels == left, LEFT, 0)).astype(np.uint8)


def _full(
    hu: NDArray[np.int16],
    sides: NDArray[np.uint8],
    air: NDArray[np.bool_],
    factors: tuple[int, int, int],
    tree: Airways | None,
) -> NDArray[np.uint8]:
    """The mask on the full grid: coarse sides and one block around them, cut at TISSUE_HU, less the airways."""
    other = ndimage.binary_dilation(air & (sides == 0))
    rim = ndimage.grey_dilation(sides, footprint=ndimage.generate_binary_structure(3, 1))
    grown = np.where(sides > 0, sides, np.where(other, 0, rim))
    mask = np.zeros(hu.shape, np.uint8)
    rows, columns = grown.shape[1] * factors[1], grown.shape[2] * factors[2]
    for k in np.flatnonzero(grown.any(axis=(1, 2))):
        fine = grown[k].repeat(factors[1], axis=0).repeat(factors[2], axis=1)
        for frame in range(k * factors[0], (k + 1) * factors[0]):
            np.multiply(fine, hu[frame, :rows, :columns] < TISSUE_HU, out=mask[frame, :rows, :columns])
    if tree is not None:
        mask[tree.box][tree.mask] = 0
    return mask


def _complete(
    mask: NDArray[np.uint8], spacing: Spacing, trachea: Trachea | None
) -> tuple[Refusal | None, tuple[str, ...]]:
    """Whether lung reaches the first or the last frame, and whether an airway was there."""
    pixel_cm2 = spacing[1] * spacing[2] / 100.0
    depth = max(1, round(GRID_MM / spacing[0]))
    bottom, top = (
        max(np.count_nonzero(mask[k]) for k in frames) * pixel_cm2
        for frames in (range(depth), range(mask.shape[0] - depth, mask.shape[0]))
    )
    if top > CUT_CM2:
        return Refusal.CUT_AT_TOP, ()
    if bottom > CUT_CM2:
        return Refusal.CUT_AT_BOTTOM, ()
    if trachea is None:
        return Refusal.NO_AIRWAY, ()
    ends = (("first", bottom), ("last", top))
    return None, tuple(
        f"{area:.1f} cm² of lung lie in the {name} frame: a little is cut off"
        for name, area in ends
        if area > TRACE_CM2
    )


def _densitometry(
    hu: NDArray[np.int16], mask: NDArray[np.uint8], spacing: Spacing
) -> tuple[Densitometry, Densitometry, Densitometry]:
    """Of both lungs, the right and the left, from one histogram each; no copy of the scan."""
    counts = np.zeros((3, TISSUE_HU - PADDING_HU), np.int64)
    for frame, labels in zip(hu, mask, strict=True):
        for side in (RIGHT, LEFT):
            values = frame[labels == side]
            if values.size:
                bins = np.maximum(values, PADDING_HU).astype(np.int64) - PADDING_HU
                counts[side] += np.bincount(bins, minlength=counts.shape[1])
    voxel_ml = float(np.prod(spacing)) / 1000.0
    return _numbers(counts.sum(axis=0), voxel_ml), _numbers(counts[RIGHT], voxel_ml), _numbers(counts[LEFT], voxel_ml)


def _numbers(counts: NDArray[np.int64], voxel_ml: float) -> Densitometry:
    total = int(counts.sum())
    if not total:
        return Densitometry(volume_ml=0.0, mean_hu=0.0, laa950_percent=0.0, perc15_hu=0)
    values = np.arange(PADDING_HU, TISSUE_HU)
    return Densitometry(
        volume_ml=total * voxel_ml,
        mean_hu=float(counts @ values) / total,
        laa950_percent=100.0 * float(counts[values < EMPHYSEMA_HU].sum()) / total,
        perc15_hu=int(values[np.searchsorted(np.cumsum(counts), 0.15 * total)]),
    )


def _remarks(right: Densitometry, left: Densitometry, tree: Airways | None) -> list[str]:
    """What a reader should know about a result that stands."""
    remarks = []
    if min(right.volume_ml, left.volume_ml) < SHARE * max(right.volume_ml, left.volume_ml):
        remarks.append(f"only the {'right' if right.volume_ml > left.volume_ml else 'left'} lung is aerated")
    if tree is None:
        remarks.append("the central airways could not be outlined and are counted as lung")
    elif not -1015 <= tree.air_hu <= -940:
        remarks.append(f"air in the trachea reads {tree.air_hu:.0f} HU, not -1000: check the scanner's calibration")
    return remarks


def _refused(shape: tuple[int, ...], refusal: Refusal, tree: Airways | None) -> LungResult:
    nothing = _numbers(np.zeros(TISSUE_HU - PADDING_HU, np.int64), 0.0)
    return LungResult(
        mask=np.zeros(shape, np.uint8),
        both=nothing,
        right=nothing,
        left=nothing,
        airway_ml=tree.volume_ml if tree else 0.0,
        tracheal_air_hu=tree.air_hu if tree else None,
        refusal=refusal,
    )
