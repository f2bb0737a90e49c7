"""The commands that put rules in force and take them back: what changes, who did it, and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from dicom_node.commands.opening import open_ledger, operator
from dicom_node.commands.options import config_option
from dicom_node.commands.printing import moment, table
from dicom_node.commands.rule_set import change, draft_option, proposed, waiting
from storage.facts.errors import Misconfigured, NodeError, Rejected
from storage.facts.routing import RuleSet, RuleVersion, changes
from storage.ledger import Transaction

json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="As JSON, one object a line.")
reason_option: Callable[[Any], Any] = click.option("--reason", "-m", required=True, help="Why, for the history.")


@click.command(short_help="What the draft changes.")
@config_option
@click.argument("old", required=False, type=int)
@click.argument("new", required=False, type=int)
@json_option
def diff(path: Path, old: int | None, new: int | None, as_json: bool) -> None:
    """What the draft changes; with OLD, what changed from that version to the one in force, or to version NEW."""
    with open_ledger(path, create=True) as ledger, ledger.begin_reading() as tx:
        live, draft = tx.catalogue.live(), tx.catalogue.draft()
        said = waiting(tx)
        if old is not None:
            one, two = tx.catalogue.version(old), live if new is None else tx.catalogue.version(new)
            before, after, names = one.rules, two.rules, (f"version {one.number}", f"version {two.number}")
        elif draft is None:
            click.echo("{}" if as_json else f"there is no draft; version {live.number} is in force")
            return
        else:
            before, after, names = live.rules, draft.rules, (f"version {live.number}, in force", "draft")
    if as_json:
        click.echo(json.dumps(changes(before, after)))
        return
    _print_diff(before, after, names)
    if old is None:
        click.echo(said)


def _print_diff(before: RuleSet, after: RuleSet, names: tuple[str, str]) -> None:
    from dicom_node.route.sheet import difference  # YAML is not loaded to list rules

    colours = {"+": "green", "-": "red", "@": "cyan"}
    lines = difference(before, after, names)
    for line in lines:
        click.secho(line, fg=colours.get(line[:1]))
    if not lines:
        click.echo(f"{names[0]} and {names[1]} are the same")


@click.command(short_help="Put the draft in force, or propose it.")
@config_option
@reason_option
def apply(path: Path, reason: str) -> None:
    """Put the draft in force as a new version; where a second person must approve, propose it to them."""
    with open_ledger(path) as ledger:
        with ledger.begin(operator()) as tx:
            done = tx.catalogue.apply_draft(_said(reason))
        if isinstance(done, RuleVersion):
            click.echo(f"version {done.number} is in force; `dicom-node rules rollback --reason WHY` takes it back")
        else:
            digest = done.rules.digest()
            click.echo(
                f"proposed as {digest}. It is not in force: another person looks at `dicom-node rules diff`, then "
                f"`dicom-node rules approve {digest}`"
            )


def _proposals(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    try:
        with open_ledger(Path(ctx.params.get("path") or "node.toml")) as ledger, ledger.begin_reading() as tx:
            draft = tx.catalogue.draft()
    except (NodeError, OSError):
        return []
    digest = draft.rules.digest() if draft is not None and draft.proposed else ""
    return [CompletionItem(digest)] if digest and digest.startswith(incomplete) else []


@click.command(short_help="Put a proposal in force as its second person.")
@config_option
@click.argument("proposal", shell_complete=_proposals)
def approve(path: Path, proposal: str) -> None:
    """Put PROPOSAL in force as its second person. `dicom-node rules diff` shows what it changes."""
    with open_ledger(path) as ledger, ledger.begin(operator()) as tx:
        version = tx.catalogue.approve(proposal)
    click.echo(f"version {version.number} is in force, approved by {version.approver}")


@click.command()
@config_option
def discard(path: Path) -> None:
    """Drop the draft."""
    with open_ledger(path) as ledger, ledger.begin(operator()) as tx:
        tx.catalogue.discard_draft()
        number = tx.catalogue.live().number
    click.echo(f"the draft is dropped; version {number} is in force as before")


@click.command(short_help="Put the version before in force again.")
@config_option
@click.option("--to", type=int, metavar="VERSION", help="This version; default the one before.")
@reason_option
def rollback(path: Path, to: int | None, reason: str) -> None:
    """Put the version before in force again, at once. Runs under way finish as they were routed."""
    with open_ledger(path) as ledger:
        with ledger.begin(operator()) as tx:
            before = tx.catalogue.live()
            version = tx.catalogue.rollback(_said(reason), to)
        _print_diff(before.rules, version.rules, (f"version {before.number}", f"version {version.number}"))
        click.echo(f"version {version.number} is in force; it says what version {version.restores} said")


def _said(reason: str) -> str:
    if not reason.strip():
        raise Misconfigured("say why: the reason is what others read in `dicom-node rules history`")
    return reason.strip()


@click.command()
@config_option
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, the newest first.")
@json_option
def history(path: Path, limit: int, as_json: bool) -> None:
    """What was in force when, who changed it, and why."""
    with open_ledger(path, create=True) as ledger, ledger.begin_reading() as tx:
        versions = tx.catalogue.versions(limit + 1)
    before = [*(version.rules for version in versions[1:]), RuleSet()][: len(versions)]
    pairs = list(zip(versions, before, strict=True))[:limit]
    if as_json:
        for version, earlier in pairs:
            click.echo(json.dumps(_plain(version) | {"diff": changes(earlier, version.rules)}))
    elif not versions:
        click.echo("no rules were ever in force")
    else:
        heads = ["VERSION", "SINCE", "BY", "APPROVED BY", "WHAT", "WHY"]
        table(heads, [_row(version, earlier) for version, earlier in pairs])


def _plain(version: RuleVersion) -> dict[str, Any]:
    names = ("number", "at", "author", "approver", "reason", "restores")
    return {name: getattr(version, name) for name in names}


def _row(version: RuleVersion, earlier: RuleSet) -> list[str]:
    found = changes(earlier, version.rules)
    signs = (("+", "added"), ("-", "removed"), ("~", "changed"))
    what = [f"{sign}{name}" for sign, key in signs for name in found.get(key, ())]
    what += ["order"] if "order" in found else []
    what += [f"{key}={new}" for key, (_, new) in found.get("settings", {}).items()]
    told = ", ".join(what[:4]) + (f" and {len(what) - 4} more" if len(what) > 4 else "")
    restored = f" (as version {version.restores})" if version.restores is not None else ""
    return [
        str(version.number), moment(version.at), version.author, version.approver or "-", (told or "-") + restored,
        version.reason,
    ]  # fmt: skip


@click.command("export", short_help="Write the rules as a YAML sheet.")
@config_option
@draft_option
@click.option("--version", "number", type=int, help="This version instead of what is in force.")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
def export_rules(path: Path, draft: bool, number: int | None, file: Path | None) -> None:
    """Write the rules as YAML, to FILE or to standard output."""
    from dicom_node.route.sheet import write_set  # YAML is not loaded to list rules

    with open_ledger(path) as ledger, ledger.begin_reading() as tx:
        text = write_set(_chosen(tx, draft, number))
    if file is None:
        click.echo(text, nl=False)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"{file} cannot be written: {error.strerror}") from error
    click.echo(f"written to {file}", err=True)


def _chosen(tx: Transaction, draft: bool, number: int | None) -> RuleSet:
    if draft and number is not None:
        raise Misconfigured("--draft or --version, not both")
    if number is not None:
        return tx.catalogue.version(number).rules
    found = tx.catalogue.draft()
    if draft and found is None:
        raise Rejected("there is no draft: nothing was changed since the rules were applied")
    return found.rules if draft and found is not None else tx.catalogue.live().rules


@click.command("import", short_help="Make a YAML sheet the draft.")
@config_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
def import_rules(path: Path, file: Path) -> None:
    """Make the rules in FILE (YAML; - is standard input) the draft, in the place of all others."""
    from dicom_node.commands.rule_checks import imported  # the language is not loaded to list rules

    text = sys.stdin.read() if str(file) == "-" else read_sheet(file)
    with open_ledger(path, create=True) as ledger:
        before = proposed(ledger)
        after = imported(ledger, path, text, str(file))
        with ledger.begin_reading() as tx:
            live = tx.catalogue.live()
        _print_diff(live.rules, after, (f"version {live.number}, in force", str(file)))
        change(ledger, before, after, f"{len(after.rules)} rule(s) are imported", False, "")


def read_sheet(file: Path) -> str:
    """The text of a sheet. Raises Misconfigured when it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{file} is no text in UTF-8") from error


COMMANDS = (diff, apply, approve, discard, rollback, history, export_rules, import_rules)
