"""The commands that bring packages in, and that decide which version is used."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from dicom_node.commands.model_child import ask_worker
from dicom_node.commands.model_evidence import evidence, obstacles, told
from dicom_node.commands.opening import open_ledger, operator, read_config
from dicom_node.commands.options import config_option
from dicom_node.commands.rule_completion import model_names
from dicom_node.config import NodeConfig
from storage import workers
from storage.facts.errors import Misconfigured, Rejected, Transient
from storage.facts.release import KeptProof, PackageVersion, Release
from storage.facts.routing import RegisteredPackage
from storage.ledger import Ledger

reason_option = click.option("--reason", required=True, help="Why: it goes into the audit trail.")
_EXISTING = click.Path(path_type=Path, exists=True)


@click.command()
@config_option
@click.argument("source", type=_EXISTING)
def add(path: Path, source: Path) -> None:
    """Check, prove and register a package: a folder or a ZIP with a model.toml.

    The first version of a package is used at once by rules that name it; a later one waits for `models promote`.
    """
    config = read_config(path)
    with open_ledger(path, create=True) as ledger:
        found = ask_worker(config, "add", str(source.resolve()))
        entry = RegisteredPackage(
            package=found["package"],
            version=found["version"],
            digest=found["digest"],
            title=found["title"],
            manifest=found["manifest"],
        )
        with ledger.begin(operator()) as tx:
            tx.catalogue.register_package(
                entry, origin=found["origin"], signer=found["signer"], files=found["files"], report=found["report"]
            )
            tx.catalogue.keep_proof(entry.package, entry.version, _proof(found["proof"], entry.manifest))
            is_used = tx.catalogue.package_version(f"{entry.package}@{entry.version}").stable
    said = "it is in use" if is_used else f"it waits: `dicom-node models promote {entry.package}@{entry.version}`"
    click.echo(f"registered: {entry.package}@{entry.version}, in {found['folder']}; {said}")


def _proof(document: dict[str, Any], manifest: Mapping[str, Any]) -> KeptProof:
    """What is kept of a proof: with the digests of the weights that were proved."""
    weights = {entry["name"]: entry["sha256"] for entry in manifest.get("weights", ())}
    return KeptProof(
        device=str(document.get("device", "cpu")),
        passed=bool(document.get("passed")),
        document={**document, "weights": weights},
    )


@click.command("import")
@config_option
@click.argument("source", type=_EXISTING)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--id", "identifier", default="", help="Identifier of the package; default: made of the model's name.")
@click.option("--version", default="", help="Version of the package; default: the model's own, or 1.0.0.")
@click.option("--modality", default="", metavar="CS", help="DICOM modality, where the model does not say it.")
@click.option("--licence", default="", help="Terms of use, where the model does not state them.")
@click.option("--orientation", default="", metavar="LETTERS", help="nnU-Net: how its training images lay, e.g. SPL.")
@click.option("--fold", multiple=True, help="nnU-Net: only these folds; may repeat.")
def import_model(path: Path, source: Path, folder: Path, fold: tuple[str, ...], **given: str) -> None:
    """Make a package of a MONAI bundle or an nnU-Net v2 folder, as a draft in FOLDER to be read and corrected.

    Nothing of the model is run: what cannot be said as data is refused, with its place.
    """
    options = [f"--{'id' if name == 'identifier' else name}={value}" for name, value in given.items() if value]
    options += [f"--fold={one}" for one in fold]
    made = ask_worker(read_config(path), "import", str(source.resolve()), str(folder.resolve()), *options)
    click.echo(
        f"{made['package']}@{made['version']} is in {folder}: read model.toml, then `dicom-node models add {folder}`"
    )


@click.command()
@config_option
@click.argument("reference", metavar="[PACKAGE[@VERSION]]", default="", shell_complete=model_names)
def prove(path: Path, reference: str) -> None:
    """Prove a registered package: its self-test and its faster ways of computing, on the worker's device.

    Without a package, all that bring a self-test and were not proved yet, as after an installation.
    """
    config = read_config(path)
    with open_ledger(path) as ledger:
        with ledger.begin_reading() as tx:
            asked = [tx.catalogue.package_version(reference)] if reference else tx.catalogue.package_versions()
        if not asked:
            raise Misconfigured("no package is registered yet: start the node once, or see `dicom-node models add`")
        if not reference:
            asked = [version for version in asked if is_unproved(version)]
        if not asked:
            click.echo("every package that brings a self-test was proved already")
        passed = [_prove_one(config, ledger, version, is_alone=bool(reference)) for version in asked]
    sys.exit(0 if all(passed) else 1)


def is_unproved(version: PackageVersion) -> bool:
    """Whether it can be used, and has a self-test that was not run on its content yet."""
    if version.retired_at is not None or not version.has_self_test:
        return False
    return all(proof.document.get("digest") != version.digest for proof in version.proofs)


def _prove_one(config: NodeConfig, ledger: Ledger, version: PackageVersion, *, is_alone: bool) -> bool:
    """Whether it passed; one of several that cannot be tried at all does not keep the others from their turn."""
    try:
        document = ask_worker(config, "prove-again", version.package, version.version)
    except (Misconfigured, Transient) as error:
        if is_alone:
            raise
        click.secho(f"{version.reference}: could not be proved: {error}", fg="red", err=True)
        return False
    found = _proof(document, version.manifest)
    with ledger.begin(operator()) as tx:
        tx.catalogue.keep_proof(version.package, version.version, found)
    click.echo(f"{version.reference} on {found.device}: {'passed' if found.passed else 'FAILED'}")
    for note in found.document.get("notes", ()):
        click.echo(f"  {note}")
    for fault in found.document.get("faults", ()):
        click.secho(f"  {fault}", fg="red", err=True)
    return found.passed


@click.command()
@config_option
def verify(path: Path) -> None:
    """Read every package of the models folder again: weights, signatures, and whether it is what was registered."""
    config = read_config(path)
    with open_ledger(path) as ledger, ledger.begin_reading() as tx:
        registered = {(v.package, v.version): v for v in tx.catalogue.package_versions()}
    found = ask_worker(config, "verify")
    faults = list(found["faults"])
    there = {(p["package"], p["version"]): p["digest"] for p in found["packages"]}
    for key, digest in there.items():
        known = registered.get(key)
        if known is not None and known.digest != digest:
            faults.append(
                f"{known.reference}: other content than was registered ({digest[:12]}, was {known.digest[:12]})"
            )
        else:
            click.echo(f"ok    {key[0]}@{key[1]}  {digest[:12]}{'' if known else '  not registered yet'}")
    for key, version in registered.items():
        if key not in there and version.retired_at is None:
            faults.append(f"{version.reference}: registered{', in use' if version.stable else ''}, but not there")
    for fault in faults:
        click.secho(f"wrong {fault}", fg="red", err=True)
    sys.exit(1 if faults else 0)


@click.command()
@config_option
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--key", type=_EXISTING, required=True, help="Private Ed25519 key in PEM.")
def sign(path: Path, folder: Path, key: Path) -> None:
    """Vouch for the package in a folder with your key; trusted keys are set by workers.trusted_keys."""
    ask_worker(read_config(path), "sign", str(folder.resolve()), "--key", str(key.resolve()))


@click.command()
@config_option
@click.argument("reference", metavar="PACKAGE@VERSION", shell_complete=model_names)
@reason_option
@click.option(
    "--without-self-test", "waived", default="", metavar="REASON", help="Why one is used that brings no self-test."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def promote(path: Path, reference: str, reason: str, waived: str, yes: bool) -> None:
    """Use this version from now on; shows what speaks for it first. What is under way finishes as it was routed.

    Its self-test must have passed at this installation, and its thresholds must say where they come from.
    """
    _two_parts(reference)
    with open_ledger(path) as ledger:
        with ledger.begin_reading() as tx:
            version = tx.catalogue.package_version(reference)
            used = next((v.version for v in tx.catalogue.package_versions(version.package) if v.stable), "")
            pairs = tx.catalogue.paired_results(version.package, used, version.version) if used else []
            trials = tx.catalogue.trials(version.package, version.version)
        with ledger.read() as session:
            marked = workers.overlaps(session, version.package, used, version.version) if used else []
        found = evidence(version, pairs, trials, marked)
        click.echo(f"{version.reference}, in the place of {used or 'nothing'}:")
        for line in told(found, used):
            click.echo(f"  {line}")
        if forbidding := list(obstacles(version, is_waived=bool(waived.strip()))):
            raise Rejected("\n  ".join([f"{version.reference} cannot be promoted:", *forbidding]))
        if not yes and not click.confirm("Use it from now on?"):
            raise click.Abort
        with ledger.begin(operator()) as tx:
            release = tx.catalogue.promote(
                version.package, version.version, _said(reason), found, without_self_test=waived
            )
    _told(release)


@click.command()
@config_option
@click.argument("package", shell_complete=model_names)
@reason_option
def rollback(path: Path, package: str, reason: str) -> None:
    """Use the version again that was used before; given again, the one before that."""
    with open_ledger(path) as ledger, ledger.begin(operator()) as tx:
        release = tx.catalogue.roll_back(package.partition("@")[0], _said(reason))
    _told(release)


@click.command()
@config_option
@click.argument("reference", metavar="PACKAGE@VERSION", shell_complete=model_names)
@reason_option
def retire(path: Path, reference: str, reason: str) -> None:
    """Take a version away from rules for good; its results stay, and runs that were asked for finish."""
    package, version = _two_parts(reference)
    with open_ledger(path) as ledger:
        with ledger.begin(operator()) as tx:
            is_withdrawn = tx.catalogue.retire(package, version, _said(reason))
        naming = _rules_naming(ledger, package, version, is_withdrawn)
    click.echo(f"{reference} is retired")
    if naming:
        click.secho(f"rules that ask for it fail until they are changed: {', '.join(naming)}", fg="yellow", err=True)


def _rules_naming(ledger: Ledger, package: str, version: str, is_withdrawn: bool) -> list[str]:
    named = {f"{package}@{version}", *([package] if is_withdrawn else ())}
    with ledger.begin_reading() as tx:
        return [rule.name for rule in tx.catalogue.rules() if rule.enabled and rule.package in named]


def _two_parts(reference: str) -> tuple[str, str]:
    package, _, version = reference.partition("@")
    if not package or not version:
        raise Misconfigured(f"{reference}: name the version, too: PACKAGE@VERSION (see `dicom-node models list`)")
    return package, version


def _said(reason: str) -> str:
    if not reason.strip():
        raise Misconfigured("--reason: say why; it goes into the audit trail")
    return reason.strip()


def _told(release: Release) -> None:
    click.echo(
        f"{release.package}: {release.version} is in use ({release.move.value}; before: {release.before or 'none'})"
    )


COMMANDS = (add, import_model, prove, verify, sign, promote, rollback, retire)
