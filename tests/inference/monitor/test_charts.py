"""Charts say what the statistics beside them say, and their bands hold the truth as often as they claim."""

from __future__ import annotations

import numpy as np
import pytest

from inference.bringing.validation.measuring import agreement
from inference.monitor.calibration import calibration_error, reliability
from inference.monitor.charts import (
    MOST_CLASSES,
    confusion_chart,
    difference_chart,
    froc_chart,
    overlap_chart,
    reliability_chart,
    roc_chart,
)
from inference.monitor.froc import USUAL, Candidate, Marked, sensitivity_interval
from inference.monitor.rates import Z_PAIR, wilson
from inference.monitor.roc import auc, auc_interval, operating
from storage.facts.plotting import drawn


def normals(chance: np.random.Generator, positive: int, negative: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of which those of positives lie one standard deviation higher."""
    truth = np.r_[np.ones(positive, bool), np.zeros(negative, bool)]
    return chance.normal(truth.astype(float), 1.0), truth


def test_a_roc_curve_has_the_area_that_is_stated_and_its_point_on_it() -> None:
    scores, truth = normals(np.random.default_rng(1), 40, 50)
    chart = roc_chart("ROC", scores, truth, auc_interval(scores, truth), {"present from 0.5": 0.5})
    assert chart is not None
    x, y = np.array(chart.curves[0].points).T
    assert np.trapezoid(y, x) == pytest.approx(auc(scores, truth), abs=0.005)
    point = operating(scores, truth, 0.5)
    (mark,) = chart.marks
    assert mark.at == (1 - point.specificity.value, point.sensitivity.value)
    assert mark.up == (point.sensitivity.low, point.sensitivity.high)
    assert point.sensitivity.text(2) in mark.name
    assert mark.name.startswith("present from 0.5")
    assert np.interp(mark.at[0], x, y) == pytest.approx(mark.at[1], abs=0.03)


def test_both_rates_lie_in_their_rectangle_in_95_percent_of_samples() -> None:
    chance, inside, draws = np.random.default_rng(2), 0, 2000
    for _ in range(draws):
        hits, alarms = int(chance.binomial(40, 0.8)), int(chance.binomial(60, 0.3))
        one, other = wilson(hits, 40, Z_PAIR), wilson(alarms, 60, Z_PAIR)
        inside += one.low <= 0.8 <= one.high and other.low <= 0.3 <= other.high
    assert 0.93 < inside / draws < 0.97


def test_the_band_does_not_vanish_where_no_case_is_wrong() -> None:
    truth = np.r_[np.ones(10, bool), np.zeros(10, bool)]
    chart = roc_chart("ROC", truth * 0.8 + 0.1, truth, auc_interval(truth, truth), {})
    assert chart is not None
    x, y = np.array(chart.bands[0].outline).T
    assert 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) > 0.3  # of a unit square, by Gauss


def test_without_cases_of_both_kinds_there_is_no_roc_curve() -> None:
    assert roc_chart("ROC", [0.1, 0.9], [True, True], wilson(1, 1), {"present from 0.5": 0.5}) is None


def series(chance: np.random.Generator, count: int) -> list[Marked]:
    made = []
    for _ in range(count):
        lesions = int(chance.integers(0, 4))
        hits = [
            Candidate(score=float(chance.uniform(0.4, 1)), lesion=k) for k in range(lesions) if chance.random() < 0.9
        ]
        alarms = [
            Candidate(score=float(chance.uniform(0, 0.7)), lesion=None) for _ in range(int(chance.integers(0, 5)))
        ]
        made.append(Marked(lesions=lesions, candidates=(*hits, *alarms)))
    return made


def test_a_froc_curve_has_its_operating_point_on_it() -> None:
    marked = series(np.random.default_rng(3), 30)
    usual = [(rate, sensitivity_interval(marked, rate)) for rate in USUAL]
    chart = froc_chart("FROC", marked, usual, ("reported from 0.6", 0.6))
    assert chart is not None
    *others, point = chart.marks
    assert point.at in chart.curves[0].points
    assert point.name.startswith("reported from 0.6")
    assert all(mark.name == "" for mark in others)
    assert [mark.at[0] for mark in others] == [rate for rate in USUAL if rate <= chart.curves[0].points[-1][0]]
    assert froc_chart("FROC", [Marked(lesions=0, candidates=())], [], ("", 0.5)) is None


def test_a_detector_with_very_many_alarms_stays_on_its_chart() -> None:
    alarms = tuple(Candidate(score=k / 100, lesion=None) for k in range(100))
    marked = [Marked(lesions=1, candidates=(*alarms, Candidate(score=0.5, lesion=0)))]
    chart = froc_chart("FROC", marked, [], ("reported from 0.1", 0.1))
    assert chart is not None
    assert chart.across.high >= 100
    assert drawn(chart).width > 0


def test_a_reliability_diagram_counts_every_case() -> None:
    chance = np.random.default_rng(4)
    said = chance.random(300)
    true = chance.random(300) < said
    bins = reliability(said, true)
    chart = reliability_chart("Calibration", bins, calibration_error(said, true), "series")
    assert chart is not None
    assert sum(int(text) for _, text in chart.counts) == 300
    assert [mark.at for mark in chart.marks] == [(one.said, one.seen) for one in bins]
    for mark in chart.marks:
        assert mark.up is not None
        assert mark.up[0] <= mark.at[1] <= mark.up[1]
    assert reliability_chart("Calibration", (), 0.0, "series") is None


def test_differences_are_shown_with_bias_and_limits() -> None:
    chance = np.random.default_rng(5)
    true = chance.normal(30, 5, 25)
    found = true + chance.normal(1, 2, 25)
    numbers = agreement(true, found)
    chart = difference_chart("Bland-Altman", true, found, numbers, "mL")
    assert chart is not None
    assert [level.at for level in chart.levels] == [
        numbers["upper_limit"],
        numbers["bias"].value,
        numbers["lower_limit"],
    ]
    assert chart.dots[0] == ((true[0] + found[0]) / 2, found[0] - true[0])
    assert chart.up.low <= min(y for _, y in chart.dots)
    assert "mL" in chart.across.name
    assert difference_chart("one", true[:1], found[:1], agreement(true[:1], found[:1]), "mL") is None


def test_every_structure_has_a_row_of_its_own() -> None:
    rows = {
        "Liver": [0.9, 0.92, 0.95, 0.91, 0.93],
        "Spleen": [0.6, 0.7],
        "A name that is far too long to be shown": [0.9],
    }
    chart = overlap_chart("Dice", rows | {"Nothing was said of it": []})
    assert chart is not None
    assert chart.up.names[-1] == "Liver (n = 5)"
    assert len(chart.up.names) == 3
    assert all(len(name) < 35 for name in chart.up.names)
    (box,) = chart.boxes  # two values have no quartiles
    assert (box.row, box.median) == (2.0, 0.92)
    assert sorted(x for x, y in chart.dots if round(y) == 2) == sorted(rows["Liver"])
    assert len(chart.dots) == 8
    assert overlap_chart("Dice", {}) is None


def test_a_confusion_shows_every_case_once_and_rows_make_a_whole() -> None:
    counts = np.random.default_rng(7).integers(0, 30, (4, 5))
    counts[2] = 0
    chart = confusion_chart("Density", ["A", "B", "C", "D"], counts.tolist())
    assert chart is not None
    shown = {cell.at: cell for cell in chart.cells}
    assert len(shown) == 20
    rows = {name.partition(" ")[0]: row for row, name in zip(chart.up.ticks, chart.up.names, strict=True)}
    columns = dict(zip(chart.across.names, chart.across.ticks, strict=True))
    for row, true in enumerate("ABCD"):
        cells = [shown[columns[said], rows[true]] for said in (*"ABCD", "none")]
        assert [int(cell.lines[0]) for cell in cells] == counts[row].tolist()
        assert [cell.is_framed for cell in cells] == [row == k for k in range(5)]
        total = counts[row].sum()
        assert sum(cell.share for cell in cells) == pytest.approx(1.0 if total else 0.0)
        assert [cell.lines[1:] for cell in cells] == [(f"{n / total:.0%}",) if n else () for n in counts[row]]
        assert f"{true} (n = {total})" in chart.up.names
    assert rows["A"] > rows["D"], "the first class is the uppermost, as in the table"
    assert f"{counts.sum()} series" in chart.note


def test_a_confusion_has_a_column_for_nothing_only_where_nothing_was_said() -> None:
    chart = confusion_chart("Grade", ["no", "yes"], [[3, 1, 0], [0, 2, 0]], "nodules")
    assert chart is not None
    assert chart.across.names == ("no", "yes")
    assert len(chart.cells) == 4
    assert confusion_chart("Grade", ["no", "yes"], [[0, 0, 0], [0, 0, 0]]) is None
    many = MOST_CLASSES + 1
    assert confusion_chart("Grade", ["x"] * many, np.ones((many, many + 1), int).tolist()) is None
