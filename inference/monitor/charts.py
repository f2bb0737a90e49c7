"""Charts of what was measured: discrimination, detection, calibration, agreement, overlap, grades, with their doubt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from inference.monitor.calibration import Bin
from inference.monitor.froc import USUAL, Marked, at_threshold, false_positive_interval, froc
from inference.monitor.rates import Z_PAIR, Interval, wilson
from inference.monitor.roc import operating, roc
from storage.facts.chart import Axis, Band, Box, Cell, Chart, Curve, Level, Mark, Point, axis_over, share_axis

POINTS = 100  #: of a curve that are kept
LETTERS = 24  #: of a structure's name that are shown
FEWEST = 5  #: values from which quartiles are drawn
MOST_CLASSES = 10  #: of a confusion that is drawn: in more columns there is no room for numbers
SPREAD = 0.28  #: of the height of a row, within which its dots lie
_CHANCE = Curve(points=((0.0, 0.0), (1.0, 1.0)), name="as good as chance", is_dashed=True)
_PERFECT = Curve(points=((0.0, 0.0), (1.0, 1.0)), name="means what it says", is_dashed=True)

Floats = npt.NDArray[np.float64]


def roc_chart(
    title: str, scores: npt.ArrayLike, truth: npt.ArrayLike, area: Interval, thresholds: Mapping[str, float]
) -> Chart | None:
    """Sensitivity against false alarms, each threshold by its name on the curve; None without cases of both kinds.

    The band joins rectangles: at each threshold both rates lie in one together in 95 % of samples, for their intervals
    (Wilson) are taken at the root of that (Pepe 2003, The Statistical Evaluation of Medical Tests, 2.2.2). Unlike a
    bootstrap it does not vanish where no case is wrong.
    """
    s, y = np.asarray(scores, np.float64), np.asarray(truth).astype(bool)
    if y.all() or not y.any():
        return None
    false, rate, _ = roc(s, y)
    positive, negative = int(y.sum()), int((~y).sum())
    pairs = [(float(false[k]), float(rate[k])) for k in _thinned(len(false))]
    return Chart(
        title=title,
        across=share_axis("1 - specificity"),
        up=share_axis("sensitivity"),
        bands=(Band(outline=_outline(pairs, positive, negative), name="95 % of both rates together, by threshold"),),
        curves=(Curve(points=tuple(pairs), name=f"area under the curve {area.text()}"), _CHANCE),
        marks=tuple(_operating_mark(name, s, y, threshold) for name, threshold in thresholds.items()),
        note=f"{positive} positive and {negative} negative series. Crosses are 95 % intervals (Wilson; DeLong for the "
        "area).",
    )


def _operating_mark(name: str, scores: Floats, truth: npt.NDArray[np.bool_], threshold: float) -> Mark:
    point = operating(scores, truth, threshold)
    hit, right = point.sensitivity, point.specificity
    return Mark(
        at=(1.0 - right.value, hit.value),
        across=(1.0 - right.high, 1.0 - right.low),
        up=(hit.low, hit.high),
        name=f"{name}: sensitivity {hit.text(2)}, specificity {right.text(2)}",
    )


def _outline(pairs: Sequence[Point], positive: int, negative: int) -> tuple[Point, ...]:
    """Along the upper left corners of the rectangles, and back along the lower right ones."""
    upper, lower = [(0.0, 0.0)], []
    for false, rate in pairs:
        alarms = wilson(round(false * negative), negative, Z_PAIR)
        hits = wilson(round(rate * positive), positive, Z_PAIR)
        upper.append((alarms.low, hits.high))
        lower.append((alarms.high, hits.low))
    return (*upper, (1.0, 1.0), *reversed(lower))


def froc_chart(
    title: str, series: Sequence[Marked], usual: Sequence[tuple[float, Interval]], point: tuple[str, float]
) -> Chart | None:
    """Sensitivity by lesion against false positives a series, with intervals at ``usual`` rates; None without lesions.

    ``point``: name and threshold of the operating point.
    """
    lesions = sum(one.lesions for one in series)
    if not lesions:
        return None
    curve = froc(series)
    pairs = [(float(curve.false_positives[k]), float(curve.sensitivity[k])) for k in _thinned(len(curve.sensitivity))]
    last = max([USUAL[-1], *(x for x, _ in pairs)])
    name, threshold = point
    hits = wilson(round(at_threshold(series, threshold)[0] * lesions), lesions)
    alarms = false_positive_interval(series, threshold)
    words = f"{name}: sensitivity {hits.text(2)} at {alarms.text(2)} false positives a series"
    marks = [Mark(at=(x, found.value), up=(found.low, found.high)) for x, found in usual if x <= pairs[-1][0]]
    marks.append(
        Mark(at=(alarms.value, hits.value), across=(alarms.low, alarms.high), up=(hits.low, hits.high), name=words)
    )
    return Chart(
        title=title,
        across=_alarms(last),
        up=share_axis("sensitivity, by lesion"),
        curves=(Curve(points=tuple(pairs), name="all thresholds"),),
        marks=tuple(marks),
        note=f"{lesions} lesions in {len(series)} series. Bars are 95 % intervals: bootstrap over series on the curve, "
        "Wilson and Garwood or bootstrap at the operating point.",
    )


def _alarms(last: float) -> Axis:
    """Linear below the first usual rate, so that nothing is at nothing, and logarithmic beyond."""
    ticks = [0.0, *USUAL]
    while ticks[-1] < last:
        ticks.append(2 * ticks[-1])
    name = f"false positives a series (logarithmic from {USUAL[0]:g} on)"
    return Axis(name=name, low=0.0, high=ticks[-1], ticks=tuple(ticks), is_folded=True)


def reliability_chart(title: str, bins: Sequence[Bin], error: float, counted: str) -> Chart | None:
    """What share was true of cases of about one probability; ``counted``: what a case is, many. None without any."""
    cases = sum(one.cases for one in bins)
    if not cases:
        return None
    marks = []
    for one in bins:
        seen = wilson(round(one.seen * one.cases), one.cases)
        marks.append(Mark(at=(one.said, one.seen), up=(seen.low, seen.high)))
    return Chart(
        title=title,
        across=share_axis("probability that is said, mean of the bin"),
        up=share_axis("share that was true"),
        curves=(_PERFECT,),
        marks=tuple(marks),
        counts=tuple(((one.low + one.high) / 2, str(one.cases)) for one in bins),
        note=f"{cases} {counted}, in bins of equal width (n: how many are in each); calibration error {error:.3f}. "
        "Bars are 95 % intervals (Wilson).",
    )


def difference_chart(
    title: str, true: Floats, found: Floats, agreement: Mapping[str, float | Interval], unit: str
) -> Chart | None:
    """Differences against means (Bland and Altman 1986, Lancet 1:307), with bias and limits; None for one case."""
    bias, lower, upper = agreement["bias"], agreement["lower_limit"], agreement["upper_limit"]
    assert isinstance(bias, Interval)
    assert not isinstance(lower, Interval)
    assert not isinstance(upper, Interval)
    if not np.isfinite([lower, upper]).all():
        return None
    middles, differences = (true + found) / 2, found - true
    across = axis_over(f"mean of true and found ({unit})", float(middles.min()), float(middles.max()))
    values = [lower, upper, bias.low, bias.high, 0.0, *differences.tolist()]
    ends = (across.low, bias.low), (across.high, bias.low), (across.high, bias.high), (across.low, bias.high)
    return Chart(
        title=title,
        across=across,
        up=axis_over(f"found minus true ({unit})", min(values), max(values)),
        bands=(Band(outline=ends, name=f"95 % interval of the bias ({bias.low:+.3g} to {bias.high:+.3g} {unit})"),),
        levels=(
            Level(at=upper, name=f"limit {upper:+.3g}", is_dashed=True),
            Level(at=bias.value, name=f"bias {bias.value:+.3g}"),
            Level(at=lower, name=f"limit {lower:+.3g}", is_dashed=True),
        ),
        dots=tuple(zip(middles.tolist(), differences.tolist(), strict=True)),
        note=f"{len(true)} series, a dot each; 95 % of further series are expected between the limits.",
    )


def overlap_chart(title: str, rows: Mapping[str, Sequence[float]]) -> Chart | None:
    """Dice coefficients of each structure: a dot a series, the middle half of them, and their median."""
    kept = [(name, sorted(values)) for name, values in rows.items() if values]
    if not kept:
        return None
    names = tuple(reversed([f"{_short(name)} (n = {len(values)})" for name, values in kept]))
    least = min(values[0] for _, values in kept)
    low = 0.0 if least < 0.5 else 0.5 if least < 0.8 else 0.8
    dots: list[Point] = []
    boxes = []
    for row, (_, values) in enumerate(reversed(kept)):
        dots += [(value, row + offset) for value, offset in zip(values, _offsets(values), strict=True)]
        if len(values) >= FEWEST:
            lower, median, upper = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
            boxes.append(Box(row=float(row), lower=lower, median=median, upper=upper))
    ticks = tuple(round(float(tick), 2) for tick in np.linspace(low, 1.0, 6))
    return Chart(
        title=title,
        across=Axis(name="Dice coefficient", low=low, high=1.0, ticks=ticks),
        up=_named("structure", names),
        boxes=tuple(boxes),
        dots=tuple(dots),
        note=f"A dot is a series. From {FEWEST} series on: the middle half of them, and the line of their median.",
    )


def confusion_chart(
    title: str, classes: Sequence[str], confusion: Sequence[Sequence[int]], counted: str = "series"
) -> Chart | None:
    """What was said of cases of each class, as counts and shares of the row; None without cases, or too many classes.

    ``confusion`` has a row a true class, a column a class that was said, and a last one of cases of which nothing was;
    ``counted``: what a case is, many.
    """
    counts = np.asarray(confusion)
    if not counts.any() or len(classes) > MOST_CLASSES:
        return None
    heads = (*classes, "none") if counts[:, -1].any() else tuple(classes)
    totals = counts.sum(axis=1)
    last = len(classes) - 1
    cells = []
    for row, total in enumerate(map(int, totals)):
        for column in range(len(heads)):
            number = int(counts[row, column])
            lines = (str(number), f"{number / total:.0%}") if number else ("0",)
            share = number / total if number else 0.0
            place = (float(column), float(last - row))
            cells.append(Cell(at=place, share=share, lines=lines, is_framed=row == column))
    names = [f"{_short(name)} (n = {total})" for name, total in zip(classes, totals, strict=True)]
    return Chart(
        title=title,
        across=_named("what was said", heads),
        up=_named("true class", tuple(reversed(names))),
        cells=tuple(cells),
        framed="what was said is true",
        note=f"{int(totals.sum())} {counted}. Below each number: its share of the row, which the shade follows.",
    )


def _named(name: str, ticks: tuple[str, ...]) -> Axis:
    """An axis with a place for each name."""
    return Axis(name=name, low=-0.5, high=len(ticks) - 0.5, ticks=tuple(map(float, range(len(ticks)))), names=ticks)


def _offsets(values: Sequence[float]) -> Iterator[float]:
    """Up and down in turn, so that equal values lie beside each other; the first of each lot in the middle."""
    place, before = 0, -1.0
    for value in values:
        place = place + 1 if value - before < 0.01 else 0
        before = value
        yield SPREAD * ((place + 1) // 2 % 4) / 3 * (1 if place % 2 else -1)


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"


def _thinned(points: int) -> list[int]:
    """Which points of a curve are kept: the first, the last, and even steps between."""
    kept = np.unique(np.linspace(0, points - 1, min(POINTS, points)).round().astype(int))
    return [int(one) for one in kept]
