"""The option that every command has. Light: the plain list of rules has it, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

config_option: Callable[[Any], Any] = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("node.toml"),
    show_default=True,
    envvar="DICOM_NODE_CONFIG",
    help="The node's configuration file.",
)
