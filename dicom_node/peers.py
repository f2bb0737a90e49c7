"""Settings of who may send to the node, and how much of what: ``[[receive.peers]]``."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from storage.settings import Settings


def _ae_title(value: str) -> str:
    title = value.strip()
    if not title or len(title) > 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise ValueError("an AE title has 1 to 16 printable ASCII characters without backslash (PS3.5 6.2)")
    return title


def _network(value: str) -> str:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise ValueError(f"{value!r} is neither an IP address nor a network such as 10.1.0.0/16") from error
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is None or network.prefixlen < 96:
        return value
    return f"{mapped}/{network.prefixlen - 96}"  # as callers are compared: a socket for both families shows them so


def _uid(value: str) -> str:
    if not re.fullmatch(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*", value):
        raise ValueError(f"{value!r} is no UID (PS3.5 9.1)")
    return value


AETitle = Annotated[str, AfterValidator(_ae_title)]
Network = Annotated[str, AfterValidator(_network)]
UIDText = Annotated[str, AfterValidator(_uid)]


class PeerSection(Settings):
    """One peer that may send to this node."""

    ae_title: AETitle
    """Calling AE title of the peer."""
    addresses: tuple[Network, ...] = ()
    """IP addresses or networks it may call from. Default none given: any address (the AE title alone is weak proof)."""
    query: str | None = None
    """Destination that tells what it has of a study (C-FIND): completeness is then known. Default none: quiet time."""
    fetch: bool = False
    """Fetch what that destination has and the node lacks. Default false: it must allow that to this node."""
    fetch_by: Literal["C-MOVE", "C-GET"] = "C-MOVE"
    """How. C-MOVE (default): it sends as it forwards, and must know this node's address. C-GET: it sends on the
    association on which it is asked, for a source that does not know this node, or cannot reach it."""
    reconcile: Literal["started", "all"] = "started"
    """Which of its recent studies the node looks after, where it has a query destination. started (default): those of
    which something came. all: also those of which nothing came, as after the node was down; for a peer that forwards
    all that it has of reconcile.modalities."""
    certificate_names: tuple[str, ...] = ()
    """Common or DNS names, one of which its certificate must bear; it can then call by TLS alone. Default none given:
    any trusted certificate, or none where TLS is not asked for."""
    sop_classes: tuple[UIDText, ...] = ()
    """Storage SOP Class UIDs that it may send. Default none given: all that the node takes."""
    transfer_syntaxes: tuple[UIDText, ...] = ()
    """Transfer Syntax UIDs in which it may send them. Default none given: all. One that is not named is refused in
    negotiation, so that a sender which can convert does; Implicit VR Little Endian is the one that every sender has."""
    called_titles: tuple[AETitle, ...] = ()
    """Which of the node's AE titles it may call. Default none given: any of them."""
    maximum_associations: int = Field(default=0, ge=0, le=1000)
    """Its concurrent associations. Default 0: only the limit of the node."""
    maximum_mb_per_second: float = Field(default=0.0, ge=0)
    """The rate at which its objects are taken, MB a second, all its associations together. Default 0: no limit.
    For a peer that shall not use up the line or the disk of others."""
    quota_gb_per_day: float = Field(default=0.0, ge=0)
    """What is taken from it in a day (UTC), GB; beyond, C-STORE answers 0xA700. Counted anew after a restart.
    Default 0: no limit."""
