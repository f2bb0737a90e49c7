"""The book of what the installation is set up to do: routing rules, their decisions, model packages."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from storage.audit import Trail
from storage.facts.errors import Rejected
from storage.facts.routing import RegisteredPackage, Rule, Verdict
from storage.facts.study import Urgency
from storage.tables import DecisionRow, PackageRow, RuleRow


class Catalogue:
    """Appends and questions, inside one transaction."""

    def __init__(self, session: Session, trail: Trail, actor: str) -> None:
        self._session, self._trail, self._actor = session, trail, actor

    def rules(self) -> list[Rule]:
        """All rules in their order of evaluation."""
        return [_rule(row) for row in self._session.scalars(select(RuleRow).order_by(RuleRow.position, RuleRow.name))]

    def put_rule(self, rule: Rule) -> None:
        """Add a rule, or replace the one of that name."""
        row = self._session.get(RuleRow, rule.name)
        before = None if row is None else _plain(_rule(row))
        if row is None:
            last = self._session.scalar(select(func.max(RuleRow.position))) or 0
            row = RuleRow(name=rule.name, position=rule.position or last + 1)
            self._session.add(row)
        elif rule.position:
            row.position = rule.position
        row.enabled, row.expression, row.package = rule.enabled, rule.expression, rule.package
        row.destinations, row.urgency = list(rule.destinations), int(rule.urgency)
        row.changed_by, row.changed_at = self._actor, time.time()
        self._session.flush()
        self._trail.append("rule changed", rule=rule.name, before=before, after=_plain(_rule(row)))

    def remove_rule(self, name: str) -> None:
        """Remove a rule. Raises Rejected when there is none of that name."""
        row = self._session.get(RuleRow, name)
        if row is None:
            raise Rejected(f"there is no rule {name!r}: see `dicom-node rules list`")
        before = _plain(_rule(row))
        self._session.delete(row)
        self._trail.append("rule removed", rule=name, before=before)

    def record_decisions(self, study_uid: str, series_uid: str, revision: int, verdicts: Iterable[Verdict]) -> None:
        """Keep why each rule did or did not match."""
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
                explanation=dict(verdict.explanation),
                at=time.time(),
            )
            self._session.add(row)
            matched += [verdict.rule] if verdict.matched else []
        self._trail.append("series routed", study=study_uid, series=series_uid, revision=revision, rules=matched)

    def register_package(self, package: RegisteredPackage) -> bool:
        """Note a verified package. Returns whether it is new. Raises Rejected when its version has other content."""
        row = self._session.get(PackageRow, (package.package, package.version))
        if row is not None:
            if row.digest != package.digest:
                raise Rejected(
                    f"package {package.package}@{package.version} is registered with other content "
                    f"({row.digest[:12]}, now {package.digest[:12]}): give the changed package a new version"
                )
            return False
        self._session.add(
            PackageRow(
                package=package.package,
                version=package.version,
                digest=package.digest,
                title=package.title,
                manifest=dict(package.manifest),
                registered_at=time.time(),
            )
        )
        self._trail.append(
            "package registered", package=package.package, version=package.version, digest=package.digest
        )
        return True

    def packages(self) -> list[RegisteredPackage]:
        """All registered packages, newest version of each last."""
        rows = self._session.scalars(select(PackageRow).order_by(PackageRow.package, PackageRow.registered_at))
        return [
            RegisteredPackage(package=r.package, version=r.version, digest=r.digest, title=r.title, manifest=r.manifest)
            for r in rows
        ]


def _rule(row: RuleRow) -> Rule:
    return Rule(
        name=row.name,
        expression=row.expression,
        package=row.package,
        destinations=tuple(row.destinations),
        urgency=Urgency(row.urgency),
        enabled=row.enabled,
        position=row.position,
    )


def _plain(rule: Rule) -> dict[str, Any]:
    return {
        "expression": rule.expression,
        "package": rule.package,
        "destinations": list(rule.destinations),
        "urgency": rule.urgency.name,
        "enabled": rule.enabled,
        "position": rule.position,
    }
