"""Choices within studies during a rehearsal: who would win once the whole of a study is there.

What a rule that chooses would run is known only at the end of the traffic. Until then, the series that it matches are
held, with the best of each study so far.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dicom_node.route.choice import Candidate, Moment, is_earlier, moment, ties
from dicom_node.route.facts import SeriesFacts
from dicom_node.route.language import RuleError
from dicom_node.route.preference import Preference, compile_preference
from storage.facts.routing import Origin, RecordedSeries, Role, Rule, RuleSet, patient_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A series that some rule may choose, and what the other rules do with it: before and after."""

    series_uid: str
    study_uid: str
    at: float  #: arrival of its last object, seconds since the epoch
    about: str
    plain: tuple[list[Rule], list[Rule]]
    choosing: tuple[list[Rule], list[Rule]]


@dataclass(slots=True)
class Tried:
    """What one rule made of the studies."""

    studies: int = 0  #: in which it takes a series
    candidates: int = 0
    missing: dict[str, int] = field(default_factory=dict)  #: role to the studies for which no series is it


@dataclass(slots=True)
class _Best:
    """The best candidate of one rule in one study so far."""

    order: tuple[Any, ...]
    series_uid: str
    candidates: int
    patient: str | None
    made: Moment


class Contest:
    """The choices of two rule sets."""

    def __init__(self, sets: Sequence[RuleSet]) -> None:
        self._held: list[Held] = []
        self._best: tuple[dict[tuple[str, str], _Best], ...] = tuple({} for _ in sets)
        self._filled: tuple[dict[tuple[str, str, str], list[tuple[Any, ...]]], ...] = tuple({} for _ in sets)
        self._priors: tuple[dict[tuple[str, str, str], list[Moment]], ...] = tuple({} for _ in sets)
        rules = [rule for each in sets for rule in each.rules]
        preferences = [prefer for rule in rules for prefer in (rule.prefer, *(role.prefer for role in rule.inputs))]
        self._orders = {prefer: list(_orders(prefer)) for prefer in preferences}
        self._most = max((len(rule.inputs) for rule in rules), default=0) + 1
        self.roles = [RuleSet().of(list(_as_rules(each))) for each in sets]

    def hold(self, held: Held, facts: SeriesFacts) -> None:
        """Take a series into account that rules which choose have matched."""
        self._held.append(held)
        for best, rules in zip(self._best, held.choosing, strict=True):
            for rule in rules:
                order = self._order(rule.prefer, held, facts)
                key = held.study_uid, rule.name
                known = best.get(key)
                number = known.candidates + 1 if known else 1
                if known is None or order < known.order:
                    patient, made = patient_digest(facts.header), moment(facts.header)
                    best[key] = _Best(
                        order=order, series_uid=held.series_uid, candidates=number, patient=patient, made=made
                    )
                else:
                    known.candidates = number

    def _order(self, prefer: tuple[str, ...], one: Held | RecordedSeries, facts: SeriesFacts) -> tuple[Any, ...]:
        candidate = Candidate(series_uid=one.series_uid, study_uid=one.study_uid, facts=facts, about="")
        return (*(each.order(facts) for each in self._orders[prefer]), *ties(candidate))

    def fill(self, recorded: RecordedSeries, facts: SeriesFacts, roles: Sequence[Iterable[Rule]]) -> None:
        """Note the roles that a series may have: for each set, those that matched it, named as ``roles`` names them."""
        patient, made = patient_digest(recorded.header), moment(recorded.header)
        for filled, priors, matched in zip(self._filled, self._priors, roles, strict=True):
            for each in matched:
                found = filled.setdefault((recorded.study_uid, *_names(each)), [])
                bisect.insort(found, self._order(each.prefer, recorded, facts))
                del found[self._most :]  # the others of the rule cannot take more than these
                if patient and made[0]:
                    key = patient, *_names(each)
                    priors[key] = _oldest([*priors.get(key, []), made])

    def decided(self) -> Iterator[tuple[Held, list[Rule], list[Rule]]]:
        """Every series that was held, with all rules that would run on it: before and after."""
        for held in self._held:
            before, after = (self._all(held, side) for side in (0, 1))
            yield held, before, after

    def _all(self, held: Held, side: int) -> list[Rule]:
        best = self._best[side]
        won = [r for r in held.choosing[side] if best[held.study_uid, r.name].series_uid == held.series_uid]
        return [*held.plain[side], *won]

    def tried(self, rules: RuleSet, side: int) -> dict[str, Tried]:
        """What the rules of one set that choose made of the studies. Earlier studies are those of the recorded time."""
        found = {rule.name: Tried() for rule in rules.rules if rule.chooses}
        inputs = {rule.name: rule.inputs for rule in rules.rules}
        for (study_uid, name), best in self._best[side].items():
            tried = found[name]
            tried.studies += 1
            tried.candidates += best.candidates
            taken = {best.series_uid}
            for role in inputs[name]:
                if not self._is_there(role, side, (study_uid, name), best, taken):
                    tried.missing[role.name] = tried.missing.get(role.name, 0) + 1
        return found

    def _is_there(self, role: Role, side: int, of: tuple[str, str], best: _Best, taken: set[str]) -> bool:
        """Whether a series is left for a role; then it is taken, as no series is given twice."""
        if role.origin is Origin.PRIOR:
            known = self._priors[side].get((best.patient or "", of[1], role.name), [])
            return any(is_earlier(made, best.made) for made in known)
        left = (order[-1] for order in self._filled[side].get((*of, role.name), []) if order[-1] not in taken)
        found = next(left, None)
        taken |= {found} if found is not None else set()
        return found is not None


def _oldest(made: Sequence[Moment]) -> list[Moment]:
    """Those that tell whether any of these is earlier than some other: the first date, the first with a time."""
    timed = [each for each in made if each[1]]
    return [min(made), *([min(timed)] if timed else [])]


def _orders(prefer: Sequence[str]) -> Iterator[Preference]:
    for line in prefer:
        try:
            yield compile_preference(line)
        except RuleError:
            continue  # as in the stage


def _as_rules(rules: RuleSet) -> Iterator[Rule]:
    """Each role as a rule of its own, so that the replay can ask for all of them at once."""
    for rule in rules.rules:
        for role in rule.inputs if rule.enabled else ():
            yield _as_rule(rule, role)


def _as_rule(rule: Rule, role: Role) -> Rule:
    name = f"{rule.name}/{role.name}"
    return Rule(name=name, expression=role.expression, package="-", destinations=(), prefer=role.prefer)


def _names(rule: Rule) -> tuple[str, str]:
    name, _, role = rule.name.rpartition("/")
    return name, role
