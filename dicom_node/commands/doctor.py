"""``dicom-node doctor``: looks for what would keep the node from working."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicom_node.commands.opening import read_config, usable
from dicom_node.commands.options import config_option
from dicom_node.config import NodeConfig
from storage.facts.errors import Misconfigured

if TYPE_CHECKING:
    from dicom_node.doctor import Check

COLOURS = {"ok": "green", "warning": "yellow", "fault": "red"}


@click.command()
@config_option
def doctor(path: Path) -> None:
    """Look for what would keep the node from working, and say what to do. Exit code 1 on any fault."""
    from dicom_node.doctor import Verdict  # the network is not loaded for --help

    faults = 0
    for check in _checks(read_config(path), path):
        faults += check.verdict is Verdict.FAULT
        click.secho(f"{check.verdict.value:<8}", fg=COLOURS[check.verdict.value], nl=False)
        click.echo(f"{check.what}: {check.found}")
        if check.todo:
            click.echo(f"        -> {check.todo}")
    click.echo("the node can work" if not faults else f"{faults} fault(s) keep the node from working")
    sys.exit(1 if faults else 0)


def _checks(config: NodeConfig, path: Path) -> Iterator[Check]:
    """All checks; the first alone where the ledger's key may not be read, for then nothing else can be judged."""
    from dicom_node.commands.config_checks import faults
    from dicom_node.commands.model_checks import examine_models
    from dicom_node.doctor import Check, Verdict, examine
    from dicom_node.wiring import ask_of, echo_of

    key = config.node.data / "audit.key"
    try:
        with usable(config.node.data):
            if key.exists():
                key.open("rb").close()
    except Misconfigured as error:
        yield Check(what="data folder", verdict=Verdict.FAULT, found=str(error))
        return
    for fault in faults(config):
        yield Check(what="settings", verdict=Verdict.FAULT, found=fault, todo=f"mend {path}")
    yield from examine(config, path, echo_of(config), ask_of(config))
    yield from examine_models(config)
