"""Writes under a picture what was found, so that it can be read at the size it is shown."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from dicom_node.results import statement
from dicom_node.results.identity import series_description
from dicom_node.results.language import Language, language
from dicom_node.results.lettering import drawable, font
from storage.facts.prediction import Prediction

_LINE = 20  #: height of a line, pixels
_MARGIN = 8
_MOST_LINES = 12

Line = tuple[str, tuple[int, int, int]]
_WHITE, _GREY = (255, 255, 255), (170, 170, 170)


def under(picture: Image.Image, prediction: Prediction, where: str = "", spoken: Language | None = None) -> Image.Image:
    """The picture with its caption below, in English unless told otherwise; ``where`` says which image it is."""
    spoken = spoken or language()
    lines = _lines(prediction, spoken)
    width = picture.width - 2 * _MARGIN
    wrapped = [(part, colour) for text, colour in lines for part in _wrap(text, width)]
    if len(wrapped) > _MOST_LINES:
        wrapped = [*wrapped[: _MOST_LINES - 1], (spoken.say("more"), _GREY)]
    return written(picture, [*wrapped, *([(where, _GREY)] if where else [])])


def sentences(picture: Image.Image, texts: Sequence[str]) -> Image.Image:
    """The picture with sentences below, the first of them a title."""
    width = picture.width - 2 * _MARGIN
    coloured = zip(texts, (_WHITE, *[_GREY] * len(texts)), strict=False)
    return written(picture, [(part, colour) for text, colour in coloured for part in _wrap(text, width)])


def written(picture: Image.Image, lines: Sequence[Line]) -> Image.Image:
    """The picture with lines of text below, each in its colour."""
    whole = Image.new("RGB", (picture.width, picture.height + _LINE * len(lines) + 2 * _MARGIN), (20, 20, 20))
    whole.paste(picture, (0, 0))
    draw = ImageDraw.Draw(whole)
    for number, (text, colour) in enumerate(lines):
        draw.text((_MARGIN, picture.height + _MARGIN + _LINE * number), drawable(text), colour, font())
    return whole


def _lines(prediction: Prediction, spoken: Language) -> list[Line]:
    """All that was said, research label first; a failure says why and nothing else."""
    lines: list[Line] = [(series_description(prediction.algorithm), _WHITE)]
    if prediction.reason is not None:
        lines += [(sentence, _WHITE) for sentence in statement.outcome(prediction, spoken)]
    if not statement.was_analysed(prediction):
        return lines
    lines += [(statement.finding(finding, spoken), _WHITE) for finding in prediction.findings]
    lines += [(statement.grade(grade, spoken), _WHITE) for grade in prediction.grades if grade.detection is None]
    for found in prediction.detections:
        colour = lighter(found.colour)
        lines.append((statement.detection(found, len(prediction.frames), spoken), colour))
        of_it = (grade for grade in prediction.grades if grade.detection == found.number)
        lines += [(statement.grade(grade, spoken), colour) for grade in of_it]
        lines += [(statement.measurement(given, spoken, found.label), colour) for given in found.measurements]
    lines += [(statement.measurement(given, spoken), _WHITE) for given in prediction.measurements]
    for segment in prediction.segments:
        for given in segment.measurements:
            lines.append((statement.measurement(given, spoken, segment.label), lighter(segment.colour)))
        if not segment.measurements:
            lines.append((segment.label, lighter(segment.colour)))
    return lines


def lighter(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """A dark colour on the dark ground is lightened until it can be read."""
    red, green, blue = (c + (255 - c) // 3 for c in colour)
    return red, green, blue


def _wrap(text: str, width: int) -> list[str]:
    """Break a sentence at spaces so that each line fits into ``width`` pixels; a word that is longer, anywhere."""
    lines, line = [], ""
    for word in drawable(text).split():
        longer = f"{line} {word}".strip()
        if line and not _fits(longer, width):
            lines.append(line)
            longer = word
        while not _fits(longer, width):
            end = max(1, bisect_right(range(1, min(len(longer), width)), float(width), key=_ends(longer)))
            lines.append(longer[:end])
            longer = longer[end:]
        line = longer
    return [*lines, line] if line else lines


def _fits(text: str, width: int) -> bool:
    """Whether a text fits into so many pixels; no letter is narrower than one."""
    return len(text) <= width and font().getlength(text) <= width


def _ends(text: str) -> Callable[[int], float]:
    """Where a text would end after so many letters, pixels."""
    return lambda letters: font().getlength(text[:letters])
