"""A chart lies where its numbers are, no word lies on another, and nothing of it is markup."""

from __future__ import annotations

import itertools
import math
from xml.etree import ElementTree

import pytest

from storage.facts.chart import Axis, Band, Box, Cell, Chart, Curve, Level, Mark, axis_over, share_axis
from storage.facts.picture import ON_PAPER, Area, Disc, Picture, Stroke, Text, Tone, svg
from storage.facts.plotting import drawn
from storage.facts.wire import from_json, to_json

HOSTILE = '<script>alert("1")</script> & more'
LETTER = 5.9  #: width of a letter of 11 units, on average


def full(**changes: object) -> Chart:
    """A chart with one of everything."""
    given = {
        "title": "Something",
        "across": share_axis("false alarms"),
        "up": share_axis("hits"),
        "note": "140 series. " * 12,
        "bands": (Band(outline=((0.1, 0.1), (0.9, 0.2), (0.5, 0.8)), name="95 %"),),
        "curves": (Curve(points=((0.0, 0.0), (1.0, 1.0)), name="chance", is_dashed=True),),
        "levels": (Level(at=0.5, name="limit +0.50"), Level(at=0.51, name="bias"), Level(at=0.505, name="limit -0.2")),
        "boxes": (Box(row=0.5, lower=0.2, median=0.3, upper=0.4),),
        "dots": ((0.3, 0.3),),
        "marks": (
            Mark(at=(0.25, 0.75), across=(0.2, 0.3), up=(0.6, 0.9), name="present from 0.5, " * 9),
            Mark(at=(1, 1)),
        ),
        "counts": ((0.05, "12"), (0.15, "3")),
    }
    return Chart(**(given | changes))  # type: ignore[arg-type]


