"""Lays a map of values over the image that it belongs to, with its scale: a picture for eyes.

The colours are a straight line through nine points of matplotlib's ``inferno`` (van der Walt and Smith 2015, CC0), in
which equal steps of the value look equal, also in grey.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from dicom_node.results import lettering, overlay

Values = npt.NDArray[np.float32]

_INFERNO = np.array(
    [
        (0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85), (227, 89, 51), (249, 140, 10),
        (249, 201, 50), (252, 255, 164),
    ],
    np.float64,
)  # fmt: skip
_MOST = 0.65  #: share of the colour where the value is 1
_SHOWN_FROM = 0.05  #: values below leave the image as it is
_BAR = 14  #: height of the scale, pixels
_MARGIN = 8


def panel(values: Values, pixels: overlay.Pixels, geometry: Dataset, *, size: int = 512) -> Image.Image:
    """The image with the map upon it, side markers, and the scale from 0 to 1 below."""
    sides = overlay.sides_of(geometry)
    level = np.clip(np.nan_to_num(values), 0, 1).astype(np.float32)
    strong = pixels[level >= max(float(level.max()) / 2, _SHOWN_FROM)]
    image = overlay.plainly(pixels, geometry, strong, size=size).convert("RGB")
    mirrored = level[:: -1 if sides.flip_rows else 1, :: -1 if sides.flip_columns else 1]
    large = np.asarray(Image.fromarray(np.ascontiguousarray(mirrored)).resize(image.size, Image.Resampling.BILINEAR))
    rise = np.clip((large - _SHOWN_FROM) / (1 - _SHOWN_FROM), 0, 1)  # without an edge where it begins
    alpha = _MOST * np.sqrt(rise)[..., None]
    mixed = (1 - alpha) * np.asarray(image, np.float64) + alpha * colours(large)
    whole = Image.new("RGB", (size, image.height), "black")
    whole.paste(Image.fromarray(np.round(mixed).astype(np.uint8)), ((size - image.width) // 2, 0))
    overlay.mark_sides(whole, sides)
    return _with_scale(whole)


def colours(level: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The colour of each value between 0 and 1, RGB on a last axis, 0 to 255."""
    steps = np.linspace(0, 1, len(_INFERNO))
    return np.stack([np.interp(level, steps, _INFERNO[:, channel]) for channel in range(3)], axis=-1)


def _with_scale(picture: Image.Image) -> Image.Image:
    whole = Image.new("RGB", (picture.width, picture.height + _BAR + 2 * _MARGIN), (20, 20, 20))
    whole.paste(picture, (0, 0))
    draw, font, top = ImageDraw.Draw(whole), lettering.font(), picture.height + _MARGIN
    left, right = 3 * _MARGIN, picture.width - 3 * _MARGIN
    ramp = colours(np.tile(np.linspace(0, 1, right - left, dtype=np.float32), (_BAR, 1)))
    whole.paste(Image.fromarray(np.round(ramp).astype(np.uint8)), (left, top))
    draw.rectangle([left - 1, top - 1, right, top + _BAR], outline="white")
    middle = top + _BAR / 2
    draw.text((left - 4, middle), "0", "white", font, anchor="rm")
    draw.text((right + 4, middle), "1", "white", font, anchor="lm")
    return whole
