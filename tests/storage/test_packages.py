"""Which version of a package is in use, why, and what a change leaves behind."""

from __future__ import annotations

import pytest

from storage import views
from storage.facts.errors import Rejected
from storage.facts.release import WAIVED, KeptProof, Move, Trial
from storage.facts.routing import RegisteredPackage
from storage.ledger import Ledger


def entry(version: str, package: str = "lung", digest: str = "", *, tested: bool = False) -> RegisteredPackage:
    return RegisteredPackage(
        package=package,
        version=version,
        digest=digest or f"digest of {version}",
        title="Lung",
        manifest={"id": package, **({"selftest": {"file": "case.npz"}} if tested else {})},
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
        tx.catalogue.promote("lung", "1.1.0", "better", {"proof": "passed"}, without_self_test="known elsewhere")
    with ledger.begin("operator a") as tx:
        tx.catalogue.promote("lung", "1.2.0", "still better", {}, without_self_test="tests")
    with ledger.begin("operator b") as tx:
        back = tx.catalogue.roll_back("lung", "worse after all")
    assert (back.version, back.before, back.move, back.restores) == ("1.1.0", "1.2.0", Move.ROLLED_BACK, 2)
    assert back.evidence == {"proof": "passed", WAIVED: "known elsewhere"}
    with ledger.begin("operator b") as tx:
        again = tx.catalogue.roll_back("lung", "further back")
    assert (again.version, again.restores) == ("1.0.0", 1)
    with pytest.raises(Rejected, match="no other version was in use before"), ledger.begin("operator b") as tx:
        tx.catalogue.roll_back("lung", "too far")
    with ledger.read() as session:
        actions = [row.action for row in views.trail(session) if row.action.startswith("package")]
    assert actions == [
        "package registered", "package in use", "package registered", "package registered",
        "package self-test waived", "package promoted", "package self-test waived", "package promoted",
        "package rolled back", "package rolled back",
    ]  # fmt: skip
    assert not ledger.verify().faults


def proof(version: str = "1.1.0", *, passed: bool = True, digest: str = "") -> KeptProof:
    document = {"tested": True, "passed": passed, "digest": digest or f"digest of {version}"}
    return KeptProof(device="cpu", passed=passed, document=document)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "its self-test was never run"),
        (proof(passed=False), "did not pass on cpu"),
        (proof(digest="another"), "on other content than it has now"),
    ],
)
def test_a_version_whose_self_test_did_not_pass_here_is_not_promoted_for_any_reason(
    ledger: Ledger, found: KeptProof | None, words: str
) -> None:
    register(ledger, "1.0.0")
    with ledger.begin("operator") as tx:
        tx.catalogue.register_package(entry("1.1.0", tested=True))
        if found is not None:
            tx.catalogue.keep_proof("lung", "1.1.0", found)
        with pytest.raises(Rejected, match=words):
            tx.catalogue.promote("lung", "1.1.0", "newer", {}, without_self_test="in a hurry")
    assert in_use(ledger) == ["1.0.0"]


def test_a_version_whose_self_test_passed_here_is_promoted(ledger: Ledger) -> None:
    register(ledger, "1.0.0")
    with ledger.begin("operator") as tx:
        tx.catalogue.register_package(entry("1.1.0", tested=True))
        tx.catalogue.keep_proof("lung", "1.1.0", proof())
        assert tx.catalogue.package_version("lung@1.1.0").doubt == ""
        assert WAIVED not in tx.catalogue.promote("lung", "1.1.0", "newer", {}).evidence
    assert in_use(ledger) == ["1.1.0"]


