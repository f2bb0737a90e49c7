"""The book of what the installation is set up to do: the rule set and its versions, decisions, model packages."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import case, delete, exists, func, or_, select, text
from sqlalchemy.orm import Session

from storage.audit import Trail
from storage.choices import Choices
from storage.facts.errors import Rejected
from storage.facts.routing import (
    Experience,
    RecordedSeries,
    Rule,
    RuleDraft,
    RuleSet,
    RuleVersion,
    Verdict,
    changes,
    patient_digest,
    set_document,
    set_of,
)
from storage.facts.study import Urgency
from storage.facts.task import Kind, State
from storage.packages import Packages
from storage.tables import (
    DecisionRow,
    PredictionRow,
    RuleDraftRow,
    RuleVersionRow,
    SeriesFactRow,
    SeriesRow,
    TaskRow,
)

_NOTHING = RuleVersion(number=0, rules=RuleSet(), author="", reason="", at=0.0)
_NO_DRAFT = "there is no draft: nothing was changed since the rules were applied"
_REMEMBERED_RUNS = 5000  #: the newest runs and results that the experience with a package rests on


class Catalogue(Choices, Packages):
    """Appends and questions, inside one transaction."""

    def __init__(self, session: Session, trail: Trail, actor: str) -> None:
        super().__init__(session, trail)
        self._actor = actor

    def live(self) -> RuleVersion:
        """The rule set in force."""
        row = self._session.scalar(select(RuleVersionRow).order_by(RuleVersionRow.number.desc()).limit(1))
        return _NOTHING if row is None else _version(row)

    def rules(self) -> list[Rule]:
        """All rules in force, in their order of evaluation."""
        return list(self.live().rules.rules)

    def version(self, number: int) -> RuleVersion:
        """A rule set that is or was in force. Raises Rejected when there is none of that number."""
        row = self._session.get(RuleVersionRow, number)
        if row is None and number != 0:
            raise Rejected(f"there is no version {number} of the rules: see `dicom-node rules history`")
        return _NOTHING if row is None else _version(row)

    def versions(self, limit: int = 1000) -> list[RuleVersion]:
        """What was in force, the newest first."""
        query = select(RuleVersionRow).order_by(RuleVersionRow.number.desc()).limit(limit)
        return [_version(row) for row in self._session.scalars(query)]

    def put_rule(self, rule: Rule) -> None:
        """Put one rule in force at once. Raises Rejected where a second person must approve."""
        rules = self.live().rules
        self.enact(rules.put(rule), f"rule {rule.name} {'changed' if rules.find(rule.name) else 'added'}")

    def remove_rule(self, name: str) -> None:
        """Take one rule out of force at once. Raises Rejected when there is none of that name."""
        self.enact(self.live().rules.remove(name), f"rule {name} removed")

    def enact(self, rules: RuleSet, reason: str) -> RuleVersion:
        """Put a whole set in force at once. Raises Rejected where a second person must approve."""
        if self.live().rules.approval:
            raise Rejected(
                "a change of the rules needs a second person here: draft it, `dicom-node rules apply` proposes it and "
                "somebody else approves it"
            )
        return self._enact(rules, reason)

    def _enact(
        self, rules: RuleSet, reason: str, *, author: str = "", approver: str = "", restores: int | None = None
    ) -> RuleVersion:
        if self._session.get_bind().dialect.name == "postgresql":
            self._session.execute(text("SELECT pg_advisory_xact_lock(1146045268)"))
        live = self.live()
        version = RuleVersion(
            number=live.number + 1,
            rules=rules,
            author=author or self._actor,
            approver=approver,
            reason=reason,
            restores=restores,
            at=time.time(),
        )
        self._session.add(RuleVersionRow(document=set_document(rules), **_plain(version)))
        self._session.flush()
        self._trail.append("rules applied", **_plain(version), diff=changes(live.rules, rules))
        return version

    def draft(self) -> RuleDraft | None:
        """The set as it shall become; None when nobody has begun a change."""
        row = self._session.get(RuleDraftRow, 1)
        return None if row is None else _draft(row)

    def keep_draft(self, rules: RuleSet) -> RuleDraft | None:
        """Make this the draft. A draft that comes to what is in force is dropped: returns None."""
        live, row = self.live(), self._session.get(RuleDraftRow, 1)
        if not changes(live.rules, rules):
            if row is not None:
                self._session.delete(row)
            return None
        if row is None:
            row = RuleDraftRow(id=1, base=live.number, authors=[])
            self._session.add(row)
        row.document, row.reason, row.proposed, row.at = set_document(rules), "", False, time.time()
        row.authors = [*(a for a in row.authors if a != self._actor), self._actor]
        self._session.flush()
        return _draft(row)

    def discard_draft(self) -> None:
        """Drop the draft. Raises Rejected when there is none."""
        draft = self.draft()
        if draft is None:
            raise Rejected(_NO_DRAFT)
        self._drop_draft()
        self._trail.append("rules discarded", diff=changes(self.live().rules, draft.rules), authors=list(draft.authors))

    def apply_draft(self, reason: str) -> RuleVersion | RuleDraft:
        """Put the draft in force, or, where a second person must approve, propose it.

        Raises Rejected without a draft, and for one that was begun on a version that is no longer in force.
        """
        draft, live = self._known_draft(), self.live()
        if live.rules.approval:
            row = self._session.get_one(RuleDraftRow, 1)
            row.proposed, row.reason = True, reason
            row.authors = [*(a for a in row.authors if a != self._actor), self._actor]
            self._session.flush()
            self._trail.append(
                "rules proposed", reason=reason, proposal=draft.rules.digest(), diff=changes(live.rules, draft.rules)
            )
            return _draft(row)
        self._drop_draft()
        return self._enact(draft.rules, reason)

    def approve(self, proposal: str) -> RuleVersion:
        """Put a proposed draft in force as its second person.

        Raises Rejected when it is not proposed, is no longer what was seen, or was changed by the same person.
        """
        draft = self._known_draft()
        if not draft.proposed:
            raise Rejected("the draft is not proposed yet: `dicom-node rules apply --reason WHY` proposes it")
        digest = draft.rules.digest()
        if proposal != digest:
            raise Rejected(f"the proposal is {digest}, not {proposal}: look at `dicom-node rules diff` again")
        if self._actor in draft.authors:
            raise Rejected("you took part in this change: another person must approve it")
        self._drop_draft()
        author = ", ".join(draft.authors)
        return self._enact(draft.rules, draft.reason, author=author, approver=self._actor)

    def rollback(self, reason: str, to: int | None = None) -> RuleVersion:
        """Put an earlier version in force again, by default the one before; repeated, the one before that.

        It needs nobody else, for it was in force before; whether changes need approval stays as it is now. Raises
        Rejected when there is no such version, or it is what is in force.
        """
        live = self.live()
        if live.number == 0:
            raise Rejected("there is nothing to roll back: no rule set was ever applied")
        earlier = (live.number if live.restores is None else live.restores) - 1
        target = self.version(max(earlier, 0) if to is None else to)
        rules = dataclasses.replace(target.rules, approval=live.rules.approval)
        if not changes(live.rules, rules):
            raise Rejected(f"version {target.number} says the same as version {live.number}, which is in force")
        return self._enact(rules, reason, restores=target.number)

    def _known_draft(self) -> RuleDraft:
        draft, live = self.draft(), self.live()
        if draft is None:
            raise Rejected(_NO_DRAFT)
        if draft.base != live.number:
            raise Rejected(
                f"the draft was begun on version {draft.base}, but version {live.number} is in force now: "
                "`dicom-node rules export --draft FILE`, `rules discard`, `rules import FILE`, and look at `rules diff`"
            )
        return draft

    def _drop_draft(self) -> None:
        self._session.delete(self._session.get_one(RuleDraftRow, 1))
        self._session.flush()

    def record_decisions(
        self, study_uid: str, series_uid: str, revision: int, verdicts: Iterable[Verdict], version: int | None = None
    ) -> None:
        """Keep why each rule of a version of the set did or did not match."""
        self._session.execute(
            delete(DecisionRow).where(DecisionRow.series_uid == series_uid, DecisionRow.revision == revision)
        )
        matched = []
        for verdict in verdicts:
            row = DecisionRow(
                series_uid=series_uid,
                revision=revision,
                rule=verdict.rule,
                matched=verdict.matched,
                shadow=verdict.shadow,
                explanation=dict(verdict.explanation),
                version=version,
                at=time.time(),
            )
            self._session.add(row)
            matched += [verdict.rule] if verdict.matched else []
        self._trail.append(
            "series routed", study=study_uid, series=series_uid, revision=revision, rules=matched, version=version
        )

    def decisions(self, series_uid: str) -> list[tuple[Verdict, int | None]]:
        """What each rule said of the latest routed revision of a series, and the version of the set it was in."""
        newest = select(func.max(DecisionRow.revision)).where(DecisionRow.series_uid == series_uid).scalar_subquery()
        query = select(DecisionRow).where(DecisionRow.series_uid == series_uid, DecisionRow.revision == newest)
        rows = sorted(self._session.scalars(query), key=lambda row: row.explanation.get("position", 0))
        return [
            (Verdict(rule=r.rule, matched=r.matched, explanation=r.explanation, shadow=r.shadow), r.version)
            for r in rows
        ]

    def matches(self, since: float) -> dict[str, int]:
        """How many series each rule has matched since then."""
        query = (
            select(DecisionRow.rule, func.count())
            .where(DecisionRow.at >= since, DecisionRow.matched)
            .group_by(DecisionRow.rule)
        )
        return {row[0]: row[1] for row in self._session.execute(query)}

    def keep_facts(self, series_uid: str, revision: int, derivation: str, facts: Mapping[str, Any]) -> None:
        """Keep what was derived from all slices of a complete series."""
        header = self._session.scalar(select(SeriesRow.header).where(SeriesRow.series_uid == series_uid)) or {}
        row = SeriesFactRow(series_uid=series_uid, revision=revision, derivation=derivation, facts=dict(facts))
        row.patient = patient_digest(header)
        self._session.merge(row)

    def without_facts(self, since: float, derivation: str) -> list[str]:
        """The complete series recorded since then whose present revision has no facts of this derivation."""
        known = exists().where(
            SeriesFactRow.series_uid == SeriesRow.series_uid,
            SeriesFactRow.revision == SeriesRow.revision,
            SeriesFactRow.derivation == derivation,
        )
        query = select(SeriesRow.series_uid).where(SeriesRow.revision > 0, SeriesRow.last_at >= since, ~known)
        return list(self._session.scalars(query))

    def recorded_count(self, since: float) -> int:
        """How many complete series were recorded since then."""
        query = select(func.count()).where(SeriesRow.revision > 0, SeriesRow.last_at >= since)
        return self._session.scalar(query) or 0

    def recorded(self, since: float, *, unmatched: bool = False, uid: str = "") -> Iterator[RecordedSeries]:
        """The complete series recorded since then, the oldest first; only those that no rule delivers for, or of one
        study or series, if asked."""
        query = (
            select(
                SeriesRow.series_uid, SeriesRow.study_uid, SeriesRow.calling_ae, SeriesRow.called_ae,
                SeriesRow.revision, SeriesRow.last_at, SeriesRow.header,
                SeriesFactRow.revision, SeriesFactRow.derivation, SeriesFactRow.facts,
            )
            .outerjoin(SeriesFactRow, SeriesFactRow.series_uid == SeriesRow.series_uid)
            .where(SeriesRow.revision > 0, SeriesRow.last_at >= since)
            .order_by(SeriesRow.last_at)
            .execution_options(yield_per=500)
        )  # fmt: skip
        if uid:
            query = query.where((SeriesRow.series_uid == uid) | (SeriesRow.study_uid == uid))
        if unmatched:
            query = query.where(
                ~exists().where(
                    DecisionRow.series_uid == SeriesRow.series_uid,
                    DecisionRow.revision == SeriesRow.revision,
                    DecisionRow.matched,
                    ~DecisionRow.shadow,
                )
            )
        for uid, study, calling, called, revision, at, header, known, derivation, facts in self._session.execute(query):
            yield RecordedSeries(
                series_uid=uid,
                study_uid=study,
                calling_ae=calling,
                called_ae=called,
                revision=revision,
                at=at,
                header=header,
                derivation=derivation if known == revision else "",
                facts=facts or {},
            )

    def experience(self) -> dict[str, Experience]:
        """What the newest runs of each package have cost and raised; of one that never ran, what its benchmark cost."""
        runs: dict[str, list[float]] = {}
        query = (
            select(TaskRow.payload, TaskRow.claimed_at, TaskRow.ended_at)
            .where(
                TaskRow.kind == Kind.INFER.value, TaskRow.state == State.DONE.value,
                TaskRow.claimed_at.is_not(None), TaskRow.ended_at.is_not(None),
            )
            .order_by(TaskRow.id.desc())
            .limit(_REMEMBERED_RUNS)
        )  # fmt: skip
        for payload, claimed, ended in self._session.execute(query):
            runs.setdefault(str(payload.get("package")), []).append(max(0.0, ended - claimed))
        # A shadow run raises nothing; what its findings claimed is what a rule without shadow would raise.
        claim = func.coalesce(PredictionRow.document["claim"].as_integer(), 0)
        high = int(Urgency.HIGH)
        urgent = func.sum(case((or_(PredictionRow.urgency >= high, claim >= high), 1), else_=0))
        results = {
            package: (number, int(raised))
            for package, number, raised in self._session.execute(
                select(PredictionRow.package, func.count(), urgent).group_by(PredictionRow.package)
            )
        }
        tried = {package: cost for package, cost in self.benchmarks().items() if package not in runs}
        costs = {package: (len(seconds), sum(seconds) / len(seconds)) for package, seconds in runs.items()} | tried
        return {
            package: Experience(
                runs=costs.get(package, (0, 0.0))[0],
                seconds=costs.get(package, (0, 0.0))[1],
                results=results.get(package, (0, 0))[0],
                raised=results.get(package, (0, 0))[1],
            )
            for package in {*costs, *results}
        }


def _version(row: RuleVersionRow) -> RuleVersion:
    return RuleVersion(
        number=row.number,
        rules=set_of(row.document),
        author=row.author,
        reason=row.reason,
        at=row.at,
        approver=row.approver,
        restores=row.restores,
    )


def _plain(version: RuleVersion) -> dict[str, Any]:
    """Everything of a version but the rules."""
    return {n: getattr(version, n) for n in ("number", "author", "approver", "reason", "restores", "at")}


def _draft(row: RuleDraftRow) -> RuleDraft:
    return RuleDraft(
        base=row.base,
        rules=set_of(row.document),
        authors=tuple(row.authors),
        reason=row.reason,
        proposed=row.proposed,
        at=row.at,
    )
