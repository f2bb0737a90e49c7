"""``dicom-node rules``: listing is answered by little code, everything else by the full commands."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from dicom_node.commands.listed import ListedGroup
from dicom_node.commands.options import config_option
from dicom_node.commands.rule_lines import print_rules
from storage.glance import rules_in_force

#: What the full commands say of themselves, for a list of them that need not load them; a test compares.
COMMANDS: dict[str, str] = {
    "add": "Add a rule.",
    "apply": "Put the draft in force, or propose it.",
    "approve": "Put a proposal in force as its second person.",
    "diff": "What the draft changes.",
    "disable": "Switch a rule off; it stays listed and is still explained.",
    "discard": "Drop the draft.",
    "edit": "Change a rule, or the whole set, by options or in your editor.",
    "enable": "Switch a rule on.",
    "explain": "Why a study or series went where it went.",
    "export": "Write the rules as a YAML sheet.",
    "history": "What was in force when, who changed it, and why.",
    "import": "Make a YAML sheet the draft.",
    "lint": "Look for rules that cannot work or work twice.",
    "list": "List the rules in force.",
    "remove": "Remove a rule; the history keeps what it was.",
    "rollback": "Put the version before in force again.",
    "settings": "First match or all; approval by a second person.",
    "show": "Show one rule as it is written.",
    "simulate": "Rehearse the draft on recorded traffic.",
    "test": "Try rules on files or stored series.",
    "unmatched": "What reached no model, in groups.",
}


class RuleGroup(ListedGroup):
    """The group of dicom_node.commands.rules, loaded only when more than the plain list is asked for."""

    descriptions = COMMANDS

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click.Group."""
        if cmd_name not in COMMANDS:
            return None
        return list_rules if cmd_name == "list" else _full().get_command(ctx, cmd_name)


def _full() -> click.Group:
    from dicom_node.commands.rules import rules as full  # the ORM and the configuration take longer than the answer

    return full


@click.group(cls=RuleGroup)
def rules() -> None:
    """Which model sees which series, where its results go, and how that is changed.

    add, edit, enable, disable and remove change a draft. diff shows it, simulate rehearses it on recorded traffic,
    apply puts it in force as a new version, rollback takes that back.
    """


@click.command("list", short_help="List the rules in force.")
@config_option
@click.option("--draft", is_flag=True, help="The draft instead of what is in force.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def list_rules(ctx: click.Context, path: Path, draft: bool, as_json: bool) -> None:
    """List the rules in force, in their order of evaluation; with --draft, as they shall become."""
    if not path.exists():
        from dicom_node.commands.opening import read_config  # the full commands would be loaded first, for a second

        read_config(path)
    shown = None if draft else _glance(path)
    if shown is not None:
        print_rules(shown, as_json)
        return
    full = _full().get_command(ctx, "list")
    assert full is not None
    ctx.invoke(full, path=path, draft=draft, as_json=as_json)


def _glance(path: Path) -> Any:
    """The rules of an embedded ledger; None where the full command must look, or say what is wrong."""
    try:
        node = tomllib.loads(path.read_text(encoding="utf-8")).get("node", {})
        if "database" in node:
            return None
        return rules_in_force(path.resolve().parent / node.get("data", "data"))
    except (OSError, ValueError, TypeError, AttributeError):
        return None
