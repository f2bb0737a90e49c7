"""Decides how soon a person should look, and says why.

The policy: the highest of three claims stands, which are the order's priority, the rule's urgency and the model's
finding. The finding of a research package claims nothing unless the site has allowed it: what is not for diagnosis is
not for triage either. What a person ordered, or an administrator wrote into a rule, stands whatever the model is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from storage.facts.prediction import Prediction
from storage.facts.study import Header, Urgency

#: Requested Procedure Priority (0040,1003), PS3.3 C.4.11, by what a person should make of it.
ORDER_PRIORITIES: dict[str, Urgency] = {
    "STAT": Urgency.STAT,
    "HIGH": Urgency.HIGH,
    "ROUTINE": Urgency.ROUTINE,
    "MEDIUM": Urgency.ROUTINE,
    "LOW": Urgency.ROUTINE,
}

_NOTHING = "neither the finding, the order nor the rule asks for more"


def decide(
    finding: Urgency,
    finding_reason: str,
    order: Urgency,
    rule: Urgency,
    *,
    research: bool = False,
    research_may_raise: bool = False,
) -> tuple[Urgency, str]:
    """The urgency of a result, and the sentence that explains it (without a full stop)."""
    heard = finding if research_may_raise or not research else Urgency.ROUTINE
    claims = {
        "the model's finding": heard,
        "the order's priority": order,
        "the routing rule": rule if rule > order else Urgency.ROUTINE,  # it carries the order's priority along
    }
    highest = max(claims.values())
    unheard = "; research packages do not raise studies here" if finding > highest else ""
    if highest is Urgency.ROUTINE:
        said = "neither the order nor the rule asks for more" if unheard else _NOTHING
        return Urgency.ROUTINE, f"{said}{unheard}"
    told = " and ".join(f"{who} asks for {highest.name}" for who, claim in claims.items() if claim is highest)
    if heard is highest and finding_reason:
        told += f" ({finding_reason.rstrip('. ')})"
    return highest, f"{told}{unheard}"


def decider(*, research_may_raise: bool) -> Callable[[Prediction, Header, Urgency], tuple[Urgency, str]]:
    """The policy of this site, as a function of a prediction, the header of its series and the rule's urgency."""

    def of_result(prediction: Prediction, header: Header, rule: Urgency) -> tuple[Urgency, str]:
        return decide(
            prediction.urgency,
            prediction.urgency_reason,
            of_order(header),
            rule,
            research=prediction.algorithm.research,
            research_may_raise=research_may_raise,
        )

    return of_result


def claim_of(prediction: Prediction, *, research_may_raise: bool) -> Urgency:
    """What the findings alone ask for: the category that a report may give them, whatever was ordered."""
    return prediction.urgency if research_may_raise or not prediction.algorithm.research else Urgency.ROUTINE


def of_order(header: Header) -> Urgency:
    """The highest priority that the header of a series says it was ordered with; ROUTINE where it says nothing."""
    return max((of_priority_text(text) for text in _stated(header)), default=Urgency.ROUTINE)


def of_priority_text(text: str) -> Urgency:
    """One value of Requested Procedure Priority; what is none of its terms raises nothing."""
    return ORDER_PRIORITIES.get(text.strip().upper(), Urgency.ROUTINE)


def _stated(header: Header) -> Iterator[str]:
    """The attribute at the root, and in the items of Request Attributes Sequence (0040,0275)."""
    items = header.get("RequestAttributesSequence") or []
    for holder in (header, *(item for item in items if hasattr(item, "get"))):
        given = holder.get("RequestedProcedurePriority")
        for value in given if isinstance(given, list) else [given]:
            if isinstance(value, str):
                yield value
