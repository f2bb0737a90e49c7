"""``dicom-node serve`` and the child process that it starts."""

from __future__ import annotations

from pathlib import Path

import click

from dicom_node.commands.opening import read_config, usable
from dicom_node.commands.options import config_option


@click.command()
@config_option
def serve(path: Path) -> None:
    """Run the node until SIGTERM or Ctrl-C: receiving process, stages, workers."""
    from dicom_node import logs, node  # the network is not loaded for --help

    config = read_config(path)
    logs.begin(config.log.level, config.log.format)
    with usable(config.node.data):
        node.claim_folder(config.node.data).close()  # the node itself keeps it: a refusal is said before it starts
    node.serve(config, path.resolve())


@click.command(hidden=True)
@config_option
def stages(path: Path) -> None:
    """Run the stages that say results in DICOM and deliver them. Started by serve."""
    from dicom_node import logs
    from dicom_node import stages as root  # highdicom is not loaded for --help

    config = read_config(path)
    logs.begin(config.log.level, config.log.format)
    root.run(config)
