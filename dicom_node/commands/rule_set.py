"""What the commands about rules share: the set in force or the draft, and how a change of it is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from dicom_node.commands.opening import operator
from storage.facts.errors import Rejected
from storage.facts.routing import RuleSet
from storage.ledger import Ledger, Transaction

draft_option: Callable[[Any], Any] = click.option(
    "--draft", is_flag=True, help="The draft instead of what is in force."
)
NEXT = "`dicom-node rules diff` shows it, `rules simulate` rehearses it, `rules apply --reason WHY` puts it in force"


def apply_options(command: Any) -> Any:
    """The options of every command that changes rules."""
    command = click.option("--reason", "-m", default="", help="Why, for the history; with --apply.")(command)
    return click.option("--apply", "at_once", is_flag=True, help="Put it in force at once instead of drafting it.")(
        command
    )


def pick(tx: Transaction, draft: bool) -> RuleSet:
    """The draft, or what is in force. Raises Rejected when a draft is asked for and there is none."""
    if not draft:
        return tx.catalogue.live().rules
    found = tx.catalogue.draft()
    if found is None:
        raise Rejected("there is no draft: nothing was changed since the rules were applied")
    return found.rules


def proposed(ledger: Ledger) -> RuleSet:
    """What a change starts from: the draft if there is one, else what is in force."""
    with ledger.begin_reading() as tx:
        draft = tx.catalogue.draft()
        return draft.rules if draft is not None else tx.catalogue.live().rules


def waiting(tx: Transaction) -> str:
    """A sentence about the draft; empty when there is none."""
    draft = tx.catalogue.draft()
    if draft is None:
        return ""
    if draft.proposed:
        return (
            f"a proposal of {draft.authors[-1]} waits for another person: `dicom-node rules diff`, then "
            f"`dicom-node rules approve {draft.rules.digest()}`"
        )
    return f"a draft of {', '.join(draft.authors)} is not in force yet: {NEXT}"


def change(ledger: Ledger, before: RuleSet, after: RuleSet, what: str, at_once: bool, reason: str) -> None:
    """Make a change in the draft, or at once in force, and say what comes next.

    Raises Rejected for a change at once beside a draft, where a second person must approve, and when somebody else
    was faster.
    """
    with ledger.begin(operator()) as tx:
        live, draft = tx.catalogue.live(), tx.catalogue.draft()
        if (draft.rules if draft is not None else live.rules) != before:
            raise Rejected("somebody else changed the rules just now: look at `dicom-node rules diff`, and try again")
        if at_once and draft is not None:
            raise Rejected(
                "there is a draft already, which --apply would pass over: `dicom-node rules apply` puts all of it in "
                "force, `rules discard` drops it"
            )
        if at_once:
            version = tx.catalogue.enact(after, reason or what)
            said = f"{what}: version {version.number} is in force"
        elif tx.catalogue.keep_draft(after) is None:
            said = f"{what}: the rules are as they are in force, and there is no draft"
        else:
            said = f"{what} in the draft. {NEXT}"
    click.echo(said)
