"""Writes under a picture what was found, so that it can be read at the size it is shown."""

from __future__ import annotations

from functools import cache

from PIL import Image, ImageDraw, ImageFont

from dicom_node.results import statement
from dicom_node.results.identity import series_description
from storage.facts.prediction import Prediction

FONT_PIXELS = 15  #: legible at 512 pixels
_LINE = 20  #: height of a line, pixels
_MARGIN = 8
_MOST_LINES = 12

Line = tuple[str, tuple[int, int, int]]
_WHITE, _GREY = (255, 255, 255), (170, 170, 170)


@cache
def font(pixels: int = FONT_PIXELS) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow, so that a picture is the same everywhere."""
    return ImageFont.load_default(size=pixels)


def under(picture: Image.Image, prediction: Prediction, where: str = "") -> Image.Image:
    """The picture with its caption below; ``where`` says which image it is."""
    width = picture.width - 2 * _MARGIN
    lines = [(part, colour) for text, colour in _lines(prediction) for part in _wrap(text, width)]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], ("… more in the report", _GREY)]
    if where:
        lines.append((where, _GREY))
    whole = Image.new("RGB", (picture.width, picture.height + _LINE * len(lines) + 2 * _MARGIN), (20, 20, 20))
    whole.paste(picture, (0, 0))
    draw = ImageDraw.Draw(whole)
    for number, (text, colour) in enumerate(lines):
        draw.text((_MARGIN, picture.height + _MARGIN + _LINE * number), text, colour, font())
    return whole


def _lines(prediction: Prediction) -> list[Line]:
    lines: list[Line] = [(series_description(prediction.algorithm), _WHITE)]
    lines += [(statement.finding(finding), _WHITE) for finding in prediction.findings]
    if prediction.reason is not None:
        lines += [(sentence, _WHITE) for sentence in statement.outcome(prediction)]
    lines += [(statement.measurement(given), _WHITE) for given in prediction.measurements]
    for segment in prediction.segments:
        for given in segment.measurements:
            lines.append((statement.measurement(given, segment.label), _lighter(segment.colour)))
        if not segment.measurements:
            lines.append((segment.label, _lighter(segment.colour)))
    return lines


def _lighter(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """A dark colour on the dark ground is lightened until it can be read."""
    red, green, blue = (c + (255 - c) // 3 for c in colour)
    return red, green, blue


def _wrap(text: str, width: int) -> list[str]:
    """Break a sentence at spaces so that each line fits into ``width`` pixels."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font().getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line] if line else lines
