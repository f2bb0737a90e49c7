"""``dicom-node models``: the model packages."""

from __future__ import annotations

from pathlib import Path

import click

from dicom_node.commands.opening import open_ledger
from dicom_node.commands.options import config_option
from dicom_node.commands.printing import table


@click.group()
def models() -> None:
    """Show the model packages."""


@models.command("list")
@config_option
def list_models(path: Path) -> None:
    """List the packages that workers have verified and registered."""
    with open_ledger(path) as ledger, ledger.begin_reading() as tx:
        found = tx.catalogue.packages()
    if not found:
        click.echo("no packages: no worker has run yet; `dicom-node doctor` says why")
        return
    rows = [
        [p.package, p.version, p.digest[:12], "research" if p.manifest.get("research", True) else "clinical", p.title]
        for p in found
    ]
    table(["PACKAGE", "VERSION", "DIGEST", "USE", "TITLE"], rows)
