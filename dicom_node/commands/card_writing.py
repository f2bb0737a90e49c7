"""Shows a card: as lines for a terminal, as HTML or as PDF."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from dicom_node.commands.card_parts import Card
from storage.facts.errors import Misconfigured, Transient


def lines_of(card: Card) -> Iterator[str]:
    """The card for a terminal."""
    yield card.title
    yield card.subtitle
    yield f"{'for research' if card.is_research else 'for clinical use'}; {card.standing}"
    for section in card.sections:
        yield ""
        yield section.title.upper()
        for text in section.paragraphs:
            yield from (f"  {line}" for line in text.splitlines())
        for found in section.tables:
            if found.title:
                yield f"  {found.title}"
            heads = (found.heads,) if len(found.heads) > 2 else ()  # two columns explain themselves
            for row in (*heads, *found.rows):
                yield "  " + " | ".join(cell for cell in row if cell)


def write_card(file: Path, card: Card) -> None:
    """The card as a file. Raises Misconfigured for another kind of file, Transient when it cannot be written."""
    # Only a card that is written needs its renderer.
    if file.suffix == ".html":
        from dicom_node.commands.card_html import html_of

        content = html_of(card).encode()
    elif file.suffix == ".pdf":
        from dicom_node.commands.card_pdf import pdf_of

        content = pdf_of(card, datetime.datetime.now(datetime.UTC))
    else:
        raise Misconfigured(f"{file}: a {card.kind} is written as .html or .pdf")
    try:
        file.write_bytes(content)
    except OSError as error:
        raise Transient(f"{file} cannot be written: {error.strerror}") from error
