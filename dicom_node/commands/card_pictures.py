"""Draws a picture onto the page of a PDF, as lines and areas, so that it stays sharp in print."""

from __future__ import annotations

from collections.abc import Callable

from fpdf import FPDF

from storage.facts.picture import ON_PAPER, Area, Disc, Picture, Shape, Stroke, Text, Tone

_SCALE = 0.22  #: mm a unit: texts of 11 units come to 7 points
_DASH, _GAP = 1.2, 0.9  #: mm
_POINTS = 72 / 25.4  #: a mm


def picture(pdf: FPDF, shown: Picture, plain: Callable[[str], str]) -> None:
    """Draw it where the page is written to next, on a new page if need be; ``plain`` makes texts what the font has."""
    tall = shown.height * _SCALE
    if pdf.will_page_break(tall + 3):
        pdf.add_page()
    left, top = pdf.l_margin, pdf.get_y() + 3
    for shape in shown.shapes:
        _shape(pdf, shape, (left, top), plain)
    pdf.set_xy(left, top + tall)


def _shape(pdf: FPDF, shape: Shape, origin: tuple[float, float], plain: Callable[[str], str]) -> None:
    def at(place: tuple[float, float]) -> tuple[float, float]:
        return origin[0] + place[0] * _SCALE, origin[1] + place[1] * _SCALE

    if isinstance(shape, Text):
        _text(pdf, shape, at(shape.at), plain(shape.text))
    elif isinstance(shape, Stroke):
        pdf.set_draw_color(_colour(shape.tone))
        pdf.set_line_width(shape.width * _SCALE)
        if shape.is_dashed:
            pdf.set_dash_pattern(dash=_DASH, gap=_GAP)
        pdf.polyline([at(place) for place in shape.places])
        pdf.set_dash_pattern()
        pdf.set_line_width(0.2)
    else:
        with pdf.local_context(fill_opacity=shape.opacity):
            pdf.set_fill_color(_colour(shape.tone))
            if isinstance(shape, Area):
                pdf.polygon([at(place) for place in shape.outline], style="F")
            elif isinstance(shape, Disc):
                x, y = at(shape.at)
                pdf.circle(x, y, shape.radius * _SCALE, style="F")


def _text(pdf: FPDF, text: Text, at: tuple[float, float], said: str) -> None:
    pdf.set_font("Helvetica", "B" if text.is_bold else "", text.size * _SCALE * _POINTS)
    pdf.set_text_color(_colour(text.tone))
    before = {"start": 0.0, "middle": 0.5, "end": 1.0}[text.anchor] * pdf.get_string_width(said)
    x, y = at
    with pdf.rotation(90 if text.is_turned else 0, x, y):
        pdf.text(x - before, y, said)


def _colour(tone: Tone) -> str:
    return ON_PAPER[tone]
