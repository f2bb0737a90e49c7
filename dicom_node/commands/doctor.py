"""``dicom-node doctor``: looks for what would keep the node from working."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path

import click

from dicom_node.commands.opening import read_config
from dicom_node.commands.options import config_option

COLOURS = {"ok": "green", "warning": "yellow", "fault": "red"}


@click.command()
@config_option
def doctor(path: Path) -> None:
    """Look for what would keep the node from working, and say what to do. Exit code 1 on any fault."""
    from dicom_node.commands.model_checks import examine_models  # the network is not loaded for --help
    from dicom_node.doctor import Verdict, examine
    from dicom_node.wiring import ask_of, echo_of

    config = read_config(path)
    faults = 0
    for check in chain(examine(config, path, echo_of(config), ask_of(config)), examine_models(config)):
        faults += check.verdict is Verdict.FAULT
        click.secho(f"{check.verdict.value:<8}", fg=COLOURS[check.verdict.value], nl=False)
        click.echo(f"{check.what}: {check.found}")
        if check.todo:
            click.echo(f"        -> {check.todo}")
    click.echo("the node can work" if not faults else f"{faults} fault(s) keep the node from working")
    sys.exit(1 if faults else 0)
