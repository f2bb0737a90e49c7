"""Turns settings into what the stages take. The only place where they meet before the composition roots."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pydicom

from dicom_node.config import MODEL_NAME, DestinationSection, NodeConfig, own_titles
from dicom_node.deliver import query
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.echo import echo
from dicom_node.deliver.retrieval import fetch, move
from dicom_node.deliver.stage import Route, Routes
from dicom_node.deliver.study_root import FIND, GET, MOVE, not_offered
from dicom_node.deliver.tls import Files, client_context
from dicom_node.peers import PeerSection
from dicom_node.receive.assembly import Assembly, expect, representative
from dicom_node.receive.completeness import AskTheSource, QuietTime
from dicom_node.receive.fetching import Fetch
from dicom_node.receive.gathering import Gathering
from dicom_node.receive.reconcile import Archive
from dicom_node.route.header import header_of
from dicom_node.route.provenance import NodeIdentity
from dicom_node.unreadable import UNREADABLE
from storage.facts.errors import NodeError, Rejected
from storage.facts.study import Header, Instance, Series
from storage.ledger import Ledger


def destination_of(config: NodeConfig, name: str, section: DestinationSection) -> Destination:
    """A configured destination as the network takes it. Raises Misconfigured for what cannot be called."""
    return Destination(
        name=name,
        ae_title=section.ae_title,
        host=section.host,
        port=section.port,
        calling_ae=section.calling_ae_title or config.node.ae_title,
        tls=_tls(config, name, section),
        connect_seconds=min(section.timeout_seconds, 10.0),
        answer_seconds=section.timeout_seconds,
        associations=section.associations,
    )


def _tls(config: NodeConfig, name: str, section: DestinationSection) -> ssl.SSLContext | None:
    if not section.tls:
        return None
    tls = config.tls
    files = Files(certificate=tls.certificate, key=tls.key, trusted=section.tls_trusted or tls.trusted)
    return client_context(files, name=name)


def routes_of(config: NodeConfig) -> Routes:
    """Every destination by its name."""
    return {
        name: Route(
            destination=destination_of(config, name, section),
            commitment=section.storage_commitment,
            patience_seconds=section.commitment_hours * 3600,
        )
        for name, section in config.destinations.items()
    }


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pacs:
    """A peer that answers C-FIND. See receive.assembly.Source."""

    destination: Destination

    def count(self, study_uid: str, series_uid: str) -> int | None:
        """See Source."""
        return query.counts(self.destination, study_uid).get(series_uid)


def askable(config: NodeConfig) -> dict[PeerSection, Destination]:
    """The peers that can be asked, and where."""
    return {
        peer: destination_of(config, peer.query, config.destinations[peer.query])
        for peer in config.receive.peers
        if peer.query is not None
    }


def looked_after(config: NodeConfig) -> tuple[str, ...]:
    """The peers whose recent studies are looked after, by their calling AE title."""
    asked = (peer.ae_title for peer in config.receive.peers if peer.query is not None)
    return tuple(asked) if config.reconcile.every_minutes else ()


def fetches_of(config: NodeConfig, gathering: Gathering) -> dict[str, Fetch]:
    """The peers that shall send what lacks, by their calling AE title."""
    found: dict[str, Fetch] = {}
    for peer, destination in askable(config).items():
        by_get = partial(gathering.retrieve, peer, destination)
        by_move = partial(move, destination, config.node.ae_title)
        if peer.fetch:
            retrieve = by_get if peer.fetch_by == "C-GET" else by_move
            found[peer.ae_title] = partial(fetch, destination, retrieve=retrieve)
    return found


def archives_of(config: NodeConfig, fetches: Mapping[str, Fetch]) -> dict[str, Archive]:
    """The peers that are looked after, as reconciliation needs them."""
    return {
        peer.ae_title: Archive(
            scope=peer.reconcile, ask=partial(query.Inquiry, destination), fetch=fetches.get(peer.ae_title)
        )
        for peer, destination in askable(config).items()
        if peer.ae_title in looked_after(config)
    }


def gathering_of(config: NodeConfig, ledger: Ledger) -> Gathering:
    """What fetches by C-GET."""
    return Gathering(config, ledger, expect(completeness_of(config)))


def completeness_of(config: NodeConfig) -> AskTheSource:
    """When a series counts as complete at this site."""
    titles = frozenset(peer.ae_title for peer in config.receive.peers if peer.query is not None)
    return AskTheSource(quiet=QuietTime(settings=config.receive), askable=titles)


def assembly_of(config: NodeConfig, ledger: Ledger) -> Assembly:
    """The ASSEMBLE stage of this site."""
    completeness = completeness_of(config)
    return Assembly(
        ledger=ledger,
        completeness=completeness,
        quiet=completeness.quiet,
        sources={peer.ae_title: Pacs(destination=there) for peer, there in askable(config).items()},
        fetching=frozenset(peer.ae_title for peer in config.receive.peers if peer.query is not None and peer.fetch),
        read_header=read_header,
    )


def identity_of(config: NodeConfig) -> NodeIdentity:
    """How the node knows its own results: what it writes into them, and the titles under which it sends."""
    titles = {*own_titles(config), *(d.calling_ae_title or config.node.ae_title for d in config.destinations.values())}
    return NodeIdentity(model_names=frozenset({MODEL_NAME}), ae_titles=frozenset(titles))


def echo_of(config: NodeConfig) -> Callable[[DestinationSection], str | None]:
    """C-ECHO to a destination: None when it answers, else what is wrong and what to do."""

    def ask(section: DestinationSection) -> str | None:
        name = next((n for n, d in config.destinations.items() if d is section), section.ae_title)
        try:
            echo(destination_of(config, name, section))
        except NodeError as error:
            return str(error)
        return None

    return ask


def ask_of(config: NodeConfig) -> Callable[[PeerSection], str | None]:
    """Whether a peer with a query destination offers what is asked of it: None when it does, else what to do."""

    def ask(peer: PeerSection) -> str | None:
        if peer.query is None:
            return None
        try:
            destination = destination_of(config, peer.query, config.destinations[peer.query])
            fetched = {"C-MOVE": MOVE, "C-GET": GET}[peer.fetch_by]
            missing = not_offered(destination, FIND, *([fetched] if peer.fetch else []))
        except NodeError as error:
            return str(error)
        return (
            f"it does not offer {' and '.join(missing)} (Study Root) to this node: allow it there" if missing else None
        )

    return ask


def read_header(path: Path) -> Header:
    """The whole header of a stored file, as plain data. Raises Rejected when it cannot be read."""
    try:
        with pydicom.config.disable_value_validation():
            return header_of(pydicom.dcmread(path, stop_before_pixels=True, defer_size=4096))
    except FileNotFoundError as error:
        raise Rejected(f"{path.name} is gone from {path.parent}: it was removed by hand, or by retention") from error
    except UNREADABLE as error:
        raise Rejected(f"{path.name} cannot be read as DICOM ({type(error).__name__})") from error


def read_series(ledger: Ledger, series_uid: str) -> tuple[Series, list[Instance]]:
    """A stored series with its header, also while it is still arriving. Raises Rejected for an unknown one."""
    with ledger.begin_reading() as tx:
        series = tx.studies.series(series_uid)
        instances = tx.studies.instances(series_uid)
    if series is None or not instances:
        raise Rejected(f"series {series_uid} is not stored here: `dicom-node status STUDY` lists the series of a study")
    if not series.header:
        series = dataclasses.replace(series, header=read_header(ledger.data / representative(instances).path))
    return series, instances
