"""Which version of a package is in use, why, and what a change leaves behind."""

from __future__ import annotations

import pytest

from storage.facts.errors import Rejected
from storage.facts.release import KeptProof, Move
from storage.facts.routing import RegisteredPackage
from storage.ledger import Ledger


def entry(version: str, package: str = "lung", digest: str = "") -> RegisteredPackage:
    return RegisteredPackage(
        package=package,
        version=version,
        digest=digest or f"digest of {version}",
        title="Lung",
        manifest={"id": package},
    )


def register(ledger: Ledger, *versions: str) -> None:
    for version in versions:
        with ledger.begin("worker") as tx:
            assert tx.catalogue.register_package(entry(version))


def in_use(ledger: Ledger) -> list[str]:
    with ledger.begin_reading() as tx:
        return [p.version for p in tx.catalogue.packages() if p.stable]


def test_the_first_version_is_in_use_and_later_ones_wait(ledger: Ledger) -> None:
    register(ledger, "1.0.0", "1.1.0")

    assert in_use(ledger) == ["1.0.0"]
    with ledger.begin_reading() as tx:
        assert [p.version for p in tx.catalogue.packages()] == ["1.1.0", "1.0.0"]
        assert tx.catalogue.package_version("lung").version == "1.0.0"
        assert not tx.catalogue.package_version("lung@1.1.0").stable


def test_promotion_and_rollback_are_releases_with_reason_evidence_and_audit_rows(ledger: Ledger) -> None:
    register(ledger, "1.0.0", "1.1.0", "1.2.0")
    with ledger.begin("operator a") as tx:
        tx.catalogue.promote("lung", "1.1.0", "better", {"proof": "passed"})
    with ledger.begin("operator a") as tx:
        tx.catalogue.promote("lung", "1.2.0", "still better", {})
    with ledger.begin("operator b") as tx:
        back = tx.catalogue.roll_back("lung", "worse after all")
    assert (back.version, back.before, back.move, back.restores) == ("1.1.0", "1.2.0", Move.ROLLED_BACK, 2)
    assert back.evidence == {"proof": "passed"}
    with ledger.begin("operator b") as tx:
        again = tx.catalogue.roll_back("lung", "further back")
    assert (again.version, again.restores) == ("1.0.0", 1)
    with pytest.raises(Rejected, match="no other version was in use before"), ledger.begin("operator b") as tx:
        tx.catalogue.roll_back("lung", "too far")
    with ledger.read() as session:
        from storage import views

        actions = [row.action for row in views.trail(session) if row.action.startswith("package")]
    assert actions == [
        "package registered", "package in use", "package registered", "package registered",
        "package promoted", "package promoted", "package rolled back", "package rolled back",
    ]  # fmt: skip
    assert not ledger.verify().faults


def test_what_is_in_use_cannot_be_promoted_or_retired_while_there_is_another(ledger: Ledger) -> None:
    register(ledger, "1.0.0", "1.1.0")
    with ledger.begin("operator") as tx:
        with pytest.raises(Rejected, match="in use already"):
            tx.catalogue.promote("lung", "1.0.0", "why not", {})
        with pytest.raises(Rejected, match="bring another version into use first"):
            tx.catalogue.retire("lung", "1.0.0", "old")
        with pytest.raises(Rejected, match=r"has no version '2\.0\.0'"):
            tx.catalogue.promote("lung", "2.0.0", "dream", {})
        with pytest.raises(Rejected, match="there is no package 'lungs'"):
            tx.catalogue.package_version("lungs")


def test_a_retired_version_is_away_from_rules_for_ever_and_stays_known(ledger: Ledger) -> None:
    register(ledger, "1.0.0", "1.1.0")
    with ledger.begin("operator") as tx:
        assert not tx.catalogue.retire("lung", "1.1.0", "recalled")
    with ledger.begin("operator") as tx, pytest.raises(Rejected, match=r"is retired \(recalled\)"):
        tx.catalogue.promote("lung", "1.1.0", "again", {})
    with ledger.begin_reading() as tx:
        assert [p.version for p in tx.catalogue.packages()] == ["1.0.0"]
        assert [v.version for v in tx.catalogue.package_versions("lung")] == ["1.0.0", "1.1.0"]


def test_a_package_whose_last_version_is_retired_is_withdrawn_until_somebody_promotes_another(ledger: Ledger) -> None:
    register(ledger, "1.0.0")
    with ledger.begin("operator") as tx:
        assert tx.catalogue.retire("lung", "1.0.0", "recalled")
    register(ledger, "1.1.0")
    assert in_use(ledger) == []
    with ledger.begin("operator") as tx:
        tx.catalogue.promote("lung", "1.1.0", "mended", {})
    assert in_use(ledger) == ["1.1.0"]


def test_a_rollback_passes_over_what_was_retired(ledger: Ledger) -> None:
    register(ledger, "1.0.0", "1.1.0", "1.2.0")
    for version in ("1.1.0", "1.2.0"):
        with ledger.begin("operator") as tx:
            tx.catalogue.promote("lung", version, "newer", {})
    with ledger.begin("operator") as tx:
        tx.catalogue.retire("lung", "1.1.0", "recalled")
        assert tx.catalogue.roll_back("lung", "back").version == "1.0.0"


def test_proofs_are_kept_by_device_and_the_last_one_counts(ledger: Ledger) -> None:
    register(ledger, "1.0.0")
    for passed in (False, True):
        with ledger.begin("worker") as tx:
            tx.catalogue.keep_proof("lung", "1.0.0", KeptProof(device="cpu", passed=passed, document={"seconds": 1.0}))
    with ledger.begin_reading() as tx:
        (proof,) = tx.catalogue.package_version("lung").proofs
    assert (proof.device, proof.passed, proof.document) == ("cpu", True, {"seconds": 1.0})


def test_a_command_adds_what_a_quicker_worker_could_not_know(ledger: Ledger) -> None:
    register(ledger, "1.0.0")
    with ledger.begin("operator") as tx:
        assert not tx.catalogue.register_package(
            entry("1.0.0"), origin="lung.zip", signer="site", files={"model.toml": "ab"}, report="fine"
        )
        found = tx.catalogue.package_version("lung")
        assert (found.origin, found.signer, found.files, found.report) == (
            "lung.zip",
            "site",
            {"model.toml": "ab"},
            "fine",
        )
        with pytest.raises(Rejected, match="registered with other content"):
            tx.catalogue.register_package(entry("1.0.0", digest="other"))
