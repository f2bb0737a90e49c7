"""A model card as PDF, for the file of a quality officer."""

from __future__ import annotations

import datetime

from fpdf import FPDF
from fpdf.enums import TableBordersLayout, XPos, YPos
from fpdf.fonts import FontFace

from dicom_node.commands.card_parts import Card, Section, Table
from dicom_node.commands.card_pictures import picture
from storage.facts.plotting import drawn

_ENCODING = "cp1252"  #: of the fonts that every PDF reader brings along
_SPELLED = str.maketrans({"≥": ">=", "≤": "<=", "→": "->", "−": "-", "\u2009": " ", "\u202f": " "})
_INK, _FAINT, _RED, _LINE = (28, 36, 48), (91, 102, 117), (156, 31, 31), (217, 222, 229)
_WIDTHS = {2: (30, 70), 3: (24, 26, 50), 4: (18, 24, 30, 28), 5: (20, 13, 12, 20, 35)}


def pdf_of(card: Card, made_at: datetime.datetime) -> bytes:
    """The card as a document in A4."""
    pdf = _Pages(format="A4")
    pdf.core_fonts_encoding = _ENCODING  # the library's own default knows neither dashes nor an ellipsis
    pdf.running = _plain(card.subtitle)
    pdf.set_creation_date(made_at)
    pdf.set_title(_plain(f"{card.title}: {card.kind}"))
    pdf.set_margin(18)
    pdf.set_auto_page_break(True, margin=20)
    pdf.add_page()
    _line(pdf, card.title, size=18, bold=True)
    _line(pdf, card.subtitle, size=10, colour=_FAINT)
    use = "For research, not for primary diagnosis" if card.is_research else "For clinical use as stated"
    _line(pdf, use, bold=True, colour=_RED if card.is_research else _INK)
    _line(pdf, card.standing, colour=_FAINT)
    for section in card.sections:
        _section(pdf, section)
    return bytes(pdf.output())


class _Pages(FPDF):
    """Pages with a foot."""

    running = ""

    def footer(self) -> None:
        """See FPDF."""
        self.set_y(-14)
        self.set_font("Helvetica", "", 8)
        self.set_text_color(*_FAINT)
        self.cell(0, 5, f"{self.running}   {self.page_no()}/{{nb}}", align="R")


def _section(pdf: FPDF, section: Section) -> None:
    pdf.ln(4)
    if pdf.will_page_break(24):
        pdf.add_page()
    _line(pdf, section.title, size=12, bold=True)
    for text in section.paragraphs:
        _line(pdf, text, size=9)
    for chart in section.charts:
        picture(pdf, drawn(chart), _plain)
    for table in section.tables:
        _table(pdf, table)


def _table(pdf: FPDF, table: Table) -> None:
    pdf.ln(1)
    if pdf.will_page_break(20):  # a title, heads and a row stay together
        pdf.add_page()
    if table.title:
        _line(pdf, table.title, size=9, bold=True)
    pdf.set_font("Helvetica", "", 8)
    pdf.set_text_color(*_INK)
    pdf.set_draw_color(*_LINE)
    widths = _WIDTHS.get(len(table.heads))
    heads = FontFace(emphasis="BOLD", color=_FAINT)
    with pdf.table(
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        col_widths=widths,
        headings_style=heads,
        line_height=4,
        padding=(0.8, 1.5, 0.8, 0),
        text_align="LEFT",
        v_align="TOP",
    ) as made:
        for cells in (table.heads, *table.rows):
            row = made.row()
            for cell in cells:
                row.cell(_plain(cell))


def _line(pdf: FPDF, text: str, *, size: int = 10, bold: bool = False, colour: tuple[int, int, int] = _INK) -> None:
    pdf.set_font("Helvetica", "B" if bold else "", size)
    pdf.set_text_color(*colour)
    pdf.multi_cell(0, size * 0.48, _plain(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT, align="L")


def _plain(text: str) -> str:
    """What the font has; a question mark stands for the rest."""
    return text.translate(_SPELLED).encode(_ENCODING, "replace").decode(_ENCODING)
