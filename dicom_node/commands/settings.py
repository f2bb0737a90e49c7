"""``dicom-node config``: check or show the configuration."""

from __future__ import annotations

from pathlib import Path

import click

from dicom_node.commands.opening import read_config
from dicom_node.commands.options import config_option
from dicom_node.config import NodeConfig
from storage.settings import describe


@click.group()
def config() -> None:
    """Check or show the configuration."""


@config.command()
@config_option
def check(path: Path) -> None:
    """Say whether the file is valid; every fault at once, with the nearest known key."""
    read_config(path)
    click.echo(f"{path}: valid. `dicom-node doctor -c {path}` looks at what it points to.")


@config.command()
@config_option
@click.option("--bare", is_flag=True, help="Without the comments.")
def show(path: Path, bare: bool) -> None:
    """Print what is in force, every key with unit, default and why; the defaults where there is no file."""
    in_force = read_config(path) if path.exists() else NodeConfig()
    click.echo(describe(in_force, comments=not bare), nl=False)
