"""``dicom-node models``: the model packages and their life."""

from __future__ import annotations

import click

from dicom_node.commands import model_changes, model_listing, model_trials


@click.group()
def models() -> None:
    """Bring model packages in, look at them, and say which version is used."""


for command in (*model_listing.COMMANDS, *model_changes.COMMANDS, *model_trials.COMMANDS):
    models.add_command(command)
