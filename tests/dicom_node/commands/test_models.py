"""Packages come in by command, and people decide which version is used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inference.packages.package import open_package
from inference.packages.store import SHIPPED
from storage.facts.prediction import Measurement, Presence
from storage.facts.release import KeptProof
from storage.facts.routing import RegisteredPackage
from storage.ledger import Ledger
from tests import builders
from tests.dicom_node.commands.conftest import Run
from tests.inference.bringing.making import of_version, package
from tests.storage.series import arrive


def registered(
    ledger: Ledger, *versions: str, source: str = "Somebody 2020", proved: bool = True, tested: bool = True
) -> None:
    """Versions of a package with a finding and weights, as if they had been added."""
    finding = {
        "condition": {"value": "1", "scheme": "99T", "meaning": "Shadow"}, "measurement": "share",
        "present_from": 10.0, "absent_below": 5.0, "source": source, "segment": None,
    }  # fmt: skip
    for version in versions:
        manifest = {
            "id": "lung", "version": version, "title": "Lung <script>alert(1)</script>", "manufacturer": "T",
            "intended_use": "None", "licence": "MIT", "algorithm": "network", "accepts": {"modality": ["CT"]},
            "weights": [{"name": "net", "file": "n.pt", "sha256": "0" * 64, "source": "us"}], "findings": [finding],
        }  # fmt: skip
        if tested:
            manifest["selftest"] = {"file": "case.npz", "sha256": "0" * 64}
        entry = RegisteredPackage(
            package="lung", version=version, digest=version * 8, title=manifest["title"], manifest=manifest
        )
        with ledger.begin("test") as tx:
            tx.catalogue.register_package(entry, files={"model.toml": version})
            if proved:
                document = {"device": "cpu", "passed": True, "tested": tested, "digest": version * 8, "torch": "2"}
                tx.catalogue.keep_proof("lung", version, KeptProof(device="cpu", passed=True, document=document))


def test_a_package_is_added_listed_and_verified(run: Run, tmp_path: Path) -> None:
    added = run("models", "add", str(package(tmp_path / "sent", pinned=False)))
    assert added.exit_code == 0, added.output
    assert "registered: small@1.0.0" in added.output
    assert "it is in use" in added.output
    again = run("models", "add", str(package(tmp_path / "sent2", change=of_version("1.1.0"))))
    assert "it waits: `dicom-node models promote small@1.1.0`" in again.output

    assert "small    1.0.0    in use" in run("models", "list").output
    (tmp_path / "models" / "small" / "1.1.0" / "net.bin").write_bytes(b"altered")
    verified = run("models", "verify")
    assert verified.exit_code == 1
    assert "ok    small@1.0.0" in verified.output
    assert "other content" in verified.output


def test_a_faulty_package_is_refused_with_its_faults(run: Run, tmp_path: Path) -> None:
    sent = package(tmp_path / "sent", change=lambda text: text.replace("modality =", "modalty ="))
    refused = run("models", "add", str(sent))
    assert refused.exit_code != 0
    assert "did you mean modality" in str(refused.exception)


def test_promotion_shows_the_evidence_and_needs_a_reason(run: Run, node_ledger: Ledger) -> None:
    registered(node_ledger, "1.0.0", "1.1.0")

    assert run("models", "promote", "lung@1.1.0").exit_code == 2
    promoted = run("models", "promote", "lung@1.1.0", "--reason", "validated on 200 cases", "--yes")
    assert promoted.exit_code == 0, promoted.output
    for words in ("source: Somebody 2020", "cpu passed", "lung: 1.1.0 is in use (promoted; before: 1.0.0)"):
        assert words in promoted.output
    assert "1.0.0 is in use (rolled back" in run("models", "rollback", "lung", "--reason", "worse").output
    assert "validated on 200 cases" in run("models", "history", "lung").output
    assert "is retired" in run("models", "retire", "lung@1.1.0", "--reason", "worse").output
    assert "1.1.0" not in run("models", "list").output
    assert "retired" in run("models", "list", "--all").output


def test_promotion_shows_how_both_versions_spoke_of_the_same_series(run: Run, node_ledger: Ledger) -> None:
    registered(node_ledger, "1.0.0", "1.1.0")
    for number, (old, new, dice) in enumerate([(100.0, 102.0, 0.99), (100.0, 104.0, 0.91)], 1):
        sources, series = builders.slices(), f"1.9.{number}"
        with node_ledger.begin("worker") as tx:
            arrive(tx, series, f"1.8.{number}")
            for version, value in (("1.0.0", old), ("1.1.0", new)):
                volume = Measurement(name=builders.VOLUME, value=value, unit=builders.MILLILITRE)
                ran = builders.algorithm(package="lung", version=version)
                shadow = builders.finding(Presence.ABSENT if (number, version) == (2, "1.0.0") else Presence.PRESENT)
                said = builders.prediction(
                    sources, key=f"{number}@{version}", series_uid=series, algorithm=ran, measurements=(volume,),
                    findings=(shadow,),
                )  # fmt: skip
                tx.predictions.save(said)
            tx.trail.append("versions compared", package="lung", versions=["1.0.0", "1.1.0"], dice={"Lung": dice})
            tx.trail.append("versions compared", package="other", versions=["1.0.0", "1.1.0"], dice={"Lung": 0.0})
    shown = run("models", "promote", "lung@1.1.0", "--reason", "newer", "--yes").output

    assert "agreement   with 1.0.0 on 2 series: 2 ended in the same way" in shown
    assert f"{builders.finding().condition.meaning}: the same in 1 of 2" in shown
    assert "mask of Lung: Dice 0.950 on average, 0.910 at least" in shown
    assert "differs by +3 on average" in shown


@pytest.mark.parametrize(
    ("source", "proved", "words"),
    [
        ("TODO", True, "has no source"),
        ("TBD, ask the makers", True, "`dicom-node models validate lung@1.1.0` measures it"),
        ("Somebody 2020", False, "never run at this installation: `dicom-node models prove lung@1.1.0`"),
    ],
)
def test_a_version_without_proof_or_justified_thresholds_is_not_promoted(
    run: Run, node_ledger: Ledger, source: str, proved: bool, words: str
) -> None:
    registered(node_ledger, "1.0.0", "1.1.0", source=source, proved=proved)
    refused = run("models", "promote", "lung@1.1.0", "--reason", "please", "--yes")
    assert words in str(refused.exception)
    with node_ledger.begin_reading() as tx:
        assert tx.catalogue.package_version("lung").version == "1.0.0"


def test_a_version_without_a_self_test_needs_somebody_who_answers_for_it(run: Run, node_ledger: Ledger) -> None:
    registered(node_ledger, "1.0.0")
    registered(node_ledger, "1.1.0", tested=False)
    promote = ("models", "promote", "lung@1.1.0", "--reason", "newer", "--yes")

    assert "--without-self-test REASON" in str(run(*promote).exception)
    promoted = run(*promote, "--without-self-test", "its maker showed us")
    assert promoted.exit_code == 0, promoted.output
    assert "self-test   it brings no self-test" in promoted.output
    shown = run("models", "show", "lung").output
    assert "No self-test vouches for it" in shown
    assert ": its maker showed us" in shown
    assert "package self-test waived" in run("audit", "show").output


def test_a_self_test_that_there_is_cannot_be_waived(run: Run, node_ledger: Ledger) -> None:
    registered(node_ledger, "1.0.0", "1.1.0")
    refused = run("models", "promote", "lung@1.1.0", "--reason", "x", "--yes", "--without-self-test", "in a hurry")
    assert "which nobody can waive" in str(refused.exception)


def test_a_card_is_written_as_html_and_pdf_and_nothing_of_a_package_is_markup(
    run: Run, node_ledger: Ledger, tmp_path: Path
) -> None:
    registered(node_ledger, "1.0.0")
    for name in ("card.html", "card.pdf"):
        assert run("models", "show", "lung", "--card", str(tmp_path / name)).exit_code == 0
    html = (tmp_path / "card.html").read_text()
    assert "<script>" not in html
    assert "Lung &lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "src=" not in html
    assert "present from 10" in html
    assert (tmp_path / "card.pdf").read_bytes().startswith(b"%PDF")
    assert len((tmp_path / "card.pdf").read_bytes()) > 1500
    assert json.loads(run("models", "show", "lung", "--json").output)["digest"] == "1.0.0" * 8


def test_a_difference_names_settings_and_files(run: Run, node_ledger: Ledger) -> None:
    registered(node_ledger, "1.0.0")
    registered(node_ledger, "1.1.0", source="Somebody else 2024")
    shown = run("models", "diff", "lung@1.0.0", "lung@1.1.0").output
    assert "Somebody else 2024" in shown
    assert "files.model.toml" in shown


def test_all_that_was_not_proved_yet_is_proved_at_once(run: Run, node_ledger: Ledger) -> None:
    package = open_package(SHIPPED / "ct-lung-densitometry")
    manifest = package.manifest
    entry = RegisteredPackage(
        package=manifest.id, version=manifest.version, digest=package.digest, title=manifest.title,
        manifest=manifest.model_dump(mode="json"),
    )  # fmt: skip
    with node_ledger.begin("test") as tx:
        tx.catalogue.register_package(entry)
    registered(node_ledger, "1.0.0", proved=False)  # its folder is not there

    first = run("models", "prove")
    assert first.exit_code == 1
    assert "ct-lung-densitometry@1.1.0 on cpu: passed" in first.output
    assert "lung@1.0.0: could not be proved" in first.output
    with node_ledger.begin("test") as tx:
        assert not tx.catalogue.package_version(manifest.id).doubt
        tx.catalogue.retire("lung", "1.0.0", "gone")
    again = run("models", "prove")
    assert (again.exit_code, again.output) == (0, "every package that brings a self-test was proved already\n")
