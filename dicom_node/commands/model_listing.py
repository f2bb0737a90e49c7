"""The commands that look at model packages: all of them read the ledger alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from dicom_node.commands.card import card_of
from dicom_node.commands.card_writing import lines_of, write_card
from dicom_node.commands.opening import open_ledger
from dicom_node.commands.options import config_option
from dicom_node.commands.printing import moment, table
from dicom_node.commands.rule_completion import model_names
from storage.facts.errors import Rejected
from storage.facts.release import KeptProof, PackageVersion
from storage.facts.wire import to_json


@click.command("list")
@config_option
@click.option("--all", "everything", is_flag=True, help="Retired versions, too.")
def list_models(path: Path, everything: bool) -> None:
    """List the registered packages, and which version of each is used."""
    with open_ledger(path) as ledger, ledger.begin_reading() as tx:
        found = tx.catalogue.package_versions()
    shown = [v for v in found if everything or v.retired_at is None]
    if not shown:
        click.echo("no packages: no worker has run yet; `dicom-node doctor` says why")
        return
    rows = [
        [
            v.package, v.version, _standing(v), _proved(v), v.digest[:12],
            "research" if v.manifest.get("research", True) else "clinical", v.title,
        ]
        for v in shown
    ]  # fmt: skip
    table(["PACKAGE", "VERSION", "STANDING", "PROVED", "DIGEST", "USE", "TITLE"], rows)


def _standing(version: PackageVersion) -> str:
    if version.retired_at is not None:
        return "retired"
    return "in use" if version.stable else "waiting"


def _proved(version: PackageVersion) -> str:
    if not version.proofs:
        return "-"
    return ", ".join(f"{p.device}{_outcome(p)}" for p in version.proofs)


def _outcome(proof: KeptProof) -> str:
    if not proof.passed:
        return " FAILED"
    return "" if proof.document.get("tested") else " (no self-test)"


@click.command()
@config_option
@click.argument("reference", metavar="PACKAGE[@VERSION]", shell_complete=model_names)
@click.option("--card", type=click.Path(path_type=Path, dir_okay=False), help="Write the card: FILE.html or FILE.pdf.")
@click.option("--json", "as_json", is_flag=True, help="Everything that is known, as JSON.")
def show(path: Path, reference: str, card: Path | None, as_json: bool) -> None:
    """Show the card of a package: of the version in use, or of the one named."""
    with open_ledger(path) as ledger, ledger.begin_reading() as tx:
        version = tx.catalogue.package_version(reference)
        releases = tx.catalogue.releases(version.package)
        trials = tx.catalogue.trials(version.package, version.version)
    if as_json:
        document = {**to_json(version), "trials": to_json(trials)}
        click.echo(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False))
        return
    made = card_of(version, releases, trials)
    if card is None:
        for line in lines_of(made):
            click.echo(line)
        return
    write_card(card, made)
    click.echo(f"{card}: the card of {version.reference}")


@click.command()
@config_option
@click.argument("one", metavar="PACKAGE[@VERSION]", shell_complete=model_names)
@click.argument("other", metavar="PACKAGE[@VERSION]", shell_complete=model_names)
def diff(path: Path, one: str, other: str) -> None:
    """Show what differs between two versions: settings of the manifest, and files."""
    with open_ledger(path) as ledger, ledger.begin_reading() as tx:
        before, after = tx.catalogue.package_version(one), tx.catalogue.package_version(other)
    if before.reference == after.reference:
        raise Rejected(f"both are {before.reference}: name two versions")
    old, new = (dict(_flat({"manifest": v.manifest, "files": v.files or {}})) for v in (before, after))
    rows = [
        [key.removeprefix("manifest."), old.get(key, "-"), new.get(key, "-")]
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]
    if not rows:
        click.echo("nothing differs")
        return
    table(["WHAT", before.reference, after.reference], [[_short(cell) for cell in row] for row in rows])


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf by its path; entries of lists by what they are called, else by their number."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value, 1):
            name = next((item[k] for k in ("key", "name", "label") if isinstance(item.get(k), str)), number)
            yield from _flat(item, f"{key}[{name}]")
    elif value not in (None, "", [], ()):
        yield key, str(value)


def _short(cell: str) -> str:
    text = " ".join(cell.split())
    return text if len(text) <= 60 else f"{text[:57]}…"


@click.command()
@config_option
@click.argument("package", shell_complete=model_names)
def history(path: Path, package: str) -> None:
    """Show which versions of a package were in use, since when, who decided and why."""
    with open_ledger(path) as ledger, ledger.begin_reading() as tx:
        releases = tx.catalogue.releases(package.partition("@")[0])
    if not releases:
        raise Rejected(f"there is no package {package!r}: see `dicom-node models list --all`")
    rows = [[moment(r.at), r.move.value, r.version or "none", r.author, r.reason] for r in releases]
    table(["SINCE", "WHAT", "VERSION", "WHO", "WHY"], rows)


COMMANDS = (list_models, show, diff, history)
