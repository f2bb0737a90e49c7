"""Who may associate. Pure: the answer is the refusal that a peer is given, or None."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dicom_node.config import ReceiveSection
from dicom_node.peers import PeerSection


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An A-ASSOCIATE-RJ (PS3.8 Table 9-21) and what the trail says of it."""

    result: int  #: 1 permanent, 2 transient
    source: int  #: 1 service user, 3 service provider (presentation)
    reason: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks for an association."""

    calling: str  #: AE title it gives
    called: str  #: AE title it asks for
    address: str
    names: frozenset[str] = frozenset()  #: in its verified certificate, lower case; empty without TLS


def admit(caller: Caller, own_titles: Collection[str], receive: ReceiveSection) -> Refusal | None:
    """Whether a peer of that AE title, address and certificate may associate for that called AE title."""
    calling, called, address = caller.calling, caller.called, caller.address
    if called.strip() not in own_titles:
        own = ", ".join(own_titles)
        return Refusal(result=1, source=1, reason=7, why=f"called AE title {called!r}, this node is {own}")
    if not calling.strip():
        return Refusal(result=1, source=1, reason=3, why="the peer gave no calling AE title")
    if receive.accept_unknown_peers:
        return None
    known = [peer for peer in receive.peers if peer.ae_title == calling.strip()]
    if not known:
        return Refusal(
            result=1, source=1, reason=3, why=f"calling AE title {calling!r} is not in receive.peers of node.toml"
        )
    near = [peer for peer in known if _is_from(address, peer.addresses)]
    if not near:
        return Refusal(
            result=1, source=1, reason=3, why=f"{calling!r} called from {address}, which receive.peers does not allow"
        )
    welcome = [peer for peer in near if not peer.called_titles or called.strip() in peer.called_titles]
    if not welcome:
        return Refusal(
            result=1, source=1, reason=7, why=f"{calling!r} called {called!r}, which receive.peers does not allow it"
        )
    if any(_bears(caller.names, peer.certificate_names) for peer in welcome):
        return None
    return Refusal(
        result=1, source=1, reason=3,
        why=f"{calling!r} shows no certificate with a name of its certificate_names in receive.peers",
    )  # fmt: skip


def section_of(calling: str, address: str, peers: Sequence[PeerSection]) -> PeerSection | None:
    """Whose limits hold for a caller: of several peers with its AE title, the first that its address belongs to.

    Without such an address it is the first of that title, so that a limit is never lost; None for a strange title.
    """
    named = [peer for peer in peers if peer.ae_title == calling]
    if len(named) < 2:
        return named[0] if named else None
    return next((peer for peer in named if _is_from(address, peer.addresses)), named[0])


def _bears(names: frozenset[str], wanted: tuple[str, ...]) -> bool:
    return not wanted or any(name.lower() in names for name in wanted)


def _is_from(address: str, networks: tuple[str, ...]) -> bool:
    if not networks:
        return True
    here = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(here, ipaddress.IPv6Address) and here.ipv4_mapped is not None:
        here = here.ipv4_mapped
    return any(here in ipaddress.ip_network(network, strict=False) for network in networks)
