"""Turns settings into what the stages take. The only place where they meet before the composition roots."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import pydicom

from dicom_node.config import MODEL_NAME, DestinationSection, NodeConfig, own_titles
from dicom_node.deliver import query
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.echo import echo
from dicom_node.deliver.retrieval import Retrieve, fetch, move
from dicom_node.deliver.stage import Route, Routes
from dicom_node.deliver.study_root import FIND, GET, MOVE, not_offered
from dicom_node.deliver.tls import Files, client_context
from dicom_node.peers import PeerSection
from dicom_node.receive.assembly import Assembly, Source, expect, representative
from dicom_node.receive.completeness import AskTheSource, QuietTime
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
    """A peer that answers C-FIND, and C-MOVE or C-GET if that is wanted. See receive.assembly.Source."""

    destination: Destination
    retrieve: Retrieve | None  #: None: nothing is fetched

    def count(self, study_uid: str, series_uid: str) -> int | None:
        """See Source."""
        return query.counts(self.destination, study_uid).get(series_uid)

    def fetch(self, study_uid: str, series_uid: str, here: Collection[str]) -> bool:
        """See Source."""
        if self.retrieve is None:
            return False
        fetch(self.destination, study_uid, series_uid, here, self.retrieve)
        return True


def sources_of(config: NodeConfig, gathering: Gathering) -> dict[str, Source]:
    """The peers that can be asked, by their calling AE title."""
    found: dict[str, Source] = {}
    for peer in config.receive.peers:
        if peer.query is not None:
            destination = destination_of(config, peer.query, config.destinations[peer.query])
            found[peer.ae_title] = Pacs(
                destination=destination, retrieve=_retrieve(config, peer, destination, gathering)
            )
    return found


def looked_after(config: NodeConfig) -> tuple[str, ...]:
    """The peers whose recent studies are looked after, by their calling AE title."""
    if not config.reconcile.every_minutes:
        return ()
    return tuple(peer.ae_title for peer in config.receive.peers if peer.query is not None)


def archives_of(config: NodeConfig, gathering: Gathering) -> dict[str, Archive]:
    """The same, as reconciliation needs them."""
    found = {}
    for peer in config.receive.peers:
        if peer.query is None or peer.ae_title not in looked_after(config):
            continue
        destination = destination_of(config, peer.query, config.destinations[peer.query])
        retrieve = _retrieve(config, peer, destination, gathering)
        how = None if retrieve is None else partial(fetch, destination, retrieve=retrieve)
        found[peer.ae_title] = Archive(scope=peer.reconcile, ask=partial(query.Inquiry, destination), fetch=how)
    return found


def _retrieve(config: NodeConfig, peer: PeerSection, destination: Destination, gathering: Gathering) -> Retrieve | None:
    if not peer.fetch:
        return None
    if peer.fetch_by == "C-GET":
        return partial(gathering.retrieve, peer, destination)
    return partial(move, destination, config.node.ae_title)


def gathering_of(config: NodeConfig, ledger: Ledger) -> Gathering:
    """What fetches by C-GET."""
    return Gathering(config, ledger, expect(completeness_of(config)))


def completeness_of(config: NodeConfig) -> AskTheSource:
    """When a series counts as complete at this site."""
    askable = frozenset(peer.ae_title for peer in config.receive.peers if peer.query is not None)
    return AskTheSource(quiet=QuietTime(settings=config.receive), askable=askable)


def assembly_of(config: NodeConfig, ledger: Ledger, gathering: Gathering) -> Assembly:
    """The ASSEMBLE stage of this site."""
    completeness = completeness_of(config)
    return Assembly(
        ledger=ledger,
        completeness=completeness,
        quiet=completeness.quiet,
        sources=sources_of(config, gathering),
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