def test_without_a_self_test_a_promotion_needs_a_reason_of_its_own_that_the_trail_keeps(ledger: Ledger) -> None:
    register(ledger, "1.0.0", "1.1.0")
    with ledger.begin("operator") as tx, pytest.raises(Rejected, match="it brings no self-test"):
        tx.catalogue.promote("lung", "1.1.0", "newer", {}, without_self_test=" ")
    with ledger.begin("operator") as tx:
        release = tx.catalogue.promote("lung", "1.1.0", "newer", {}, without_self_test="proved by its maker")
    assert release.evidence[WAIVED] == "proved by its maker"
    with ledger.read() as session:
        (row,) = [row for row in views.trail(session) if row.action == "package self-test waived"]
    assert (row.details["version"], row.details["reason"], row.outcome) == ("1.1.0", "proved by its maker", 4)


def test_trials_are_kept_with_who_and_when_and_only_of_registered_versions(ledger: Ledger) -> None:
    register(ledger, "1.0.0", "1.1.0")
    for version, trial in (("1.0.0", Trial.BENCHMARKED), ("1.1.0", Trial.VALIDATED), ("1.1.0", Trial.VALIDATED)):
        with ledger.begin("operator a") as tx:
            tx.catalogue.keep_trial("lung", version, trial, {"of": version})
    with ledger.begin("operator a") as tx:
        with pytest.raises(Rejected, match="has no version"):
            tx.catalogue.keep_trial("lung", "9.9.9", Trial.VALIDATED, {})
        kept = tx.catalogue.trials("lung")
        assert tx.catalogue.trials("lungs") == []
    assert [(k.version, k.trial) for k in kept] == [
        ("1.1.0", Trial.VALIDATED), ("1.1.0", Trial.VALIDATED), ("1.0.0", Trial.BENCHMARKED)
    ]  # fmt: skip
    assert (kept[0].author, kept[0].document) == ("operator a", {"of": "1.1.0"})
    assert kept[0].at > 0


def test_a_benchmark_stands_for_the_run_time_of_a_package_that_never_ran(ledger: Ledger) -> None:
    register(ledger, "1.0.0")
    with ledger.begin("operator") as tx:
        assert tx.catalogue.experience() == {}
        for seconds in (9.0, 4.0):
            document = {"rounds": 5, "seconds": seconds}
            tx.catalogue.keep_trial("lung", "1.0.0", Trial.BENCHMARKED, document)
        known = tx.catalogue.experience()["lung"]
    assert (known.runs, known.seconds, known.results) == (5, 4.0, 0)


def test_what_is_in_use_cannot_be_promoted_or_retired_while_there_is_another(ledger: Ledger) -> None:
    register(ledger, "1.0.0", "1.1.0")
    with ledger.begin("operator") as tx:
        with pytest.raises(Rejected, match="in use already"):
            tx.catalogue.promote("lung", "1.0.0", "why not", {})
        with pytest.raises(Rejected, match="bring another version into use first"):
            tx.catalogue.retire("lung", "1.0.0", "old")
        with pytest.raises(Rejected, match=r"has no version '2\.0\.0'"):
            tx.catalogue.promote("lung", "2.0.0", "dream", {}, without_self_test="tests")
        with pytest.raises(Rejected, match="there is no package 'lungs'"):
            tx.catalogue.package_version("lungs")


def test_a_retired_version_is_away_from_rules_for_ever_and_stays_known(ledger: Ledger) -> None:
    register(ledger, "1.0.0", "1.1.0")
    with ledger.begin("operator") as tx:
        assert not tx.catalogue.retire("lung", "1.1.0", "recalled")
    with ledger.begin("operator") as tx, pytest.raises(Rejected, match=r"is retired \(recalled\)"):
        tx.catalogue.promote("lung", "1.1.0", "again", {}, without_self_test="tests")
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
        tx.catalogue.promote("lung", "1.1.0", "mended", {}, without_self_test="tests")
    assert in_use(ledger) == ["1.1.0"]


def test_a_rollback_passes_over_what_was_retired(ledger: Ledger) -> None:
    register(ledger, "1.0.0", "1.1.0", "1.2.0")
    for version in ("1.1.0", "1.2.0"):
        with ledger.begin("operator") as tx:
            tx.catalogue.promote("lung", version, "newer", {}, without_self_test="tests")
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
