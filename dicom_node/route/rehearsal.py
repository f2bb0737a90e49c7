"""What a proposed rule set would have made of recorded traffic, beside what the one in force makes of it."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from dicom_node.route.contest import Contest, Held, Tried
from dicom_node.route.facts import SeriesFacts
from dicom_node.route.replay import Replay
from storage.facts.routing import Experience, RecordedSeries, Rule, RuleSet
from storage.facts.study import UNREADABLE, Urgency

EXAMPLES = 3  #: series shown of each gain and loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A series, for a person to look up."""

    series_uid: str
    study_uid: str
    about: str


@dataclass(slots=True, kw_only=True)
class Change:
    """What happens to the series of one rule or one model."""

    before: int = 0
    after: int = 0
    gained: int = 0
    lost: int = 0
    gained_examples: list[Example] = field(default_factory=list)
    lost_examples: list[Example] = field(default_factory=list)

    def count(self, before: bool, after: bool, example: Callable[[], Example]) -> None:
        """Take one series into account."""
        self.before += before
        self.after += after
        if after and not before:
            self.gained += 1
            if len(self.gained_examples) < EXAMPLES:
                self.gained_examples.append(example())
        if before and not after:
            self.lost += 1
            if len(self.lost_examples) < EXAMPLES:
                self.lost_examples.append(example())


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the runs of one model cost and raise, over the whole of the recorded time; None: no run was measured."""

    minutes_before: float | None
    minutes_after: float | None
    alerts_before: float | None
    alerts_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """Studies that reach a model within one hour."""

    at: float  #: its begin, seconds since the epoch
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What would change."""

    series: int
    studies: int
    days: float  #: from the first recorded series to the last
    rules: Mapping[str, Change]
    models: Mapping[str, Change]
    loads: Mapping[str, Load]
    peak: Hour | None  #: the hour in which most studies are added
    busiest_before: int  #: most studies in any hour
    busiest_after: int
    unmatched_before: int
    unmatched_after: int
    choices: Mapping[str, Tried]  #: what the proposed rules that choose would make of the studies
    seconds: float  #: that the rehearsal took

    @property
    def changes_nothing(self) -> bool:
        """Whether every series goes where it went."""
        return not any(c.gained or c.lost for c in (*self.rules.values(), *self.models.values()))


@dataclass(slots=True)
class _Tally:
    """Counters while the traffic goes by."""

    rules: dict[str, Change] = field(default_factory=lambda: defaultdict(Change))
    models: dict[str, Change] = field(default_factory=lambda: defaultdict(Change))
    forced: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))
    silent: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))
    hours: dict[int, tuple[set[str], set[str]]] = field(default_factory=dict)
    unmatched: list[int] = field(default_factory=lambda: [0, 0])
    studies: set[str] = field(default_factory=set)
    series: int = 0
    first: float = 0.0
    last: float = 0.0


def rehearse(
    traffic: Iterable[tuple[RecordedSeries, SeriesFacts]],
    live: RuleSet,
    proposed: RuleSet,
    experience: Mapping[str, Experience],
) -> Rehearsal:
    """Ask both sets about every recorded series. Nothing is run, and nothing is written."""
    begun = time.perf_counter()
    contest = Contest([live, proposed])
    replay = Replay([live, proposed, *contest.roles])
    tally = _Tally()
    for rule in (*live.rules, *proposed.rules):
        tally.rules[rule.name]  # rules that match nothing are shown, too
    for recorded, facts in traffic:
        readable = UNREADABLE not in recorded.header
        before, after, *roles = replay.matches(facts) if readable else ([], [], [], [])
        _see(tally, recorded)
        contest.fill(recorded, facts, roles)
        choosing = _choosing(before), _choosing(after)
        if any(choosing):
            contest.hold(_held(recorded, facts, (before, after), choosing), facts)
        else:
            _count(tally, _Seen(recorded, facts), before, after)
    for held, before, after in contest.decided():
        _count(tally, held, before, after)
    loads = {model: _load(tally, model, experience.get(model.partition("@")[0])) for model in tally.models}
    hours = list(_hours(tally))
    return Rehearsal(
        series=tally.series,
        studies=len(tally.studies),
        days=(tally.last - tally.first) / 86400,
        rules=dict(tally.rules),
        models=dict(tally.models),
        loads=loads,
        peak=max(hours, key=lambda hour: hour.after - hour.before, default=None),
        busiest_before=max((hour.before for hour in hours), default=0),
        busiest_after=max((hour.after for hour in hours), default=0),
        unmatched_before=tally.unmatched[0],
        unmatched_after=tally.unmatched[1],
        choices=contest.tried(proposed, 1),
        seconds=time.perf_counter() - begun,
    )


