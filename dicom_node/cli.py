"""The command line: what there is. A command's module is loaded only when it is called, so that answers come fast."""

from __future__ import annotations

import importlib

import click

from dicom_node.commands.listed import ListedGroup

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "Three studies, or your own, from C-STORE to SR, SEG and worklist, on this machine."),
    "serve": ("serve", "Run the node until it is told to stop."),
    "stages": ("serve", "Run the stages; started by serve."),
    "config": ("settings", "Check or show the configuration."),
    "import": ("import_files", "Take in files from a folder, a ZIP or a DICOMDIR."),
    "bench": ("bench", "Measure receiving and sending on this machine."),
    "doctor": ("doctor", "Look for what would keep the node from working, and say what to do."),
    "rules": ("rule_group", "Write, rehearse, explain and take back the routing rules."),
    "models": ("models", "Show the model packages."),
    "tasks": ("tasks", "Show what is queued, running or dead; retry dead letters."),
    "worklist": ("worklist", "Results, the most urgent first."),
    "status": ("status", "What the node knows about a study, and why it is where it is."),
    "results": ("results", "Show results as text or pictures; send them again."),
    "destinations": ("destinations", "Who gets results, what they take, and which profile suits them."),
    "validate": ("validate", "Check DICOM objects: this node's rules, and dciodvfy."),
    "audit": ("audit", "Show or verify the audit trail."),
}
HIDDEN = frozenset({"stages"})
_FUNCTIONS = {"import": "import_files"}  #: where the name is a word of Python


class LazyGroup(ListedGroup):
    """Commands by name; the module of one is imported when it is asked for."""

    descriptions = {name: line for name, (_, line) in COMMANDS.items() if name not in HIDDEN}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click.Group."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"dicom_node.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, _FUNCTIONS.get(cmd_name, cmd_name))
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dicom-node")
def cli() -> None:
    """A DICOM node that runs imaging models on what the PACS forwards and sends back results that its viewers show."""
