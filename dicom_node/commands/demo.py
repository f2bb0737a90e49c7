"""``dicom-node demo``: the main job, end to end, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--study", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Your own files instead.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), default=Path("demo"), show_default=True,
    help="Where everything goes: downloads, studies, the node's data, results.",
)  # fmt: skip
@click.option("--limit", default=300.0, show_default=True, help="Give up after so many seconds.")
def demo(study: Path | None, folder: Path, limit: float) -> None:
    """Start a node and a stand-in PACS here, send studies over DICOM, and show what comes back.

    Without --study: a brain MR, a chest CT phantom whose truth is known, and a study that must be refused.
    """
    from dicom_node.demo.performance import perform  # rich, numpy and the network are not loaded for --help

    sys.exit(perform(folder.resolve(), study, limit))
