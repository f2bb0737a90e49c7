"""The commands that put a version to the test at this installation: on local cases, and on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from dicom_node.commands.card_trials import benchmark_card, validation_card
from dicom_node.commands.card_writing import lines_of, write_card
from dicom_node.commands.model_child import ask_worker
from dicom_node.commands.opening import open_ledger, operator, read_config
from dicom_node.commands.options import config_option
from dicom_node.commands.rule_completion import model_names
from storage.facts.errors import Transient
from storage.facts.release import PackageVersion, Trial

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_NEW = click.Path(path_type=Path, dir_okay=False)
_json_option: Callable[[Any], Any] = click.option(
    "--json", "into", type=_NEW, help="Write the whole report as JSON, too; its digest is kept in the trail."
)


@click.command()
@config_option
@click.argument("reference", metavar="PACKAGE[@VERSION]", shell_complete=model_names)
@click.argument("folder", type=_FOLDER)
@click.option("--truth", type=_FILE, required=True, help="What is known of the studies: see docs/models.md.")
@click.option("--report", type=_NEW, help="Write the report: FILE.html or FILE.pdf.")
@_json_option
def validate(path: Path, reference: str, folder: Path, truth: Path, report: Path | None, into: Path | None) -> None:
    """Run a package on studies below FOLDER whose truth is known, and measure how well it does here.

    The very code of production runs, with the calibration and the operating points of the package. What comes out is
    kept as evidence for `models promote`.
    """
    with open_ledger(path) as ledger:
        with ledger.begin_reading() as tx:
            version = tx.catalogue.package_version(reference)
        found = _asked(path, "validate", version, str(folder.resolve()), str(truth.resolve()))
        with ledger.begin(operator()) as tx:
            tx.catalogue.keep_trial(version.package, version.version, Trial.VALIDATED, found)
    card = validation_card(version, found)
    for line in lines_of(card):
        click.echo(line)
    if report is not None:
        write_card(report, card)
    if into is not None:
        _write(into, found)
    click.echo(f"kept as evidence: report {found['digest'][:12]}, see `dicom-node models show {version.reference}`")


@click.command()
@config_option
@click.argument("reference", metavar="PACKAGE[@VERSION]", shell_complete=model_names)
@click.option("--series", type=_FOLDER, help="Folder with the files of one series. Default: the package's self-test.")
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True, help="Runs after a first one.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def benchmark(path: Path, reference: str, series: Path | None, rounds: int, as_json: bool) -> None:
    """Measure what a package takes on the worker's device: time by step, memory, and against its bare forward pass.

    `rules simulate` forecasts with it until runs of the package are known.
    """
    with open_ledger(path) as ledger:
        with ledger.begin_reading() as tx:
            version = tx.catalogue.package_version(reference)
        more = () if series is None else ("--series", str(series.resolve()))
        found = _asked(path, "benchmark", version, "--rounds", str(rounds), *more, quiet=as_json)
        with ledger.begin(operator()) as tx:
            tx.catalogue.keep_trial(version.package, version.version, Trial.BENCHMARKED, found)
    if as_json:
        click.echo(json.dumps(found, indent=2, sort_keys=True))
        return
    for line in lines_of(benchmark_card(version, found)):
        click.echo(line)


def _asked(path: Path, command: str, version: PackageVersion, *arguments: str, quiet: bool = False) -> dict[str, Any]:
    """What the worker found, computing in the way that is proven for its device."""
    current = [p for p in version.proofs if p.passed and p.document.get("digest") == version.digest]
    proven = [f"--proven={p.device.partition(':')[0]}={','.join(p.document.get('chosen', ()))}" for p in current]
    return ask_worker(read_config(path), command, version.package, version.version, *arguments, *proven, quiet=quiet)


def _write(file: Path, found: Mapping[str, Any]) -> None:
    try:
        file.write_text(json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        raise Transient(f"{file} cannot be written: {error.strerror}") from error


COMMANDS = (validate, benchmark)
