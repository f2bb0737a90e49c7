"""Reads projection radiographs (CR, DX, MG): what stands for their place in the patient, and their grey scale.

A projection has no position. Its grid is given nominal directions from Patient Orientation (0020,0020), an origin of
zero and one frame of 1 mm, so that images are turned and resampled as volumes are; no coordinate means a place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi

from inference.imaging.header import items, number, texts

#: Storage classes of PS3.4 B.5 whose images are projections: CR, DX, mammography, intra-oral; presentation, processing.
PROJECTIONS = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.1",
        *(f"1.2.840.10008.5.1.4.1.1.1.{kind}{purpose}" for kind in (1, 2, 3) for purpose in ("", ".1")),
    }
)
_DIRECTIONS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "H": (2, 1), "F": (2, -1)}
_UPRIGHT = ("L", "F")  #: how a frontal image is hung, and so taken where the header is silent
Pixels = npt.NDArray[np.float32]


def direction(header: Dataset) -> tuple[float, ...]:
    """Nominal direction along a row, then down a column (LPS), by the first letter of each value of PS3.3 C.7.6.1.1.1.

    A frontal image that hangs upright where the header does not say, or says what cannot be.
    """
    stated = [text[0].upper() for text in texts(header, "PatientOrientation")]
    known = len(stated) == 2 and all(letter in _DIRECTIONS for letter in stated)
    if not known or _DIRECTIONS[stated[0]][0] == _DIRECTIONS[stated[1]][0]:
        stated = list(_UPRIGHT)
    found = np.zeros((2, 3))
    for line, letter in zip(found, stated, strict=True):
        axis, sign = _DIRECTIONS[letter]
        line[axis] = sign
    return tuple(map(float, found.ravel()))


def pixel_spacing(header: Dataset) -> tuple[float, float] | None:
    """Between rows and columns, in mm, None where it is not stated.

    Pixel Spacing where it was calibrated; else that of the detector, divided by the magnification where one was
    estimated (PS3.3 10.7.1.3).
    """
    for keyword, factor in (
        ("PixelSpacing", 1.0),
        ("ImagerPixelSpacing", number(header, "EstimatedRadiographicMagnificationFactor") or 1.0),
    ):
        stated = [float(text) for text in texts(header, keyword)]
        if len(stated) == 2:
            return stated[0] / factor, stated[1] / factor
    return None


def brightness(header: Dataset, stored: npt.NDArray[np.generic], padding: npt.NDArray[np.bool_] | None) -> Pixels:
    """Values after the modality LUT or rescale, turned over for MONOCHROME1, so that more is always brighter.

    Padding becomes the darkest value of the rest. Raises ValueError as pydicom does where a table cannot be true.
    """
    values = np.asarray(apply_modality_lut(stored, header), np.float32)
    if _is_inverse(header):
        values = _mirrored(header, values)
    if padding is not None and padding.any():
        values[padding] = values[~padding].min() if not padding.all() else 0
    return values


def presented(header: Dataset, values: Pixels) -> Pixels:
    """What a viewer would show first, 0 (black) to 1: the image's own VOI LUT or window (PS3.3 C.11.2).

    Of several the first; from the least to the greatest value where the image states none.
    """
    inverse = _is_inverse(header)
    given = _mirrored(header, values) if inverse else values
    table = items(header, "VOILUTSequence")
    centre, width = number(header, "WindowCenter"), number(header, "WindowWidth")
    if table:
        bits = int(table[0].LUTDescriptor[2])
        shown = apply_voi(np.rint(given).astype(np.int32), header, 0).astype(np.float32) / (2**bits - 1)
    elif centre is not None and width is not None and width > 0:
        shown = _windowed(given, centre, width, next(iter(texts(header, "VOILUTFunction")), "LINEAR").upper())
    else:
        low, high = float(given.min()), float(given.max())
        shown = (given - low) / (high - low) if high > low else np.zeros_like(given)
    return np.asarray(1 - shown if inverse else shown, np.float32)


def _windowed(values: Pixels, centre: float, width: float, function: str) -> Pixels:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, to 0..1."""
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values.astype(np.float64) - centre) / width)), np.float32)
    if function == "LINEAR" and width > 1:
        centre, width = centre - 0.5, width - 1
    return np.asarray(np.clip((values - centre) / width + 0.5, 0, 1), np.float32)


def _is_inverse(header: Dataset) -> bool:
    return "MONOCHROME1" in texts(header, "PhotometricInterpretation")


def _mirrored(header: Dataset, values: Pixels) -> Pixels:
    """Values counted from the other end of what the image can hold; twice is the same again."""
    bits = int(number(header, "BitsStored") or 16)
    signed = number(header, "PixelRepresentation") == 1
    table = items(header, "ModalityLUTSequence")
    if table:
        return np.asarray(np.float32(2 ** int(table[0].LUTDescriptor[2]) - 1) - values, np.float32)
    ends = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    total = sum(ends) * (1.0 if slope is None else slope) + 2 * (intercept or 0.0)
    return np.asarray(np.float32(total) - values, np.float32)
