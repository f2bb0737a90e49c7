"""What is said of a number agrees with the number, and with what was decided on it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.facts import figures

PROBABILITIES = st.floats(0, 1, allow_subnormal=False)
LIMITS = st.one_of(
    st.sampled_from([0.0004, 0.001, 0.0012, 0.3, 0.5, 0.95, 0.999, 0.9995]),
    st.floats(1e-4, 0.9999).map(lambda limit: round(limit, 4)),
)
VALUES = st.floats(-5000, 5000).filter(lambda value: value == 0 or abs(value) > 1e-12)
GIVEN = VALUES.map(lambda limit: round(limit, 6)) | st.integers(-1000, 1000).map(float)


def side(value: Decimal, limit: Decimal) -> int:
    return (value > limit) - (value < limit)


def can_be(said: str, value: float) -> bool:
    """Whether what is said leaves room for the value."""
    if said[0] in "<>":
        bound = Decimal(said[1:])
        return Decimal(value) < bound if said[0] == "<" else Decimal(value) > bound
    decimals = len(said.partition(".")[2])
    return abs(Decimal(said) - Decimal(value)) <= Decimal(10) ** -decimals / 2


@pytest.mark.parametrize(
    ("value", "limits", "said"),
    [
        (0.003, (), "0.003"),
        (0.0003, (), "<0.001"),
        (0.0, (), "0.00"),
        (1.0, (), "1.00"),
        (0.9996, (), ">0.999"),
        (0.93, (), "0.93"),
        (0.934, (), "0.934"),
        (0.4996, (0.5,), "0.4996"),
        (0.5, (0.5,), "0.50"),
        (0.00001, (0.00004,), "<0.00004"),
        (1e-30, (), "<0.001"),
    ],
)
def test_a_probability_is_said_with_as_many_digits_as_it_takes(
    value: float, limits: tuple[float, ...], said: str
) -> None:
    assert figures.chance(value, 2, *limits) == said


@given(PROBABILITIES, LIMITS, LIMITS)
def test_a_probability_is_never_said_on_the_other_side_of_a_limit(value: float, one: float, other: float) -> None:
    said = figures.chance(value, 2, one, other)
    assert can_be(said, value)
    for limit in (one, other):
        if said[0] in "<>":  # what is said to lie beyond a bound lies beyond no limit between
            assert side(Decimal(value), Decimal(repr(limit))) in (0, -1 if said[0] == "<" else 1)
        else:
            assert side(Decimal(said), Decimal(repr(limit))) == (value > limit) - (value < limit)
    if said[0] not in "<>":
        assert (Decimal(said) == 0, Decimal(said) == 1) == (value == 0, value == 1)


@given(PROBABILITIES, LIMITS)
def test_what_a_probability_is_judged_by_is_what_is_said_of_it(value: float, limit: float) -> None:
    judged = figures.probability(value, limit)
    said = figures.chance(judged, 2, limit)
    assert (judged == 0, judged == 1) == (value == 0, value == 1)
    assert abs(judged - value) <= 0.0005
    assert side(Decimal(judged), Decimal(limit)) == side(Decimal(value), Decimal(limit))
    assert can_be(said, judged)
    if said[0] not in "<>":
        assert (Decimal(said) >= Decimal(repr(limit))) == (judged >= limit)


@given(VALUES | GIVEN, st.integers(0, 4), GIVEN)
def test_a_value_is_never_said_on_the_other_side_of_a_limit(value: float, wanted: int, limit: float) -> None:
    said = figures.figure(value, wanted, limit)
    assert "e" not in said
    assert not said.startswith("-0.") or Decimal(said) != 0
    assert side(Decimal(said), Decimal(repr(limit))) == (value > limit) - (value < limit)
    assert float(said) == figures.rounded(value, wanted, limit)


@given(st.floats(1e-5, 100), st.integers(0, 2))
def test_an_amount_is_never_said_to_be_none(value: float, wanted: int) -> None:
    assert Decimal(figures.figure(value, wanted)) > 0


def test_what_is_nothing_but_for_arithmetic_is_nothing() -> None:
    assert figures.figure(1e-15, 1) == figures.figure(-0.04, 1) == figures.figure(-0.0, 1) == "0.0"


@given(st.floats(-1e20, 1e20))
def test_a_given_number_is_said_in_full(value: float) -> None:
    said = figures.exact(value)
    assert float(said) == value
    assert "e" not in said


@given(st.floats(0, 1))
def test_a_share_is_never_said_to_be_all_or_nothing_where_it_is_not(share: float) -> None:
    said = figures.percent(share)
    assert (said == "100") == (share == 1)
    assert (said == "0") == (share == 0)
