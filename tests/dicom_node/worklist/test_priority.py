"""The highest claim stands; the finding of a research package claims nothing unless the site says so."""

from __future__ import annotations

import itertools

import pytest

from dicom_node.worklist.priority import decide, decider, of_order, of_priority_text
from storage.facts.study import Header, Urgency
from tests import builders

ROUTINE, HIGH, STAT = Urgency


@pytest.mark.parametrize(("finding", "order", "rule"), list(itertools.product(Urgency, repeat=3)))
def test_the_highest_of_three_claims_stands_and_is_named(finding: Urgency, order: Urgency, rule: Urgency) -> None:
    urgency, reason = decide(finding, "mass effect.", order, rule)
    assert urgency == max(finding, order, rule)
    if urgency is ROUTINE:
        assert "neither" in reason
        return
    assert f"asks for {urgency.name}" in reason
    assert ("the model's finding" in reason) == (finding is urgency)
    assert ("(mass effect)" in reason) == (finding is urgency)
    assert ("the order's priority" in reason) == (order is urgency)
    assert ("rule" in reason) == (rule is urgency and rule > order)


@pytest.mark.parametrize(("finding", "order", "rule"), list(itertools.product(Urgency, repeat=3)))
def test_the_finding_of_a_research_package_raises_nothing_and_that_is_said(
    finding: Urgency, order: Urgency, rule: Urgency
) -> None:
    urgency, reason = decide(finding, "mass effect", order, rule, research=True)
    assert urgency is max(order, rule)
    assert "mass effect" not in reason
    assert ("do not raise" in reason) == (finding > urgency)


def test_a_site_may_let_research_raise() -> None:
    assert decide(HIGH, "", ROUTINE, ROUTINE, research=True, research_may_raise=True)[0] is HIGH


@pytest.mark.parametrize(
    ("text", "urgency"),
    [
        ("STAT", STAT), ("stat ", STAT), ("HIGH", HIGH), ("ROUTINE", ROUTINE), ("MEDIUM", ROUTINE), ("LOW", ROUTINE),
        ("", ROUTINE), ("ASAP!!", ROUTINE),
    ],
)  # fmt: skip
def test_each_term_of_the_standard_has_its_meaning_and_others_have_none(text: str, urgency: Urgency) -> None:
    assert of_priority_text(text) is urgency


@pytest.mark.parametrize(
    ("header", "urgency"),
    [
        ({}, ROUTINE),
        ({"RequestedProcedurePriority": "STAT"}, STAT),
        ({"RequestedProcedurePriority": ["LOW", "HIGH"]}, HIGH),
        ({"RequestAttributesSequence": [{}, {"RequestedProcedurePriority": "HIGH"}]}, HIGH),
        (
            {
                "RequestedProcedurePriority": "LOW",
                "RequestAttributesSequence": [{"RequestedProcedurePriority": "STAT"}],
            },
            STAT,
        ),
        ({"RequestedProcedurePriority": 7, "RequestAttributesSequence": ["no item"]}, ROUTINE),
        ({"RequestAttributesSequence": []}, ROUTINE),
    ],
)  # fmt: skip
def test_the_order_is_read_at_the_root_and_in_its_requests(header: Header, urgency: Urgency) -> None:
    assert of_order(header) is urgency


def test_the_policy_of_a_site_is_a_function_of_prediction_header_and_rule() -> None:
    sources = builders.slices(3)
    product = builders.prediction(
        sources, algorithm=builders.algorithm(research=False), urgency=HIGH, urgency_reason="threshold exceeded"
    )
    research = builders.prediction(sources, urgency=HIGH)
    policy = decider(research_may_raise=False)
    assert policy(product, {}, ROUTINE) == (HIGH, "the model's finding asks for HIGH (threshold exceeded)")
    assert policy(product, {"RequestedProcedurePriority": "STAT"}, ROUTINE)[0] is STAT
    assert policy(research, {}, STAT)[0] is STAT
    assert decider(research_may_raise=True)(research, {}, ROUTINE)[0] is HIGH
