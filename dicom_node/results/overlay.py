"""Draws what a model marked on the image that shows most of it: a picture for eyes, never for measuring.

Patient left is on the picture's right, head or front on top, sides are marked, and pixels are square in the patient.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from contourpy import contour_generator
from PIL import Image, ImageDraw, ImageOps
from pydicom.dataset import Dataset

from dicom_node.results import caption, lettering, region
from dicom_node.results.language import Language
from dicom_node.results.normal import plain, value
from dicom_node.results.planes import numbers
from dicom_node.results.region import Labels
from storage.facts.prediction import Prediction, Segment

Pixels = npt.NDArray[np.float32]

LUNG = (-600.0, 1500.0)  #: centre and width, HU
SOFT_TISSUE = (40.0, 400.0)
BRAIN = (40.0, 80.0)
_HEADS = frozenset({"HEAD", "BRAIN", "SKULL"})  #: BodyPartExamined of what is shown in the window of the brain
_AIR_HU = -300.0  #: a mask of lower median is shown in the lung window
_FLAT = 60  #: grey values; what is magnified gets a contrast of its own where it has no more than these
_TINT = 0.22  #: share of the segment's colour inside its outline
_SMALL = 0.15  #: share of the picture below which what is marked is magnified
_INSET = 0.36  #: share of the picture that the magnified part takes
_AROUND = 12.0  #: pixels around a point or a small box that say what tissue it lies in
_RING = 9.0  #: radius of the ring around a point, pixels of the picture
_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """How an image must be mirrored to be shown as radiologists expect, and what its edges are then called."""

    flip_columns: bool = False
    flip_rows: bool = False
    right: str = ""  #: side of the patient at the right edge of the picture: L, R, A, P, H or F
    bottom: str = ""

    @property
    def left(self) -> str:
        """Side of the patient at the left edge."""
        return _OPPOSITE.get(self.right, "")

    @property
    def top(self) -> str:
        """Side of the patient at the upper edge."""
        return _OPPOSITE.get(self.bottom, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Something detected on the image: a closed outline, or a point."""

    points: region.Points  #: (n, 2): column, row, in DICOM's image coordinates; one for a point
    colour: tuple[int, int, int]
    name: str = ""  #: written beside it; a few characters


def key_frame(labels: Labels, segments: int) -> int | None:
    """The mask frame to show; None when nothing is marked."""
    return region.key_frame(region.areas(labels, segments))


def picture(
    prediction: Prediction, marked: Labels | None, pixels: Pixels, geometry: Dataset, *, size: int = 512
) -> bytes:
    """A PNG of one image with outlines, side markers and a caption; see ``drawn``."""
    buffer = io.BytesIO()
    drawn(prediction, marked, pixels, geometry, size=size).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def drawn(
    prediction: Prediction, marked: Labels | None, pixels: Pixels, geometry: Dataset, *, size: int = 512
) -> Image.Image:
    """One image with outlines, side markers and a caption; see ``outlined``."""
    return caption.under(outlined(prediction, marked, pixels, geometry, size=size), prediction)


