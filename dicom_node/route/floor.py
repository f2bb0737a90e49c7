"""The safety floor: what reaches no model, whatever the rules say.

Two bars are absolute: objects that are no images, and this node's own results, which would otherwise come back from
the archive and be analysed again and again. The others yield to a rule that names the fact, for its author has then
thought of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dicom_node.route.evidence import Derived
from dicom_node.route.facts import SeriesFacts

_OPEN_TO_A_RULE = {
    "is_localizer": "it is a localizer",
    "is_mosaic": "it is a mosaic",
    "is_derived": "it is derived",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What bars one series."""

    absolute: str  #: empty: nothing
    unless_named: tuple[tuple[str, str], ...]  #: fact and reason

    def bars(self, names: frozenset[str]) -> str:
        """Why a rule that mentions these names may not have the series; empty when it may."""
        if self.absolute:
            return self.absolute
        return next((reason for name, reason in self.unless_named if name not in names), "")


def bars(facts: SeriesFacts) -> frozenset[str] | None:
    """The names of which a rule must mention every one; None when no rule may have the series. Without the reasons."""
    image = facts.known("is_image")
    if image is False or facts.known("is_from_this_node"):
        return None
    needed = [name for name in _OPEN_TO_A_RULE if facts.known(name)]
    if image is None and "is_image" in facts.derived:
        needed.append("is_image")
    return frozenset(needed)


def absolute_bar(facts: SeriesFacts) -> str:
    """Why no rule whatever may have this series; empty when one may. Facts that are not there bar nothing."""
    derived = facts.derived
    if _is(derived, "is_from_this_node"):
        return f"this node wrote it ({derived['is_from_this_node'].evidence})"
    if "is_image" in derived and derived["is_image"].value is False:
        return f"it holds no images ({derived['is_image'].evidence})"
    return ""


def _is(derived: Mapping[str, Derived], name: str) -> bool:
    return name in derived and bool(derived[name].value)


def floor_of(facts: SeriesFacts) -> Floor:
    """What bars this series."""
    derived = facts.derived
    barred = [
        (name, f"{reason} ({facts.redacted(derived[name].evidence)}) and the rule does not mention {name}")
        for name, reason in _OPEN_TO_A_RULE.items()
        if derived[name].value
    ]
    if derived["is_image"].value is None:
        unknown = derived["is_image"].evidence
        barred.append(("is_image", f"it may hold no images ({unknown}) and the rule does not mention is_image"))
    return Floor(absolute=absolute_bar(facts), unless_named=tuple(barred))
