"""Which series of a study a rule takes, for itself and for each further input, and why. Pure: no ledger, no clock.

The order is that of the rule's preferences. Where several series are equal, the one with most images comes first, then
the lowest SeriesNumber, then the lowest SeriesInstanceUID; among earlier studies, the latest study before all of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dicom_node.route.facts import SeriesFacts
from dicom_node.route.language import RuleError
from dicom_node.route.preference import Grade, Preference, compile_preference
from dicom_node.route.reading import Reading, number_of
from dicom_node.route.rules import RoutingRule, evaluate
from storage.facts.routing import Match, Origin, Role
from storage.facts.study import Header

Moment = tuple[str, str]  #: StudyDate and StudyTime to the second

PRIMARY = ""  #: the role of the series that the rule itself is about
SHOWN = 20  #: candidates that an explanation lists

_TIES = ("the latest study", "most images", "the lowest SeriesNumber", "the lowest SeriesInstanceUID")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A complete series that may be chosen."""

    series_uid: str
    study_uid: str
    facts: SeriesFacts
    about: str  #: in a few words, without who the patient is


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A candidate in its place."""

    candidate: Candidate
    grades: tuple[Grade, ...]  #: one for each preference
    order: tuple[Any, ...]  #: the smaller comes first


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """What was found for one role."""

    role: str
    prefer: tuple[str, ...]
    ranked: tuple[Ranked, ...]  #: the best first
    why: str  #: one sentence

    @property
    def winner(self) -> Candidate | None:
        """The series that is taken; None where there is no candidate."""
        return self.ranked[0].candidate if self.ranked else None

    def explanation(self) -> dict[str, Any]:
        """The pick as plain data for JSON."""
        return {
            "role": self.role,
            "series": self.winner.series_uid if self.winner else None,
            "why": self.why,
            "candidates": [self._told(each) for each in self.ranked[:SHOWN]],
            "more": max(0, len(self.ranked) - SHOWN),
        }

    def _told(self, ranked: Ranked) -> dict[str, Any]:
        values = dict(zip(self.prefer, [grade.shown for grade in ranked.grades], strict=True))
        return {"series": ranked.candidate.series_uid, "about": ranked.candidate.about, "values": values}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a rule takes of a study."""

    primary: Pick
    inputs: tuple[Pick, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The roles for which there is no series."""
        return tuple(pick.role for pick in self.inputs if pick.winner is None)


def candidates_of(
    rule: RoutingRule, rules: Sequence[RoutingRule], match: Match, study: Iterable[Candidate]
) -> list[Candidate]:
    """The series that the rule may take, as the whole set leaves them to it."""
    found = []
    for each in study:
        decisions = evaluate(rules, each.facts, match)
        if any(decision.matched and decision.rule.name == rule.name for decision in decisions):
            found.append(each)
    return found


def select(
    rule: RoutingRule, candidates: Sequence[Candidate], study: Sequence[Candidate], others: Sequence[Candidate]
) -> Selection:
    """The rule's choice among its candidates, then of further series of the study and of the patient's other studies.

    No series is given twice. Never raises: a preference that does not compile is left out.
    """
    primary = pick(PRIMARY, candidates, rule.prefer)
    taken = {primary.winner.series_uid} if primary.winner else set()
    inputs = []
    for role in rule.inputs if primary.winner else ():
        among = _of_role(role, primary.winner, study if role.origin is Origin.STUDY else others)
        found = pick(
            role.name, [c for c in among if c.series_uid not in taken], role.prefer, prior=role.origin is Origin.PRIOR
        )
        inputs.append(found)
        taken |= {found.winner.series_uid} if found.winner else set()
    return Selection(primary=primary, inputs=tuple(inputs))


def matches_role(role: Role, facts: SeriesFacts) -> bool:
    """Whether a series meets the condition of a role; the safety floor holds for it as for any rule."""
    [decision] = evaluate([RoutingRule(name=role.name, when=role.expression, package="-")], facts)
    return decision.matched


def _of_role(role: Role, primary: Candidate | None, among: Iterable[Candidate]) -> list[Candidate]:
    found = [each for each in among if matches_role(role, each.facts)]
    if role.origin is Origin.STUDY or primary is None:
        return found
    return [each for each in found if is_earlier(moment(each.facts.header), moment(primary.facts.header))]


def is_earlier(one: Moment, two: Moment) -> bool:
    """Whether one study was made before another; where dates are equal, their times must tell."""
    if not one[0] or not two[0]:
        return False
    if one[0] != two[0]:
        return one[0] < two[0]
    return bool(one[1] and two[1]) and one[1] < two[1]


def moment(header: Header) -> Moment:
    """When the study of a series was made; empty where the header does not say it."""
    texts = (str(header.get(keyword) or "").strip() for keyword in ("StudyDate", "StudyTime"))
    date, time = (text if text[:6].isdecimal() else "" for text in texts)
    return date[:8], time[:6]


def pick(role: str, candidates: Sequence[Candidate], prefer: Sequence[str], *, prior: bool = False) -> Pick:
    """The candidates in order of preference."""
    compiled = list(_compiled(prefer))
    ranked = tuple(sorted((_ranked(each, compiled, prior) for each in candidates), key=lambda r: r.order))
    texts = tuple(each.text for each in compiled)
    return Pick(role=role, prefer=texts, ranked=ranked, why=_why(texts, ranked))


def _compiled(prefer: Iterable[str]) -> Iterator[Preference]:
    for text in prefer:
        with suppress(RuleError):
            yield compile_preference(text)


def _ranked(candidate: Candidate, prefer: Sequence[Preference], prior: bool) -> Ranked:
    facts = candidate.facts
    grades = tuple(each.grade(facts) for each in prefer)
    return Ranked(
        candidate=candidate, grades=grades, order=(*(grade.order for grade in grades), *ties(candidate, prior))
    )


def ties(candidate: Candidate, prior: bool = False) -> tuple[Any, ...]:
    """What decides where all preferences are equal."""
    facts = candidate.facts
    date, time = moment(facts.header) if prior else ("", "")
    images = facts.derived["number_of_frames"].value if "number_of_frames" in facts.derived else 0
    number = number_of(Reading(facts.header).number("SeriesNumber"))
    return (
        tuple(-ord(character) for character in f"{date:<8}{time:<6}"),
        -(number_of(images) or 0),
        float("inf") if number is None else number,
        candidate.series_uid,
    )


def _why(prefer: Sequence[str], ranked: Sequence[Ranked]) -> str:
    if not ranked:
        return "no series matches"
    if len(ranked) == 1:
        return "it is the only one that matches"
    best, next_ = ranked[0], ranked[1]
    at = next(i for i, (one, two) in enumerate(zip(best.order, next_.order, strict=True)) if one != two)
    if at >= len(prefer):
        equal = "all preferences are equal, and it has " if prefer else "it has "
        return f"of {len(ranked)} that match, {equal}{_TIES[at - len(prefer)]}"
    one, two = best.grades[at].shown, next_.grades[at].shown
    return f"of {len(ranked)} that match, `{prefer[at]}` decides: {one}; in the next best, {two}"


def inputs_of(selection: Selection) -> Mapping[str, Candidate]:
    """The further inputs that were found, by role."""
    return {pick.role: pick.winner for pick in selection.inputs if pick.winner is not None}
