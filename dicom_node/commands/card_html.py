"""A model card as one HTML file that needs nothing else: no script, no image, no address is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from dicom_node.commands.card_parts import Card, Section, Table
from storage.facts.picture import Tone, svg
from storage.facts.plotting import drawn

_COLOURS = {tone: f"var(--{tone.value})" for tone in Tone}  #: the page's own, light or dark

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --faint: #5b6675; --line: #d9dee5; --paper: #fff; --warn: #9c1f1f;
  --first: #1b6ca8; --second: #b8430b; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --faint: #9aa5b4; --line: #38414e; --paper: #171c23; --warn: #ff8d85;
    --first: #6db4ea; --second: #f5a15f; }
}
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.05rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
p { margin: .4rem 0; white-space: pre-line; max-width: 46rem; }
.sub { color: var(--faint); }
.use { display: inline-block; margin: .8rem .6rem 0 0; padding: .15rem .7rem; border: 1px solid; border-radius: 1rem;
  font-size: .85rem; }
.warn { color: var(--warn); }
.wide { overflow-x: auto; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); gap: 1.2rem 2rem;
  margin: 1rem 0; }
.charts svg { width: 100%; height: auto; break-inside: avoid; }
caption { text-align: left; padding: .5rem 0 .2rem; font-weight: 600; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0 1rem; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; min-width: 5.5rem; }
th { color: var(--faint); font-weight: 600; }
@media print { :root { color-scheme: light; }
  body { max-width: none; padding: 0; } .charts { grid-template-columns: 1fr 1fr; }
  h2, caption { break-after: avoid; } tr { break-inside: avoid; } }
"""


def html_of(card: Card) -> str:
    """The card as a document; everything that comes from the package is escaped."""
    use = (
        ("warn", "For research, not for primary diagnosis") if card.is_research else ("", "For clinical use as stated")
    )
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{escape(card.title)}: {escape(card.kind)}</title><style>{_STYLE}</style></head><body>",
        f'<header><h1>{escape(card.title)}</h1><div class="sub">{escape(card.subtitle)}</div>',
        f'<span class="use {use[0]}">{use[1]}</span><span class="use">{escape(card.standing)}</span></header>',
        *(part for section in card.sections for part in _section(section)),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _section(section: Section) -> Iterator[str]:
    yield f"<section><h2>{escape(section.title)}</h2>"
    yield from (f"<p>{escape(text)}</p>" for text in section.paragraphs)
    if section.charts:
        yield '<div class="charts">'
        yield from (svg(drawn(chart), _COLOURS) for chart in section.charts)
        yield "</div>"
    for table in section.tables:
        yield from _table(table)
    yield "</section>"


def _table(table: Table) -> Iterator[str]:
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in table.heads)
    caption = f"<caption>{escape(table.title)}</caption>" if table.title else ""
    yield f'<div class="wide"><table>{caption}<thead><tr>{heads}</tr></thead><tbody>'
    for row in table.rows:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</tbody></table></div>"