def outlined(
    prediction: Prediction,
    marked: Labels | None,
    pixels: Pixels,
    geometry: Dataset,
    *,
    found: Sequence[Found] = (),
    size: int = 512,
) -> Image.Image:
    """One image with outlines and side markers.

    ``pixels`` are the modality values (HU for CT) of one frame, ``marked`` its labels on the same grid, ``found`` what
    was detected on it, the one to be magnified first. ``geometry`` is the header of the image, for a multi-frame one a
    flat data set of the frame's macros. ``size`` is the longer side of the image part, pixels.
    """
    sides = sides_of(geometry)
    inside = _inside(pixels, marked, found)
    grey = _grey(pixels, _window(geometry, pixels, inside), plain(value(geometry, "PhotometricInterpretation")))
    shown = _Shown(
        grey=mirror(grey, sides),
        marked=None if marked is None or not marked.any() else mirror(marked, sides),
        segments=prediction.segments,
        found=[_mirrored(each, sides, pixels.shape) for each in found],
        stretched=plain(value(geometry, "Modality")) != "CT",
    )
    width, height = shape_of(pixels.shape, geometry, size)
    canvas = Image.new("RGB", (size, height), "black")
    canvas.paste(_view(shown, _Box(0, 0, *grey.shape[::-1]), (width, height), _TINT), ((size - width) // 2, 0))
    _magnify(canvas, shown, (width, height))
    mark_sides(canvas, sides)
    return canvas


def plainly(pixels: Pixels, geometry: Dataset, inside: Pixels, *, size: int = 512) -> Image.Image:
    """One image without anything upon it, at the size of ``outlined`` but for its black borders.

    ``inside`` are the values that matter: the window is chosen after them.
    """
    sides = sides_of(geometry)
    window = _window(geometry, pixels, inside)
    grey = mirror(_grey(pixels, window, plain(value(geometry, "PhotometricInterpretation"))), sides)
    return Image.fromarray(grey).resize(shape_of(pixels.shape, geometry, size), Image.Resampling.BILINEAR)


def _inside(pixels: Pixels, marked: Labels | None, found: Sequence[Found]) -> Pixels:
    """The values that matter: under the mask, else in and around what was found."""
    if marked is not None and marked.any() and not found:
        inside: Pixels = pixels[region.marked(marked)]
        return inside
    if not found:
        return pixels[:0].ravel()
    low, high = found[0].points.min(axis=0), found[0].points.max(axis=0)
    around = np.maximum((high - low) / 2, _AROUND)
    (left, top), (right, bottom) = np.maximum(low - around, 0).astype(int), (high + around).astype(int)
    return pixels[top:bottom, left:right].ravel()


def _mirrored(one: Found, sides: Sides, shape: tuple[int, ...]) -> Found:
    points = one.points.copy()
    if sides.flip_columns:
        points[:, 0] = shape[1] - points[:, 0]
    if sides.flip_rows:
        points[:, 1] = shape[0] - points[:, 1]
    return replace(one, points=points)


def blank(prediction: Prediction, *, size: int = 512, spoken: Language | None = None) -> Image.Image:
    """The caption alone, where no image can be drawn upon: what was said must be seen all the same."""
    return caption.under(Image.new("RGB", (size, size // 8), "black"), prediction, spoken=spoken)


def sides_of(geometry: Dataset) -> Sides:
    """From ImageOrientationPatient; for projections from PatientOrientation; unmarked where neither is there."""
    cosines = numbers(geometry, "ImageOrientationPatient", 6)
    if cosines is not None:
        along, down = _letter(cosines[:3]), _letter(cosines[3:])
    else:
        stated = value(geometry, "PatientOrientation")
        letters = [plain(v)[:1].upper() for v in stated] if stated is not None and len(stated) == 2 else ["", ""]
        along, down = letters
        if along not in _OPPOSITE or down not in _OPPOSITE:
            return Sides()
    # Left of the patient to the right, front to the left of a sagittal; head or front on top.
    flip_columns, flip_rows = along in "RAF", down in "AH"
    return Sides(
        flip_columns=flip_columns,
        flip_rows=flip_rows,
        right=_OPPOSITE[along] if flip_columns else along,
        bottom=_OPPOSITE[down] if flip_rows else down,
    )


def _letter(direction: npt.NDArray[np.float64]) -> str:
    axis = int(np.argmax(np.abs(direction)))
    return ("L", "P", "H")[axis] if direction[axis] > 0 else ("R", "A", "F")[axis]


def _window(geometry: Dataset, pixels: Pixels, inside: Pixels) -> tuple[float, float]:
    """Lung, brain or soft tissue for CT, after the values that matter; else between the 1st and 99th percentile.

    So, too, where what matters would be black or white in the window: numbers that are no HU, or metal.
    """
    if plain(value(geometry, "Modality")) == "CT":
        at = float(np.median(inside)) if inside.size else None
        centre, width = _of_tissue(geometry, at)
        if abs(at - centre) < width / 2 if at is not None else float(pixels.max()) > centre - width / 2:
            return centre, width
    low, high = (float(v) for v in np.percentile(pixels, (1, 99)))
    return (low + high) / 2, max(high - low, 1e-6)


def _of_tissue(geometry: Dataset, at: float | None) -> tuple[float, float]:
    """The window for a value that matters, HU; for the body part where there is none."""
    if at is not None and at < _AIR_HU:
        return LUNG
    head = plain(value(geometry, "BodyPartExamined")).upper() in _HEADS
    return BRAIN if head and (at is None or abs(at - BRAIN[0]) < BRAIN[1] / 2) else SOFT_TISSUE


def _grey(pixels: Pixels, window: tuple[float, float], photometric: str) -> npt.NDArray[np.uint8]:
    centre, width = window
    scaled = np.clip((pixels - (centre - width / 2)) / width, 0, 1)
    shown = 1 - scaled if photometric == "MONOCHROME1" else scaled
    grey: npt.NDArray[np.uint8] = np.round(255 * shown).astype(np.uint8)
    return grey


def shape_of(shape: tuple[int, ...], geometry: Dataset, size: int) -> tuple[int, int]:
    """Width and height in which a millimetre is as long one way as the other."""
    spacing = numbers(geometry, "PixelSpacing", 2)
    if spacing is None:
        spacing = numbers(geometry, "ImagerPixelSpacing", 2)
    if spacing is None or not (spacing > 0).all():
        spacing = np.ones(2)
    tall, wide = shape[0] * spacing[0], shape[1] * spacing[1]
    scale = size / max(tall, wide)
    return max(round(wide * scale), 1), max(round(tall * scale), 1)


def mirror(array: npt.NDArray[Any], sides: Sides) -> npt.NDArray[Any]:
    mirrored = array[..., :: -1 if sides.flip_rows else 1, :: -1 if sides.flip_columns else 1]
    return np.ascontiguousarray(mirrored)


class _Box(NamedTuple):
    """A part of an image, pixels; 0, 0 is the outer corner of the first."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What is drawn, as it is shown: mirrored, windowed."""

    grey: npt.NDArray[np.uint8]
    marked: Labels | None
    segments: Sequence[Segment]
    found: Sequence[Found]
    stretched: bool  #: what is magnified gets a contrast of its own


def _view(shown: _Shown, box: _Box, size: tuple[int, int], tint: float) -> Image.Image:
    """A part of the image at a size, every contour of every segment, islands and holes too, and a tint inside."""
    image = Image.fromarray(shown.grey).resize(size, Image.Resampling.BILINEAR, box=box)
    if not tint and (shown.stretched or _is_flat(image)):
        image = ImageOps.autocontrast(image, cutoff=1)
    image = image.convert("RGB")
    scale = np.array(size) / (box.right - box.left, box.bottom - box.top)
    for segment in shown.segments:
        bits = np.zeros_like(shown.grey, bool) if shown.marked is None else region.bits(shown.marked, segment.number)
        if not bits.any():
            continue
        inside = Image.fromarray((bits * round(255 * tint)).astype(np.uint8)).resize(size, box=box)
        image = Image.composite(Image.new("RGB", size, segment.colour), image, inside)
        draw = ImageDraw.Draw(image)
        for line in contour_generator(z=np.pad(bits.astype(np.float32), 1)).lines(0.5):
            corners = (np.asarray(line) - 0.5 - (box.left, box.top)) * scale
            draw.line([(float(x), float(y)) for x, y in corners], fill=segment.colour, width=2, joint="curve")
    for one in shown.found:
        _point_out(image, one, (one.points - (box.left, box.top)) * scale)
    return image


def _is_flat(image: Image.Image) -> bool:
    low, high = np.percentile(np.asarray(image), (1, 99))
    return bool(high - low < _FLAT)


def _point_out(image: Image.Image, one: Found, points: region.Points) -> None:
    """A box or a ring in its colour on black, so that it is seen on any ground."""
    draw, colour = ImageDraw.Draw(image), caption.lighter(one.colour)
    if len(points) == 1:
        points = np.concatenate([points - _RING, points + _RING])
        for width, ink in ((4, (0, 0, 0)), (2, colour)):
            draw.ellipse([tuple(map(float, corner)) for corner in points], outline=ink, width=width)
    else:
        corners = [(float(x), float(y)) for x, y in points]
        for width, ink in ((4, (0, 0, 0)), (2, colour)):
            draw.line(corners, fill=ink, width=width, joint="curve")
    right, top = float(points[:, 0].max()) + 3, float(points[:, 1].min()) - 2
    if one.name:
        draw.text(
            (right, top),
            lettering.drawable(one.name),
            colour,
            lettering.font(),
            anchor="ls",
            stroke_width=2,
            stroke_fill="black",
        )


def _magnify(canvas: Image.Image, shown: _Shown, size: tuple[int, int]) -> None:
    """Where what matters is small, show it large in the corner that is farthest from it, untinted."""
    scale = np.array(size) / shown.grey.shape[::-1]
    extent = _extent(shown)
    if extent is None:
        return
    low, high = extent[0] * scale, extent[1] * scale
    if (high - low).max() > _SMALL * max(size):
        return
    half = min(max(float((high - low).max()), min(size) / 20), min(size) / 2)
    middle = np.clip((low + high) / 2, half, np.array(size) - half)
    box = _Box(*(float(v) for v in np.concatenate([middle - half, middle + half]) / np.tile(scale, 2)))
    side = round(_INSET * min(canvas.size))
    inset = ImageOps.expand(_view(shown, box, (side, side), 0.0), 2, "white")
    at_right, at_bottom = middle < np.array(size) / 2
    margin = 4
    x = canvas.width - inset.width - margin if at_right else margin
    y = canvas.height - inset.height - margin if at_bottom else margin
    canvas.paste(inset, (x, y))
    left = (canvas.width - size[0]) // 2
    corners = [(float(x), float(y)) for x, y in (middle - half + (left, 0), middle + half + (left, 0))]
    ImageDraw.Draw(canvas).rectangle([corners[0], corners[1]], outline="white")


def _extent(shown: _Shown) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """The corners of what was found first, else of all that is marked."""
    if shown.found:
        return shown.found[0].points.min(axis=0), shown.found[0].points.max(axis=0)
    if shown.marked is None:
        return None
    rows, columns = (np.flatnonzero(region.marked(shown.marked).any(axis=axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0]], np.float64), np.array([columns[-1] + 1, rows[-1] + 1], np.float64)


def mark_sides(canvas: Image.Image, sides: Sides) -> None:
    draw, font = ImageDraw.Draw(canvas), lettering.font(20)
    middle, centre = canvas.height / 2, canvas.width / 2
    places = {
        "lm": (4.0, middle, sides.left),
        "rm": (canvas.width - 4.0, middle, sides.right),
        "ma": (centre, 4.0, sides.top),
        "md": (centre, canvas.height - 4.0, sides.bottom),
    }
    for anchor, (x, y, letter) in places.items():
        if letter:
            draw.text((x, y), letter, "white", font, anchor=anchor, stroke_width=2, stroke_fill="black")
