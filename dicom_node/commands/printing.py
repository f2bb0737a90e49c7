"""How commands print: plain aligned columns on a pipe, the same with bold heads on a terminal."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import click


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under heads, each column as wide as it needs."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    click.secho(_line(heads, widths), bold=True)
    for row in rows:
        click.echo(_line(row, widths))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def moment(at: float | None) -> str:
    """Seconds since the epoch as local time; a dash for none."""
    return "-" if not at else datetime.datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")


def size(number: int) -> str:
    """Bytes for eyes."""
    value, unit = float(number), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
