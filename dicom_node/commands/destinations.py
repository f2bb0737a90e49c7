"""``dicom-node destinations``: who gets results, what they take, and which profile suits them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from dicom_node.commands.opening import read_config
from dicom_node.commands.options import config_option
from dicom_node.config import NodeConfig
from dicom_node.deliver.acceptance import Offer, Refusals
from dicom_node.deliver.association import Association, Proposal
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.sending import FOLDER
from dicom_node.results import profiles
from dicom_node.results.capability import CLASSES, EXPLICIT, IMPLICIT, NEEDS, RLE, propose, takes
from dicom_node.wiring import destination_of
from storage.facts.errors import Rejected, Transient

#: Services that are no storage: what they are for here.
_SERVICES = {
    "1.2.840.10008.1.1": "Verification (C-ECHO)",
    "1.2.840.10008.1.20.1": "Storage Commitment",
    "1.2.840.10008.5.1.4.34.6.1": "Unified Procedure Step (worklist)",
}
_NAMES = {EXPLICIT: "Explicit VR", IMPLICIT: "Implicit VR", RLE: "RLE Lossless"}


@click.group()
def destinations() -> None:
    """Show who gets results, and find out what they take."""


@destinations.command("list")
@config_option
def show(path: Path) -> None:
    """List the configured destinations with their profiles."""
    config = read_config(path)
    if not config.destinations:
        click.echo(f"no destination is configured in {path}: results go nowhere")
    for name, section in config.destinations.items():
        chosen = profiles.of(section)
        secured = " by TLS" if section.tls else ""
        click.secho(f"{name}: {section.ae_title} at {section.host}:{section.port}{secured}", bold=True)
        click.echo(f"  profile {chosen.name}: {', '.join(chosen.kinds)}")
        click.echo(f"  {chosen.why}")
        plain = destination_of(config, name, section.model_copy(update={"tls": False}))  # certificates are not needed
        for known in _named_classes(_memory(config).of(plain)):
            click.echo(f"  was seen to refuse {known}: gets what stands for it, until it is probed")


@destinations.command()
@config_option
@click.argument("ae")
def probe(path: Path, ae: str) -> None:
    """Ask AE, a destination by its name or AE title, what it takes of all that could be sent; propose a profile.

    Nothing is stored there. What deliveries learned of it is forgotten: the next one begins anew. Ends with 1 when the
    configured profile would send what is refused.
    """
    config = read_config(path)
    name = _named(config, ae)
    section = config.destinations[name]
    destination = destination_of(config, name, section)
    accepted = _negotiate(destination)
    _forget(config, destination)
    click.echo(f"{destination} was asked for everything that this node sends:")
    _print_classes(accepted)
    _print_kinds(accepted)
    configured = profiles.of(section)
    refused = [kind for kind in configured.kinds if not takes(kind, accepted)]
    _print_proposal(name, accepted)
    if refused:
        click.secho(f"configured is {configured.name}: {', '.join(refused)} would be refused", fg="red")
    else:
        click.secho(f"configured is {configured.name}: all of it would be taken", fg="green")
    sys.exit(1 if refused else 0)


def _memory(config: NodeConfig) -> Refusals:
    return Refusals(config.node.data / FOLDER)


def _forget(config: NodeConfig, destination: Destination) -> None:
    for known in _named_classes(_memory(config).forget(destination)):
        click.echo(f"forgotten: it was seen to refuse {known}")


def _named_classes(offers: Iterable[Offer]) -> list[str]:
    """The names of SOP classes, each once."""
    return sorted({CLASSES[uid][0] if uid in CLASSES else uid for uid, _ in offers})


def _named(config: NodeConfig, ae: str) -> str:
    """The name of a destination. Raises Rejected for one that is not configured, or for a title that several have."""
    if ae in config.destinations:
        return ae
    found = [name for name, section in config.destinations.items() if section.ae_title == ae]
    if len(found) != 1:
        known = ", ".join(config.destinations) or "none"
        raise Rejected(f"{'several destinations have' if found else 'no destination has'} {ae!r}; known: {known}")
    return found[0]


def _negotiate(destination: Destination) -> dict[str, list[str]]:
    """Transfer syntaxes by SOP class that are accepted, each asked for in a context of its own. Raises Transient."""
    asked = [
        Proposal(abstract_syntax=uid, transfer_syntaxes=(syntax,))
        for uid, (_, syntaxes) in CLASSES.items()
        for syntax in syntaxes
    ]
    asked += [Proposal(abstract_syntax=uid, transfer_syntaxes=(IMPLICIT, EXPLICIT)) for uid in _SERVICES]
    accepted: dict[str, list[str]] = {}
    try:
        with Association(destination, asked) as association:
            for context in association.accepted:
                accepted.setdefault(context.abstract_syntax, []).append(context.transfer_syntax)
    except Transient as error:
        raise Rejected(f"{destination} could not be asked: {error}") from error
    return accepted


def _print_classes(accepted: dict[str, list[str]]) -> None:
    for uid, (name, _) in CLASSES.items():
        syntaxes = ", ".join(_NAMES[syntax] for syntax in accepted.get(uid, ()))
        _line(bool(syntaxes), f"{name:40} {syntaxes or 'refused'}")
    for uid, name in _SERVICES.items():
        _line(uid in accepted, f"{name:40} {'offered' if uid in accepted else 'not offered'}")


def _print_kinds(accepted: dict[str, list[str]]) -> None:
    refused = [kind for kind in NEEDS if not takes(kind, accepted)]
    taken = [kind for kind in NEEDS if kind not in refused]
    click.echo(f"kinds of result it takes: {', '.join(taken) or 'none'}")
    if refused:
        click.echo(f"kinds it refuses: {', '.join(refused)}")


def _print_proposal(name: str, accepted: dict[str, list[str]]) -> None:
    proposal = propose(accepted)
    if proposal is None:
        click.echo("no profile suits it: it takes no report, so that a negative could not be told there")
        return
    click.echo(f"proposed:\n  [destinations.{name}]\n  profile = {json.dumps(proposal.profile.name)}")
    if proposal.without:
        click.echo(f"  without = {json.dumps(proposal.without)}")


def _line(good: bool, text: str) -> None:
    click.secho("  yes  " if good else "  no   ", fg="green" if good else "yellow", nl=False)
    click.echo(text)