def extent(text: Text) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a text, about."""
    wide, tall = len(text.text) * LETTER * text.size / 11, text.size
    left = text.at[0] - {"start": 0.0, "middle": 0.5, "end": 1.0}[text.anchor] * wide
    return left, text.at[1] - 0.8 * tall, left + wide, text.at[1] + 0.2 * tall


def overlapping(picture: Picture) -> list[tuple[str, str]]:
    texts = [(one.text, extent(one)) for one in picture.shapes if isinstance(one, Text) and not one.is_turned]
    return [
        (a, b)
        for number, (a, (left, top, right, bottom)) in enumerate(texts)
        for b, (west, north, east, south) in texts[number + 1 :]
        if left < east and west < right and top < south and north < bottom
    ]


def table(rows: tuple[str, ...], columns: tuple[str, ...], **more: object) -> Chart:
    """Cells of which each is darker than the one before."""

    def named(names: tuple[str, ...]) -> Axis:
        return Axis(name="n", low=-0.5, high=len(names) - 0.5, ticks=tuple(map(float, range(len(names)))), names=names)

    number = len(rows) * len(columns)
    cells = tuple(
        Cell(at=(float(k % len(columns)), float(k // len(columns))), share=k / number, lines=("1000", "100%"))
        for k in range(number)
    )
    return Chart(title="Table", across=named(columns), up=named(rows), cells=cells, **more)  # type: ignore[arg-type]


def test_a_point_lies_where_the_ticks_say() -> None:
    picture = drawn(Chart(title="", across=share_axis("x"), up=share_axis("y"), dots=((0.4, 0.8),)))
    names = {(one.text, one.anchor): one.at for one in picture.shapes if isinstance(one, Text)}
    (dot,) = [one for one in picture.shapes if isinstance(one, Disc)]

    assert dot.at[0] == pytest.approx(names["0.4", "middle"][0])
    assert dot.at[1] == pytest.approx(names["0.8", "end"][1] - 4.0)


def test_no_word_lies_on_another_or_outside() -> None:
    rows = tuple(f"A structure with a long name {n}" for n in range(30))
    by_row = Axis(name="", low=-0.5, high=29.5, ticks=tuple(map(float, range(30))), names=rows)
    for chart in (full(), full(levels=()), full(up=by_row, counts=(), levels=(), marks=())):
        picture = drawn(chart)
        assert overlapping(picture) == []
        for one in picture.shapes:
            if isinstance(one, Text) and not one.is_turned:
                left, top, right, bottom = extent(one)
                assert 0 <= top < bottom <= picture.height
                assert left >= -2
                assert right <= picture.width


@pytest.mark.parametrize(
    "names",
    [
        ("A", "B"),
        ("Benign appearance", "Indeterminate appearance", "Malignant appearance"),
        tuple(f"A class of quite a long name {n} (n = 1000)" for n in range(10)),
    ],
)
def test_cells_lie_under_their_columns_and_beside_their_rows(names: tuple[str, ...]) -> None:
    chart = table(names, (*(name.partition(" (n")[0] for name in reversed(names)), "none"), framed="true", note="All.")
    picture = drawn(chart)
    assert overlapping(picture) == []
    assert all(extent(one)[0] >= -2 and extent(one)[2] <= picture.width for one in picture.shapes if type(one) is Text)

    areas = [one for one in picture.shapes if isinstance(one, Area)]
    assert [one.opacity for one in areas] == sorted(one.opacity for one in areas)
    assert len(areas) == len(chart.cells) - 1, "nothing is not dark"
    assert max(one.opacity for one in areas) <= 0.5, "ink is readable on it"
    inside = [one for one in picture.shapes if isinstance(one, Text) and one.text == "1000"]
    (none,) = [one for one in picture.shapes if isinstance(one, Text) and one.text == "none"]
    assert inside[len(names)].at[0] == pytest.approx(none.at[0])
    below = [one for one in picture.shapes if isinstance(one, Text) and one.anchor == "end"]
    assert [round(inside[row * (len(names) + 1)].at[1]) for row in range(len(names))] == pytest.approx(
        [round(one.at[1]) for one in below if one.text != "n"], abs=10
    )


def test_names_that_do_not_fit_below_their_column_are_numbered_alike_on_both_sides() -> None:
    names = ("Two heterogeneouslydense", "One heterogeneouslydense")
    texts = [one.text for one in drawn(table(names, (*reversed(names), *"abcdef"))).shapes if isinstance(one, Text)]
    assert "1  One heterogeneouslydense" in texts
    assert "2  Two heterogeneouslydense" in texts
    assert {"1", "2", "a"} <= set(texts)
    assert texts.index("1") < texts.index("2") < texts.index("a")


def test_marks_at_one_place_have_numbers_beside_each_other() -> None:
    for place in ((0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        marks = (Mark(at=place, name="present"), Mark(at=place, name="absent"), Mark(at=(0.4, 0.4), name="else"))
        picture = drawn(full(marks=marks, levels=(), counts=()))
        assert overlapping(picture) == []
        assert [one.text for one in picture.shapes if isinstance(one, Text) and one.anchor == "middle"][-3:] == list(
            "123"
        )


def test_what_lies_beyond_an_axis_stays_at_its_end() -> None:
    picture = drawn(full(dots=((7.0, -3.0),), levels=(), curves=(), bands=()))
    for one in picture.shapes:
        if isinstance(one, Disc | Stroke):
            for x, y in (one.at,) if isinstance(one, Disc) else one.places:
                assert 0 <= x <= picture.width
                assert 0 <= y <= picture.height


def test_a_chart_is_well_formed_and_nothing_in_it_is_markup() -> None:
    chart = full(
        title=HOSTILE, note=HOSTILE, across=share_axis(HOSTILE), up=share_axis(HOSTILE), marks=(),
        curves=(Curve(points=((0.0, 0.0), (1.0, 1.0)), name=HOSTILE),), levels=(Level(at=0.5, name=HOSTILE),),
    )  # fmt: skip
    for text in (svg(drawn(chart)), svg(drawn(chart), is_file=True)):
        root = ElementTree.fromstring(text)
        assert {one.tag.rpartition("}")[2] for one in root.iter()} <= {
            "svg", "rect", "polyline", "polygon", "circle", "text",
        }  # fmt: skip
        assert any("alert" in (one.text or "") for one in root.iter())
    assert 'fill="var(--ink)"' in svg(drawn(chart), {tone: f"var(--{tone.value})" for tone in Tone})


def test_a_chart_comes_back_from_json() -> None:
    assert from_json(Chart, to_json(full(marks=()))) == full(marks=())
    cells = table(("A", "B"), ("B", "A"), framed="true")
    assert from_json(Chart, to_json(cells)) == cells
    assert from_json(Chart, {"title": "", "across": to_json(share_axis("x")), "up": to_json(share_axis("y"))}) == Chart(
        title="", across=share_axis("x"), up=share_axis("y")
    )


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (15.2, 44.0, (15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0)),
        (-0.031, 0.012, (-0.04, -0.03, -0.02, -0.01, 0.0, 0.01, 0.02)),
        (0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (-1500.0, 900.0, (-1500.0, -1000.0, -500.0, 0.0, 500.0, 1000.0)),
    ],
)
def test_ticks_are_round_and_hold_all_values(low: float, high: float, ticks: tuple[float, ...]) -> None:
    axis = axis_over("x", low, high)
    assert axis.ticks == pytest.approx(ticks)
    assert axis.low <= low < high <= axis.high
    assert len({name for _, name in axis.named()}) == len(ticks)


@pytest.mark.parametrize("value", [0.0, 3.0, -2e-9, 1e12])
def test_an_axis_for_one_value_has_it_in_the_middle(value: float) -> None:
    axis = axis_over("x", value, value)
    assert axis.low < value < axis.high
    assert 0.2 < axis.part(value) < 0.8


def test_a_folded_axis_shows_nothing_and_much() -> None:
    axis = Axis(name="x", low=0.0, high=8.0, ticks=(0.0, 0.125, 0.25, 0.5, 1, 2, 4, 8), is_folded=True)
    parts = [axis.part(tick) for tick in axis.ticks]
    assert [b - a for a, b in itertools.pairwise(parts)] == pytest.approx([1 / 7] * 7)
    assert axis.part(0.0625) == pytest.approx(1 / 14)
    assert axis.named()[1] == (0.125, "0.125")


def test_tones_are_told_from_paper_by_how_light_they_are() -> None:
    def light(colour: str) -> float:
        """Relative luminance (WCAG 2.2)."""
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else math.pow((p + 0.055) / 1.055, 2.4) for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for tone in (Tone.INK, Tone.FAINT, Tone.FIRST, Tone.SECOND):
        assert 1.05 / (light(ON_PAPER[tone]) + 0.05) >= 4.5
