"""How sure several answers are together, and when it is better not to answer."""

from __future__ import annotations

import numpy as np
import pytest

from inference.explain.uncertainty import energy, limit_for, risk_coverage, spread


def test_passes_that_disagree_are_told_from_passes_that_all_doubt() -> None:
    disagree = spread([[[1.0, 0.0]], [[0.0, 1.0]]])
    doubt = spread([[[0.5, 0.5]], [[0.5, 0.5]]])

    assert (disagree.total, disagree.expected, disagree.disagreement) == (
        pytest.approx([1.0]),
        pytest.approx([0.0]),
        pytest.approx([1.0]),
    )
    assert (doubt.total, doubt.expected, doubt.disagreement) == (
        pytest.approx([1.0]),
        pytest.approx([1.0]),
        pytest.approx([0.0]),
    )


def test_energy_is_low_where_a_logit_is_high_and_never_overflows() -> None:
    assert float(energy([0.0, 0.0])) == pytest.approx(-np.log(2))
    assert float(energy([1000.0, 0.0])) == pytest.approx(-1000.0)
    assert float(energy([2.0, 1.0], temperature=2.0)) == pytest.approx(-2 * np.log(np.exp(1.0) + np.exp(0.5)))


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.9, 1.0])
def test_the_limit_answers_the_share_that_was_asked_for(coverage: float) -> None:
    values = np.random.default_rng(1).permutation(200) / 200

    assert np.mean(values <= limit_for(values, coverage)) == pytest.approx(coverage)


def test_risk_rises_with_coverage_where_uncertainty_is_worth_something() -> None:
    coverage, risk = risk_coverage([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1])

    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == [0.0, 0.0, pytest.approx(1 / 3), 0.5]
