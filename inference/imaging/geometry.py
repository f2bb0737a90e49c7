"""The stack that the planes of a series form, as numbers, so that a series can be refused before pixels are decoded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.imaging.irregular import INCOMPLETE, INCORRECTLY_FORMATTED, NOT_SUPPORTED, Irregular
from inference.imaging.planes import Plane

Vector = npt.NDArray[np.float64]

FEWEST_FRAMES = 3  #: fewer slices do not show whether their spacing is even
SAME_PLACE_MM = 0.01  #: slices nearer than this along the normal lie at one place
SAME_DIRECTION = 1e-3  #: largest difference between direction cosines of parallel planes (0.06 degrees)
LARGEST_IRREGULARITY = 0.1  #: a step may differ from the median step by this part: scanners round positions to 0.1 mm
LARGEST_DRIFT = 0.25  #: a slice may lie off the even grid by this part of a step
LARGEST_TILT = 0.5  #: degrees: 2.6 mm over a 300 mm stack
PLANE_LIMIT = math.cos(math.radians(35.0))  #: a plane has its anatomical name up to this angle
PROJECTION = "projection"  #: the orientation of a radiograph
_NAMES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What can be said of a stack without its pixels. Lengths in mm, angles in degrees."""

    orientation: str  #: axial, coronal, sagittal or oblique; projection of a radiograph
    frames: int
    rows: int
    columns: int
    pixel_spacing: tuple[float, float]  #: between rows, between columns
    spacing: float  #: median step between slices, along the normal
    thickness: float | None  #: as stated; None where the header does not say
    irregularity: float  #: largest deviation of a step from the median step, as a part of it
    largest_gap: float  #: largest step
    drift: float  #: largest distance of a slice from the even grid
    tilt: float  #: between the normal and the line through the slices: gantry tilt
    coverage: float  #: extent along the normal, slices included
    duplicates: int  #: slices at a place that another one has


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Planes in their order along the normal, and the numbers of their geometry."""

    planes: tuple[Plane, ...]
    geometry: Geometry
    affine: Vector  #: 4 x 4: (frame, row, column, 1) to patient coordinates (LPS) in mm

    def check(self) -> None:
        """Raises Irregular unless the slices form an even, straight, complete grid within the tolerances above.

        And unless their values can be compared: where some slices alone state a rescale, it was lost in the others.
        """
        g = self.geometry
        rescaled = sum(plane.is_rescaled for plane in self.planes)
        if 0 < rescaled < len(self.planes):
            raise Irregular(
                INCORRECTLY_FORMATTED,
                f"{len(self.planes) - rescaled} of {g.frames} images state no rescale, unlike the others: what their "
                "values mean is not known.",
            )
        if g.duplicates:
            raise Irregular(
                INCORRECTLY_FORMATTED,
                f"{g.duplicates} of {g.frames} images lie where another image already lies (time points, echoes or "
                "reconstructions in one series): send one volume a series.",
            )
        if g.tilt > LARGEST_TILT:
            raise Irregular(
                NOT_SUPPORTED,
                f"The gantry was tilted by {g.tilt:.1f} degrees ({LARGEST_TILT} allowed): the slices form a sheared "
                "stack. Send a reconstruction without tilt.",
            )
        if g.irregularity > LARGEST_IRREGULARITY:
            raise Irregular(
                INCOMPLETE,
                f"Slices are missing or unevenly spaced: most lie {g.spacing:.2f} mm apart, but some "
                f"{g.largest_gap:.2f} mm (a step may differ by {LARGEST_IRREGULARITY:.0%} at most, here by "
                f"{g.irregularity:.0%}).",
            )
        if g.drift > LARGEST_DRIFT * g.spacing:
            raise Irregular(
                INCORRECTLY_FORMATTED,
                f"The slices do not lie on one even grid: one is {g.drift:.2f} mm off its place "
                f"({LARGEST_DRIFT * g.spacing:.2f} mm allowed).",
            )


def stack(planes: Sequence[Plane]) -> Stack:
    """Order planes along the normal of ImageOrientationPatient (feet to head for a standard axial series).

    Raises Irregular where the planes have no common direction, matrix or frame of reference, or are too few.
    """
    if any(plane.projection for plane in planes):
        return _projection(planes)
    _require_common(planes)
    first = planes[0]
    along, down = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    normal = np.cross(along, down)
    normal /= np.linalg.norm(normal)
    ordered = tuple(
        sorted(planes, key=lambda p: (float(np.dot(normal, p.position)), p.frame.sop_instance_uid, p.index))
    )
    positions = np.array([p.position for p in ordered])
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = step, down * first.spacing[0], along * first.spacing[1]
    affine[:3, 3] = positions[0]
    return Stack(planes=ordered, geometry=_measure(ordered, positions, normal), affine=affine)


def _projection(planes: Sequence[Plane]) -> Stack:
    """One radiograph as a stack of one frame, 1 mm thick for want of a depth."""
    if len(planes) > 1:
        raise Irregular(
            NOT_SUPPORTED,
            f"The series has {len(planes)} radiographs: a model sees one at a time. Send each view as a series of its "
            "own.",
        )
    plane = planes[0]
    along, down = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    affine = np.eye(4)
    affine[:3, 0] = np.cross(along, down)
    affine[:3, 1], affine[:3, 2] = down * plane.spacing[0], along * plane.spacing[1]
    geometry = Geometry(
        orientation=PROJECTION, frames=1, rows=plane.rows, columns=plane.columns, pixel_spacing=plane.spacing,
        spacing=0.0, thickness=None, irregularity=0.0, largest_gap=0.0, drift=0.0, tilt=0.0, coverage=0.0, duplicates=0,
    )  # fmt: skip
    return Stack(planes=(plane,), geometry=geometry, affine=affine)


def _require_common(planes: Sequence[Plane]) -> None:
    if len(planes) < FEWEST_FRAMES:
        raise Irregular(INCOMPLETE, f"The series has {len(planes)} slices: a volume needs {FEWEST_FRAMES} at least.")
    if len({p.frame_of_reference for p in planes}) > 1:
        raise Irregular(INCORRECTLY_FORMATTED, "The images of the series have different frames of reference.")
    if len({(p.rows, p.columns) for p in planes}) > 1:
        raise Irregular(INCORRECTLY_FORMATTED, "The images of the series have different numbers of rows or columns.")
    spacings = np.array([p.spacing for p in planes])
    if not np.allclose(spacings, spacings[0], rtol=1e-3, atol=0):
        raise Irregular(INCORRECTLY_FORMATTED, "The images of the series have different pixel spacings.")
    orientations = np.array([p.orientation for p in planes])
    if not np.allclose(orientations, orientations[0], rtol=0, atol=SAME_DIRECTION):
        raise Irregular(
            INCORRECTLY_FORMATTED,
            "The images of the series have different orientations (a localizer among them?): send one stack a series.",
        )


def _measure(planes: Sequence[Plane], positions: Vector, normal: Vector) -> Geometry:
    depths = positions @ normal
    steps = np.diff(depths)
    apart = steps[steps > SAME_PLACE_MM]
    spacing = float(np.median(apart)) if apart.size else 0.0
    line = positions[-1] - positions[0]
    grid = positions[0] + np.linspace(0, 1, len(planes))[:, None] * line
    length = float(np.linalg.norm(line))
    tilt = math.degrees(math.acos(min(1.0, abs(float(line @ normal)) / length))) if length > SAME_PLACE_MM else 0.0
    return Geometry(
        orientation=name_of(normal),
        frames=len(planes),
        rows=planes[0].rows,
        columns=planes[0].columns,
        pixel_spacing=planes[0].spacing,
        spacing=spacing,
        thickness=max((p.thickness for p in planes if p.thickness is not None), default=None),
        irregularity=float(np.max(np.abs(apart - spacing)) / spacing) if spacing else 0.0,
        largest_gap=float(np.max(steps)),
        drift=float(np.max(np.linalg.norm(positions - grid, axis=1))),
        tilt=tilt,
        coverage=float(depths[-1] - depths[0]) + spacing,
        duplicates=int(np.count_nonzero(steps <= SAME_PLACE_MM)),
    )


def name_of(normal: Vector) -> str:
    """The anatomical name of planes with that normal (a unit vector, LPS)."""
    axis = int(np.argmax(np.abs(normal)))
    return _NAMES[axis] if abs(normal[axis]) >= PLANE_LIMIT else "oblique"