class _Seen:
    """A series with its description, which is made only when somebody wants to see it."""

    def __init__(self, recorded: RecordedSeries, facts: SeriesFacts) -> None:
        self.series_uid, self.study_uid, self.at = recorded.series_uid, recorded.study_uid, recorded.at
        self._facts = facts

    @property
    def about(self) -> str:
        return described(self._facts)


def _choosing(rules: Iterable[Rule]) -> list[Rule]:
    return [rule for rule in rules if rule.prefer or rule.inputs]


def _held(
    recorded: RecordedSeries,
    facts: SeriesFacts,
    rules: tuple[list[Rule], list[Rule]],
    choosing: tuple[list[Rule], list[Rule]],
) -> Held:
    plain = [[rule for rule in side if not rule.chooses] for side in rules]
    return Held(
        series_uid=recorded.series_uid, study_uid=recorded.study_uid, at=recorded.at, about=described(facts),
        plain=(plain[0], plain[1]), choosing=choosing,
    )  # fmt: skip


def _see(tally: _Tally, recorded: RecordedSeries) -> None:
    tally.series += 1
    tally.studies.add(recorded.study_uid)
    tally.first = tally.first or recorded.at
    tally.last = recorded.at


def _count(tally: _Tally, seen: _Seen | Held, before: list[Rule], after: list[Rule]) -> None:
    if not before and not after:
        tally.unmatched[0] += 1
        tally.unmatched[1] += 1
        return

    def example() -> Example:
        return Example(series_uid=seen.series_uid, study_uid=seen.study_uid, about=seen.about)

    for one, two, changes in (
        ({rule.name for rule in before}, {rule.name for rule in after}, tally.rules),
        ({rule.package for rule in before}, {rule.package for rule in after}, tally.models),
    ):
        for name in one | two:
            changes[name].count(name in one, name in two, example)
    for side, rules in enumerate((before, after)):
        _count_side(tally, side, seen, rules)


def _count_side(tally: _Tally, side: int, seen: _Seen | Held, rules: list[Rule]) -> None:
    delivered = [rule for rule in rules if not rule.shadow]
    tally.unmatched[side] += not delivered
    if rules:
        hour = tally.hours.setdefault(int(seen.at // 3600), (set(), set()))
        hour[side].add(seen.study_uid)
    raising = {rule.package for rule in delivered if rule.urgency > Urgency.ROUTINE}
    for model in raising:
        tally.forced[side][model] += 1
    for model in {rule.package for rule in rules} - {rule.package for rule in delivered}:
        tally.silent[side][model] += 1


def _hours(tally: _Tally) -> Iterator[Hour]:
    for hour, (before, after) in sorted(tally.hours.items()):
        yield Hour(at=hour * 3600.0, before=len(before), after=len(after))


def _load(tally: _Tally, model: str, known: Experience | None) -> Load:
    runs = (tally.models[model].before, tally.models[model].after)
    minutes = [run * known.seconds / 60 if known is not None and known.runs else None for run in runs]
    share = known.raised / known.results if known is not None and known.results else None
    alerts = [_alerts(tally, model, side, runs[side], share) for side in (0, 1)]
    return Load(minutes_before=minutes[0], minutes_after=minutes[1], alerts_before=alerts[0], alerts_after=alerts[1])


def _alerts(tally: _Tally, model: str, side: int, runs: int, share: float | None) -> float | None:
    """What the rules raise whatever is found, and of the other runs the share that was raised so far."""
    forced = tally.forced[side][model]
    others = runs - forced - tally.silent[side][model]
    if share is None:
        return None if others else float(forced)
    return forced + others * share


def described(facts: SeriesFacts) -> str:
    """A series in a few words, without who the patient is."""
    modality = str(facts.header.get("Modality", "?"))
    images = facts.derived["number_of_frames"].value if "number_of_frames" in facts.derived else 0
    words = [modality, f"{images} image{'' if images == 1 else 's'}" if images else ""]
    told = str(facts.header.get("SeriesDescription", ""))[:40]
    return ", ".join(filter(None, [*words, f'"{facts.redacted(told)}"' if told else ""]))
