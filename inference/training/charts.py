"""Draws a chart of a few curves as SVG, which every browser shows and every version control can compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, MARGIN = 460, 340, 54
COLOURS = ("#1b6ca8", "#d1495b", "#5b8c5a", "#8d6a9f")

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A title, two axes and curves by their names."""

    title: str
    across: str
    up: str
    curves: tuple[tuple[str, Points], ...]
    diagonal: bool = False  #: draw what a guess would give, or perfection
    dots: bool = False

    def svg(self) -> str:
        """The picture as text."""
        reach = [self._reach(axis) for axis in (0, 1)]
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            'font-size="11">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            f'<text x="{WIDTH / 2}" y="20" text-anchor="middle" font-size="13">{escape(self.title)}</text>',
            *self._frame(reach),
        ]
        if self.diagonal:
            parts.append(_line([(0.0, 0.0), (reach[0], reach[1])], reach, "#999999", dashed=True))
        for number, (name, points) in enumerate(self.curves):
            colour = COLOURS[number % len(COLOURS)]
            parts.append(_line(points, reach, colour))
            if self.dots:
                parts += [_dot(point, reach, colour) for point in points]
            y = HEIGHT - MARGIN - 10 - 15 * (len(self.curves) - 1 - number)
            parts.append(f'<text x="{WIDTH - 26}" y="{y}" text-anchor="end" fill="{colour}">{escape(name)}</text>')
        return "\n".join([*parts, "</svg>", ""])

    def _reach(self, axis: int) -> float:
        most = max((point[axis] for _, points in self.curves for point in points), default=1.0)
        return 1.0 if most <= 1.0 else most

    def _frame(self, reach: list[float]) -> list[str]:
        parts = []
        for step in range(6):
            share = step / 5
            x, y = _place((share * reach[0], share * reach[1]), reach)
            parts += [
                f'<line x1="{MARGIN}" y1="{y:.1f}" x2="{WIDTH - 20}" y2="{y:.1f}" stroke="#e4e4e4"/>',
                f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{share * reach[1]:.2g}</text>',
                f'<text x="{x:.1f}" y="{HEIGHT - MARGIN + 16}" text-anchor="middle">{share * reach[0]:.2g}</text>',
            ]
        middle = (HEIGHT - MARGIN + 34) / 2
        return [
            *parts,
            f'<text x="{(WIDTH + MARGIN) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(self.across)}</text>',
            f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">'
            f"{escape(self.up)}</text>",
        ]


def _place(point: tuple[float, float], reach: list[float]) -> tuple[float, float]:
    x = MARGIN + point[0] / reach[0] * (WIDTH - 20 - MARGIN)
    return x, HEIGHT - MARGIN - point[1] / reach[1] * (HEIGHT - MARGIN - 34)


def _line(points: Points, reach: list[float], colour: str, *, dashed: bool = False) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_place(point, reach) for point in points))
    style = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{style}/>'


def _dot(point: tuple[float, float], reach: list[float], colour: str) -> str:
    x, y = _place(point, reach)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
