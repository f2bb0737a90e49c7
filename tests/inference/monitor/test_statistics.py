"""Rates, ROC and FROC curves, and their intervals: against values by hand, by brute force, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from inference.monitor.froc import (
    Candidate,
    Marked,
    at_threshold,
    false_positive_interval,
    froc,
    mean_sensitivity,
    sensitivity_interval,
)
from inference.monitor.rates import bootstrap, by_group, poisson, wilson
from inference.monitor.roc import auc, auc_interval, kappa_interval, operating, roc, weighted_kappa, youden


@pytest.mark.parametrize(
    ("hits", "cases", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (29, 29, 0.8830, 1.0)],
)
def test_wilson_gives_the_intervals_that_were_published(hits: int, cases: int, low: float, high: float) -> None:
    """First two rows, last row: Newcombe 1998, Stat Med 17:857, table I, method 3."""
    found = wilson(hits, cases)

    assert found.value == hits / cases
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_a_rate_of_no_case_knows_nothing() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


def test_groups_have_their_own_rates() -> None:
    found = by_group([("b", True), ("a", False), ("b", False), ("b", True)])

    assert [(g.name, g.cases, g.rate.value) for g in found] == [("a", 1, 0.0), ("b", 3, pytest.approx(2 / 3))]


def test_the_bootstrap_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(2).normal(10, 3, 400)

    found = bootstrap(lambda chosen: float(values[chosen].mean()), 400)

    half = 1.96 * values.std() / 20
    assert (found.low, found.high) == (
        pytest.approx(found.value - half, abs=0.05),
        pytest.approx(found.value + half, abs=0.05),
    )
    assert found == bootstrap(lambda chosen: float(values[chosen].mean()), 400)


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    chance = np.random.default_rng(4)
    scores, truth = chance.integers(0, 12, 80).astype(float), chance.integers(0, 2, 80)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[truth == 1] for b in scores[truth == 0]]
    false, rate, _ = roc(scores, truth)

    assert auc(scores, truth) == pytest.approx(np.mean(pairs))
    assert float(np.trapezoid(rate, false)) == pytest.approx(np.mean(pairs))
    u = mannwhitneyu(scores[truth == 1], scores[truth == 0]).statistic
    assert auc(scores, truth) == pytest.approx(u / (sum(truth) * (80 - sum(truth))))


def test_delongs_interval_holds_the_truth_as_often_as_it_says() -> None:
    chance, held = np.random.default_rng(6), 0
    for _ in range(400):
        scores = np.r_[chance.normal(1.0, 1.0, 40), chance.normal(0.0, 1.0, 60)]
        found = auc_interval(scores, np.r_[np.ones(40), np.zeros(60)])
        held += found.low <= 0.76025 <= found.high  # normal distribution function of 1 / sqrt(2)

    assert 0.92 <= held / 400 <= 0.98


def test_delongs_variance_is_that_of_its_definition() -> None:
    chance = np.random.default_rng(8)
    x, y = chance.normal(0.7, 1, 15), chance.normal(0, 1, 22)
    order = (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])
    variance = order.mean(1).var(ddof=1) / 15 + order.mean(0).var(ddof=1) / 22

    found = auc_interval(np.r_[x, y], np.r_[np.ones(15), np.zeros(22)])

    assert found.value - found.low == pytest.approx(1.959964 * np.sqrt(variance))


def test_classes_that_do_not_overlap_leave_a_doubt() -> None:
    found = auc_interval([0.9] * 30 + [0.1] * 50, [1] * 30 + [0] * 50)

    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.8843, abs=1e-4)


def test_an_operating_point_and_youdens() -> None:
    scores, truth = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0, 0, 1, 0, 1, 1]

    found = operating(scores, truth, 0.3)

    assert (found.sensitivity.value, found.specificity.value) == (1.0, pytest.approx(2 / 3))
    assert youden(scores, truth) in (0.3, 0.5)  # equally good


def test_weighted_kappa_punishes_far_steps_more() -> None:
    truth = [0, 0, 1, 1, 2, 2]

    assert weighted_kappa(truth, truth, 3) == 1.0
    near, far = weighted_kappa([0, 1, 1, 1, 2, 2], truth, 3), weighted_kappa([0, 2, 1, 1, 2, 2], truth, 3)
    assert 1 > near > far
    # by hand: squared distances 4 among the cases; 48 / 6 by chance, of the margins (1, 2, 3) and (2, 2, 2)
    assert far == pytest.approx(1 - 4 / (48 / 6))
    assert kappa_interval(truth * 5, truth * 5, 3).low == 1.0


SERIES = (
    Marked(lesions=2, candidates=(Candidate(score=0.9, lesion=0), Candidate(score=0.5, lesion=1))),
    Marked(lesions=1, candidates=(Candidate(score=0.7, lesion=None), Candidate(score=0.2, lesion=0))),
    Marked(lesions=0, candidates=(Candidate(score=0.6, lesion=None),)),
    Marked(lesions=1, candidates=(Candidate(score=0.8, lesion=0), Candidate(score=0.3, lesion=0))),
)


def test_froc_counts_lesions_once_and_false_positives_by_series() -> None:
    curve = froc(SERIES)

    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.7, 0.6, 0.5, 0.2]
    assert curve.sensitivity.tolist() == [0.0, 0.25, 0.5, 0.5, 0.5, 0.75, 1.0]
    assert curve.false_positives.tolist() == [0.0, 0.0, 0.0, 0.25, 0.5, 0.5, 0.5]
    assert (curve.at(0.0), curve.at(0.25), curve.at(0.5), curve.at(8.0)) == (0.5, 0.5, 1.0, 1.0)
    assert at_threshold(SERIES, 0.5) == (0.75, 0.5)
    assert at_threshold(SERIES, 0.65) == (0.5, 0.25)


def test_froc_of_nothing_is_nothing() -> None:
    curve = froc([Marked(lesions=1, candidates=())])

    assert (curve.at(8.0), len(curve.thresholds)) == (0.0, 1)


def test_intervals_of_a_detector_hold_its_values() -> None:
    series = SERIES * 8

    assert mean_sensitivity(series).low < froc(series).at(0.5) <= 1.0
    found = sensitivity_interval(series, 0.25)
    assert found.low <= found.value <= found.high
    false = false_positive_interval(series, 0.5)
    assert (false.value, false.low < 0.5 < false.high) == (0.5, True)


def test_events_have_garwoods_exact_interval() -> None:
    """Bounds of Ulm 1990 (Am J Epidemiol 131:373) for 0, 1 and 10 events."""
    for events, low, high in ((0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.39)):
        found = poisson(events, 20)
        assert (20 * found.low, 20 * found.high) == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))


def test_no_false_positive_in_few_series_leaves_room_for_some() -> None:
    quiet = [Marked(lesions=1, candidates=(Candidate(score=0.9, lesion=0),)) for _ in range(10)]
    found = false_positive_interval(quiet, 0.5)
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(0.369, abs=1e-3)
    one = [*quiet[1:], Marked(lesions=1, candidates=(Candidate(score=0.8, lesion=None),))]
    assert false_positive_interval(one, 0.5).high > found.high


def test_a_detector_that_found_every_lesion_may_still_miss_one() -> None:
    perfect = [Marked(lesions=1, candidates=(Candidate(score=0.9, lesion=0),)) for _ in range(10)]
    assert sensitivity_interval(perfect, 0.5).low == pytest.approx(wilson(10, 10).low)
    assert mean_sensitivity(perfect).low == pytest.approx(wilson(10, 10).low)
