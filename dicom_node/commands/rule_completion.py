"""What the shell offers after TAB: names of rules, models and destinations, DICOM keywords.

Completion must never disturb the prompt: where the node cannot be read, it offers nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from dicom_node.commands.opening import open_ledger, read_config
from storage.facts.errors import NodeError

_MOST = 40  #: keywords that are offered at once


def rule_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The rules in force and in the draft."""
    try:
        with open_ledger(_path(ctx)) as ledger, ledger.begin_reading() as tx:
            draft = tx.catalogue.draft()
            found = [*tx.catalogue.rules(), *(draft.rules.rules if draft else ())]
    except (NodeError, OSError):
        return []
    return _beginning({rule.name: rule.package for rule in found}.items(), incomplete)


def model_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The registered packages, without and with their versions."""
    try:
        with open_ledger(_path(ctx)) as ledger, ledger.begin_reading() as tx:
            packages = tx.catalogue.packages()
    except (NodeError, OSError):
        return []
    newest = {p.package: f"{p.title}, newest version" for p in packages}
    return _beginning([*newest.items(), *((f"{p.package}@{p.version}", p.title) for p in packages)], incomplete)


def destination_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The destinations of the configuration."""
    try:
        destinations = read_config(_path(ctx)).destinations
    except (NodeError, OSError):
        return []
    return _beginning([(name, each.ae_title) for name, each in destinations.items()], incomplete)


def keywords(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """DICOM keywords and derived facts, for the last word of a condition."""
    from dicom_node.route.vocabulary import names_beginning  # the dictionary is not loaded to list rules

    match = re.search(r"[A-Za-z_]\w*$", incomplete)
    if match is None:
        return []
    head, word = incomplete[: match.start()], match[0]
    return [CompletionItem(head + name, help=about) for name, about in names_beginning(word)[:_MOST]]


def _path(ctx: click.Context) -> Path:
    """The configuration that the command line names so far."""
    return Path(ctx.params.get("path") or "node.toml")


def _beginning(found: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name, help=about) for name, about in found if name.startswith(incomplete)]
