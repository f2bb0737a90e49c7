"""What the catalogue knows of model packages: their versions, which one is in use, and what speaks for a change."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from storage.audit import Trail
from storage.facts.errors import Rejected
from storage.facts.prediction import Prediction
from storage.facts.release import WAIVED, KeptProof, KeptTrial, Move, PackageVersion, Release, Trial
from storage.facts.routing import RegisteredPackage
from storage.facts.wire import from_json
from storage.tables import AuditRow, PackageRow, PredictionRow, ProofRow, ReleaseRow

_LOCK = 1146045269  #: of PostgreSQL: releases are numbered one after the other
_COMPARED = 2000  #: the newest pairs of results that two versions are compared by


class Packages:
    """Appends and questions, inside one transaction."""

    _session: Session
    _trail: Trail
    _actor: str

    def register_package(
        self,
        package: RegisteredPackage,
        *,
        origin: str = "",
        signer: str = "",
        files: Mapping[str, str] | None = None,
        report: str = "",
    ) -> bool:
        """Note a verified package; the first version of a package comes into use, later ones wait for a promotion.

        Returns whether it is new. Raises Rejected when its version has other content.
        """
        row = self._session.get(PackageRow, (package.package, package.version))
        if row is not None:
            if row.digest != package.digest:
                raise Rejected(
                    f"package {package.package}@{package.version} is registered with other content "
                    f"({row.digest[:12]}, now {package.digest[:12]}): give the changed package a new version"
                )
            if origin and row.files is None:  # a worker was quicker than the command that brought it
                row.origin, row.signer = origin, signer or None
                row.files, row.report = dict(files or {}), report or None
            return False
        self._session.add(
            PackageRow(
                package=package.package,
                version=package.version,
                digest=package.digest,
                title=package.title,
                manifest=dict(package.manifest),
                registered_at=time.time(),
                origin=origin or None,
                signer=signer or None,
                files=None if files is None else dict(files),
                report=report or None,
            )
        )
        self._session.flush()
        self._trail.append(
            "package registered", package=package.package, version=package.version, digest=package.digest,
            origin=origin, signer=signer,
        )  # fmt: skip
        if self._last_release(package.package) is None:
            self._release(package.package, package.version, Move.FIRST, "the first version of its package")
        return True

    def packages(self) -> list[RegisteredPackage]:
        """The packages that rules may name, without retired versions; the version in use is the last of each."""
        found = [
            RegisteredPackage(
                package=v.package, version=v.version, digest=v.digest, title=v.title, manifest=v.manifest,
                stable=v.stable,
            )
            for v in self.package_versions()
            if v.retired_at is None
        ]  # fmt: skip
        return sorted(found, key=lambda p: (p.package, p.stable))

    def package_versions(self, package: str = "") -> list[PackageVersion]:
        """Every version that was ever registered, retired ones too, by registration; of one package if asked."""
        query = select(PackageRow).order_by(PackageRow.package, PackageRow.registered_at, PackageRow.version)
        if package:
            query = query.where(PackageRow.package == package)
        proofs: dict[tuple[str, str], list[KeptProof]] = {}
        for row in self._session.scalars(select(ProofRow).order_by(ProofRow.device)):
            kept = KeptProof(device=row.device, passed=row.passed, document=row.document, at=row.at)
            proofs.setdefault((row.package, row.version), []).append(kept)
        stable = self._stable()
        return [
            _version(row, stable.get(row.package) == row.version, tuple(proofs.get((row.package, row.version), ())))
            for row in self._session.scalars(query)
        ]

    def package_version(self, reference: str) -> PackageVersion:
        """The version that ``package@version`` names, or the one in use of ``package``. Raises Rejected for none."""
        package, _, version = reference.partition("@")
        found = self.package_versions(package)
        wanted = [v for v in found if (v.version == version if version else v.stable)]
        if wanted:
            return wanted[0]
        if not found:
            known = ", ".join(sorted({v.package for v in self.package_versions()})) or "none"
            raise Rejected(f"there is no package {package!r} (registered: {known}): see `dicom-node models list`")
        there = ", ".join(v.version for v in found)
        what = f"version {version!r}" if version else "version in use"
        raise Rejected(f"package {package} has no {what} (registered: {there}): see `dicom-node models list --all`")

    def keep_proof(self, package: str, version: str, proof: KeptProof) -> None:
        """Keep what came of proving a registered version on a device, in the place of an earlier proof there."""
        row = ProofRow(package=package, version=version, device=proof.device, passed=proof.passed)
        row.document, row.at = dict(proof.document), time.time()
        self._session.merge(row)
        self._session.flush()
        self._trail.append(
            "package proved", outcome=0 if proof.passed else 8, package=package, version=version,
            device=proof.device, passed=proof.passed,
        )  # fmt: skip

    def promote(
        self, package: str, version: str, reason: str, evidence: Mapping[str, Any], *, without_self_test: str = ""
    ) -> Release:
        """Bring a version into use whose self-test passed here.

        ``without_self_test`` says why one that brings none is used all the same, be it in use already; the trail and
        the release keep it.
        Raises Rejected when nothing vouches for it, it is in use already, retired, or not registered.
        """
        found = self.package_version(f"{package}@{version}")
        if found.stable and not (found.doubt and without_self_test.strip()):
            raise Rejected(f"{found.reference} is in use already")
        if found.retired_at is not None:
            raise Rejected(f"{found.reference} is retired ({found.retired_reason}): a retired version stays so")
        if found.doubt:
            if found.has_self_test or not without_self_test.strip():
                raise Rejected(f"{found.reference} cannot be brought into use: {found.doubt}")
            evidence = {**evidence, WAIVED: without_self_test.strip()}
            self._trail.append(
                "package self-test waived",
                outcome=4,
                package=package,
                version=version,
                reason=without_self_test.strip(),
            )
        return self._release(package, version, Move.PROMOTED, reason, evidence=evidence)

    def roll_back(self, package: str, reason: str) -> Release:
        """Bring the version into use again that was in use before; repeated, the one before that.

        Raises Rejected when there is none that is not retired.
        """
        releases = [r for r in self.releases(package) if r.version]
        if not releases:
            raise Rejected(f"package {package!r} has no version in use: see `dicom-node models list`")
        now = releases[0]
        retired = {v.version for v in self.package_versions(package) if v.retired_at is not None}
        reached = now.number if now.restores is None else now.restores
        for earlier in releases:
            if earlier.number < reached and earlier.version != now.version and earlier.version not in retired:
                return self._release(
                    package, earlier.version, Move.ROLLED_BACK, reason, evidence=earlier.evidence,
                    restores=earlier.number,
                )  # fmt: skip
        raise Rejected(f"package {package}: no other version was in use before {now.version}")

    def retire(self, package: str, version: str, reason: str) -> bool:
        """Take a version away from rules; runs that were asked for still finish. Returns whether nothing is in use now.

        Raises Rejected for a version in use while there is another one.
        """
        found = self.package_version(f"{package}@{version}")
        if found.retired_at is not None:
            raise Rejected(f"{found.reference} is retired already")
        others = [v for v in self.package_versions(package) if v.retired_at is None and v.version != version]
        if found.stable and others:
            raise Rejected(
                f"{found.reference} is in use: bring another version into use first (`dicom-node models promote` or "
                f"`rollback`; there: {', '.join(v.version for v in others)})"
            )
        row = self._session.get_one(PackageRow, (package, version))
        row.retired_at, row.retired_reason = time.time(), reason
        self._session.flush()
        self._trail.append("package retired", package=package, version=version, reason=reason)
        if found.stable:
            self._release(package, "", Move.WITHDRAWN, reason)
        return found.stable

    def keep_trial(self, package: str, version: str, trial: Trial, document: Mapping[str, Any]) -> None:
        """Keep what came of validating or benchmarking a registered version. Raises Rejected for an unknown one."""
        found = self.package_version(f"{package}@{version}")
        self._trail.append(
            f"package {trial.value}", package=package, version=version, digest=found.digest, document=dict(document)
        )

    def trials(self, package: str, version: str = "") -> list[KeptTrial]:
        """What a package was put to, the newest first; of one version if asked."""
        actions = {f"package {trial.value}": trial for trial in Trial}
        query = select(AuditRow).where(AuditRow.action.in_(actions)).order_by(AuditRow.seq.desc())
        return [
            KeptTrial(
                trial=actions[row.action], package=package, version=str(row.details["version"]),
                document=row.details["document"], author=row.actor, at=row.at,
            )
            for row in self._session.scalars(query)
            if row.details["package"] == package and version in ("", row.details["version"])
        ]  # fmt: skip

    def benchmarks(self) -> dict[str, tuple[int, float]]:
        """Runs and median seconds of the newest benchmark of each package."""
        query = select(AuditRow.details).where(AuditRow.action == f"package {Trial.BENCHMARKED.value}")
        found = self._session.scalars(query.order_by(AuditRow.seq))
        return {d["package"]: (int(d["document"]["rounds"]), float(d["document"]["seconds"])) for d in found}

    def releases(self, package: str) -> list[Release]:
        """What was in use of a package, the newest first."""
        query = select(ReleaseRow).where(ReleaseRow.package == package).order_by(ReleaseRow.number.desc())
        return [_release_of(row) for row in self._session.scalars(query)]

    def paired_results(self, package: str, one: str, other: str) -> list[tuple[Prediction, Prediction]]:
        """Results of two versions on the same revision of the same series, the newest first."""
        row = PredictionRow  # first what names them: documents are long, and most have no other
        query = (
            select(row.key, row.version, row.series_uid, row.revision)
            .where(row.package == package, row.version.in_([one, other]))
            .order_by(row.made_at.desc())
            .limit(2 * _COMPARED)
        )
        found: dict[tuple[str, int], dict[str, str]] = {}
        for key, version, series_uid, revision in self._session.execute(query):
            found.setdefault((series_uid, revision), {}).setdefault(version, key)
        pairs = [(keys[one], keys[other]) for keys in found.values() if len(keys) == 2]
        return [(self._prediction(first), self._prediction(second)) for first, second in pairs]

    def _prediction(self, key: str) -> Prediction:
        kept = self._session.scalar(select(PredictionRow.document).where(PredictionRow.key == key))
        return from_json(Prediction, kept)

    def _release(
        self,
        package: str,
        version: str,
        move: Move,
        reason: str,
        *,
        evidence: Mapping[str, Any] | None = None,
        restores: int | None = None,
    ) -> Release:
        if self._session.get_bind().dialect.name == "postgresql":
            self._session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        number = (self._session.scalar(select(func.max(ReleaseRow.number))) or 0) + 1
        last = self._last_release(package)
        row = ReleaseRow(
            number=number,
            package=package,
            version=version or None,
            before=last.version if last is not None else None,
            move=move.value,
            reason=reason,
            author=self._actor,
            evidence=dict(evidence or {}),
            restores=restores,
            at=time.time(),
        )
        self._session.add(row)
        self._session.flush()
        self._trail.append(
            f"package {move.value if move is not Move.FIRST else 'in use'}", package=package, version=version,
            before=row.before, reason=reason, evidence=row.evidence, restores=restores,
        )  # fmt: skip
        return _release_of(row)

    def _last_release(self, package: str) -> ReleaseRow | None:
        query = select(ReleaseRow).where(ReleaseRow.package == package).order_by(ReleaseRow.number.desc()).limit(1)
        return self._session.scalar(query)

    def _stable(self) -> dict[str, str | None]:
        """The version in use of each package."""
        rows = self._session.execute(select(ReleaseRow.package, ReleaseRow.version).order_by(ReleaseRow.number))
        return {package: version for package, version in rows}  # noqa: C416


def _version(row: PackageRow, stable: bool, proofs: tuple[KeptProof, ...]) -> PackageVersion:
    return PackageVersion(
        package=row.package,
        version=row.version,
        digest=row.digest,
        title=row.title,
        manifest=row.manifest,
        registered_at=row.registered_at,
        origin=row.origin or "",
        signer=row.signer or "",
        files=row.files,
        report=row.report or "",
        retired_at=row.retired_at,
        retired_reason=row.retired_reason or "",
        stable=stable,
        proofs=proofs,
    )


def _release_of(row: ReleaseRow) -> Release:
    return Release(
        number=row.number,
        package=row.package,
        version=row.version or "",
        before=row.before or "",
        move=Move(row.move),
        reason=row.reason,
        author=row.author,
        evidence=row.evidence,
        restores=row.restores,
        at=row.at,
    )
