"""``dicom-node config``: check or show the configuration."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from dicom_node.commands.opening import read_config
from dicom_node.commands.options import config_option
from dicom_node.config import NodeConfig
from storage.facts.errors import Misconfigured
from storage.settings import describe


@click.group()
def config() -> None:
    """Check or show the configuration."""


@config.command()
@config_option
def check(path: Path) -> None:
    """Say whether the file is valid; every fault at once, with the nearest known key."""
    from dicom_node.commands.config_checks import faults  # results are not loaded for --help

    found = list(faults(read_config(path)))
    if found:
        raise Misconfigured(f"{path}:\n  " + "\n  ".join(found))
    click.echo(f"{path}: valid. `dicom-node doctor -c {path}` looks at what it points to.")


@config.command()
@config_option
@click.option("--bare", is_flag=True, help="Without the comments.")
@click.pass_context
def show(ctx: click.Context, path: Path, bare: bool) -> None:
    """Print what is in force, every key with unit, default and why; the defaults where no file is named or there."""
    named = ctx.get_parameter_source("path") is not ParameterSource.DEFAULT
    in_force = read_config(path) if named or path.exists() else NodeConfig()
    click.echo(describe(in_force, comments=not bare), nl=False)
