"""Every setting of the node: frozen, validated, each with its unit, its default and why.

``node.toml`` is read once, by the composition root; ``dicom-node config show`` prints what is in force, with why.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field

from dicom_node.peers import AETitle, PeerSection
from storage.facts.errors import Misconfigured
from storage.settings import Settings, parse, read_toml

#: Who the product is: in associations (PS3.7 D.3.3.2), files (PS3.10 7.1) and results, which it knows again by it.
IMPLEMENTATION_CLASS_UID = "2.25.218730291837465092837465091827364509182"
IMPLEMENTATION_VERSION_NAME = "DICOM_NODE_1"
MODEL_NAME = "DICOM AI node"

Port = Annotated[int, Field(ge=0, le=65535)]


def _torch_device(value: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", value):
        raise ValueError(f"{value!r} is no device of torch: cpu, cuda, or one of several as cuda:0")
    return value


TorchDevice = Annotated[str, AfterValidator(_torch_device)]


class NodeSection(Settings):
    """Who this node is and where it keeps things."""

    ae_title: AETitle = "DICOM_NODE"
    """AE title that peers call. Default DICOM_NODE; change it to what the PACS administrator assigns."""
    further_titles: tuple[AETitle, ...] = ()
    """More AE titles that the node answers to; rules can tell by called_ae what a sender wants. Default none."""
    bind: str = "0.0.0.0"
    """Address to listen on. Default all, as the PACS is on another machine."""
    port: Port = 11112
    """TCP port. Default 11112, the registered DICOM port that needs no root; 0 takes a free one."""
    data: Path = Path("data")
    """Folder for received studies, results, the SQLite ledger and the audit key; relative to the configuration file."""
    database: str | None = None
    """SQLAlchemy URL (postgresql://user@host/name). Default none: SQLite in the data folder, enough for one machine."""
    database_password_file: Path | None = None
    """File with the database password, so that it stays out of this file. Default none."""
    station_name: str = Field(default="DICOM-NODE", max_length=16)
    """Station Name written into results (16 characters)."""
    serial_number: str = Field(default="1", max_length=64)
    """Device Serial Number written into results; give each node of a site its own. It names the device observer too."""
    institution: str = Field(default="", max_length=64)
    """Institution Name written into results. Default empty: the source's own is not assumed to be ours."""
    language: str = Field(default="en", min_length=1)
    """Language of results: en (default), de, or the path of a table like dicom_node/results/language_de.toml, from
    here. What a model package says in its own words stays as it is."""


class ReceiveSection(Settings):
    """Receiving: who may send, and what is promised."""

    peers: tuple[PeerSection, ...] = ()
    """Peers that may associate. Default none: an unknown peer is rejected with a reason."""
    accept_unknown_peers: bool = False
    """Accept any AE title from any address. Default false: images of unknown origin must not reach a model."""
    maximum_associations: int = Field(default=64, ge=1, le=1000)
    """Concurrent associations. Default 64: modalities that open one per image need room."""
    association_seconds: float = Field(default=10.0, gt=0)
    """Time for a new connection to ask for an association, seconds. Default 10: silent ones must not fill the limit."""
    idle_seconds: float = Field(default=300.0, gt=0)
    """An association without traffic is aborted after this time, seconds. Default 300."""
    stall_seconds: float = Field(default=60.0, gt=0)
    """A peer that stops in the middle of a message is cut off after this time, seconds. Default 60."""
    least_kb_per_second: float = Field(default=1.0, ge=0)
    """A message that comes more slowly, over any stall_seconds, is cut off, kB a second. Default 1: the slowest line is
    faster, and a peer that sends a byte a minute must not hold an association for hours."""
    maximum_pdu: int = Field(default=131072, ge=4096, le=1048576)
    """Maximum PDU length announced, bytes. Default 131072, the most that common senders use."""
    durability: Literal["fdatasync", "none"] = "fdatasync"
    """What 0x0000 promises. fdatasync (default): the object survives a power cut. none: where the PACS keeps a copy."""
    refuse_below_mb: int = Field(default=2048, ge=0)
    """Free space below which C-STORE answers 0xA700, MB. Default 2048: refusing early leaves room for results."""
    quiet_seconds: float = Field(default=5.0, ge=0)
    """A series is complete this long after its last association was released, seconds, as long as neither its source
    can be asked nor its pace is known from 20 series. Default 5: pauses between two associations are shorter."""
    quiet_seconds_open: float = Field(default=20.0, ge=0)
    """The same while an association that carried it stays open, counted from its last object, seconds. Default 20."""
    quiet_seconds_broken: float = Field(default=15.0, ge=0)
    """The same after an association was aborted or lost, or while there are holes in its stack, seconds. Default 15:
    the sender may try again."""
    quiet_seconds_step: float = Field(default=120.0, ge=0)
    """The same while its modality is still at work (MPPS IN PROGRESS) or a workflow manager says that its input is not
    ready (UPS), and no later series comes; or while its headers state more images, where such numbers held, seconds.
    Default 120: scanners pause within a series."""
    incomplete_after_seconds: float = Field(default=600.0, gt=0)
    """A series of which the source has more goes on incomplete this long after its last object, s. Default 600."""


class ReconcileSection(Settings):
    """Looking after recent studies: what a peer with a query destination has and the node lacks."""

    every_minutes: float = Field(default=10.0, ge=0)
    """Time between two looks at a peer, minutes; 0 looks never. Default 10: a few questions cost a PACS little."""
    window_hours: float = Field(default=48.0, gt=0)
    """Studies whose date lies this far back are looked at, hours. Default 48: a node may be down over a week-end."""
    settle_minutes: float = Field(default=2.0, ge=0)
    """What lacks is fetched once nothing of it changed for this time, minutes. Default 2: it may be on its way."""
    modalities: tuple[str, ...] = ("CT", "MR", "PT", "CR", "DX", "MG", "US", "NM", "XA", "RF")
    """Modalities of the series that are looked after. Default images: reports and results are nothing to analyse."""
    studies_per_look: int = Field(default=200, ge=1)
    """Studies whose series are asked for in one look, number. Default 200, so that a look ends."""
    series_per_look: int = Field(default=20, ge=1)
    """Series that a peer is asked to send in one look, number. Default 20: readers come before us."""
    tries: int = Field(default=4, ge=1)
    """How often the same objects are asked for, number. Default 4, each time after twice the pause."""


class DestinationSection(Settings):
    """A PACS, viewer or archive that results are sent to."""

    ae_title: AETitle
    """Called AE title."""
    host: str = Field(min_length=1)
    """Host name or address."""
    port: Port
    """TCP port."""
    calling_ae_title: AETitle | None = None
    """AE title this node calls itself there. Default: node.ae_title."""
    timeout_seconds: float = Field(default=30.0, gt=0)
    """Longest wait for a connection or an answer, seconds. Default 30."""
    associations: int = Field(default=1, ge=1, le=32)
    """Associations at a time, where there are many objects. Default 1: many archives take few from one AE title."""
    tls: bool = False
    """Call it by TLS 1.2 or 1.3 (BCP 195 profile, PS3.15 B.9), showing tls.certificate. Default false: most PACS are
    called in the clear within the hospital."""
    tls_trusted: Path | None = None
    """PEM file with the authority of its certificate; relative to the configuration file. Default: tls.trusted, else
    what the operating system trusts."""
    profile: Literal["orthanc-ohif", "slicer", "weasis", "classic-pacs", "dcm4chee"] = "orthanc-ohif"
    """What is sent there: the objects that this kind of viewer was seen to show. Default orthanc-ohif, SR and SEG; a
    PACS without either takes classic-pacs (picture, page of PDF, SR). `dicom-node destinations probe` proposes one."""
    without: tuple[str, ...] = ()
    """Kinds of object of that profile that are not sent there, as the probe names them. Default none."""
    storage_commitment: bool = False
    """Ask for Storage Commitment after delivery (PS3.4 Annex J). Default false: not every PACS offers it."""
    commitment_hours: float = Field(default=24.0, gt=0)
    """How long to wait for the commitment report before the objects are asked for again, hours. Default 24."""


class TLSSection(Settings):
    """Encrypted associations: TLS 1.2 and 1.3 by the BCP 195 profile (PS3.15 B.9), each side showing a certificate."""

    port: Port | None = None
    """TCP port that speaks TLS. Default none: no TLS is spoken; 2762 is the registered port."""
    only: bool = False
    """Do not listen on node.port. Default false, as modalities change over one by one."""
    certificate: Path | None = None
    """PEM file with the node's certificate and chain; relative to the configuration file. Read again when it changes,
    so that a renewal needs no restart."""
    key: Path | None = None
    """PEM file with its private key, not encrypted, readable by the node alone. Default: it is in the file above."""
    trusted: Path | None = None
    """PEM file with the authorities whose certificates peers may show. Must be given to listen."""


class StowClientSection(Settings):
    """One sender that may store by STOW-RS; it must show all that is given of it here."""

    ae_title: AETitle
    """The AE title under which its objects are kept, as if it had sent them by C-STORE."""
    token_sha256: str = Field(default="", pattern="^([0-9a-fA-F]{64})?$")
    """SHA-256 of its bearer token, hexadecimal, so that the token itself is not in this file. Default none."""
    certificate_name: str = ""
    """Common or DNS name that its certificate bears. Default none: the token is its proof."""


class StowSection(Settings):
    """Receiving by STOW-RS (PS3.18 10.5): HTTP instead of DIMSE, the same guarantees."""

    port: Port | None = None
    """TCP port. Default none: nothing is received by HTTP."""
    clear: bool = False
    """Serve HTTP without TLS, as behind a proxy on this machine. Default false: tls.certificate and tls.trusted are
    used, since tokens and images must not be read on the way."""
    clients: tuple[StowClientSection, ...] = ()
    """Who may store. Default none: everybody is answered 401."""
    maximum_gb: float = Field(default=20.0, gt=0)
    """Longest request, GB. Default 20: a large study; nothing of it is held in memory."""
    maximum_requests: int = Field(default=16, ge=1, le=256)
    """Connections at a time. Default 16: each has a thread."""


class WorklistSection(Settings):
    """Raising urgent studies."""

    ups_destination: str | None = None
    """Name of the destination that takes Unified Procedure Steps (N-CREATE, PS3.4 Annex CC). Default none."""
    ups_from: Literal["ROUTINE", "HIGH", "STAT"] = "HIGH"
    """Least urgency for which a UPS is created. Default HIGH: a worklist in which everything is raised helps nobody."""
    research_may_raise: bool = False
    """Let a research package raise a study above its order. Default false: not for diagnosis, not for priority."""


class WorkersSection(Settings):
    """The processes that run the models."""

    count: int = Field(default=1, ge=0, le=64)
    """Worker processes started by this node. Default 1; 0 where workers run on other machines."""
    models: Path = Path("models")
    """Folder with model packages and weights; relative to the configuration file."""
    threads: int = Field(default=0, ge=0)
    """CPU threads per worker. Default 0: as many as the machine has, divided among the workers."""
    trusted_keys: Path | None = None
    """Folder of public keys (Ed25519, PEM) whose signatures on packages are believed; relative to the configuration
    file, and not below the models folder. Default none."""
    require_signature: bool = False
    """Refuse packages that no trusted key signed; shipped ones are part of the product. Default false: few makers sign
    today."""
    decoders: int = Field(default=1, ge=0, le=64)
    """Processes of each worker that decode compressed slices while others of their series still arrive, at low
    priority. Default 1, which keeps up with 30 slices of JPEG 2000 a second; 0: each run decodes for itself."""
    device: str = "auto"
    """Torch device: auto (default: a GPU if there is one), cpu, cuda, cuda:0 …"""


class SlotsSection(Settings):
    """The processes of a worker that models run in."""

    devices: tuple[TorchDevice, ...] = ()
    """Torch devices with a slot each, as ["cuda:0", "cuda:1"]; one may be named twice. Default none: each GPU, or slots
    on the processor where there is none."""
    number: int = Field(default=1, ge=1, le=64)
    """Slots on the processor where there is no GPU, number. Default 1: a run uses all cores; more suit small models."""
    memory_mb: int = Field(default=0, ge=0)
    """Memory of one slot, MB; one that takes more is killed. Default 0: 80 % of the machine's, divided among them."""


class LogSection(Settings):
    """What the node says while it runs. Patient data is never logged."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level that is written. Default INFO."""
    format: Literal["json", "text"] = "json"
    """json (default): one object a line, for a log collector. text: for eyes."""


class UpkeepSection(Settings):
    """What the clock does."""

    keep_days: float = Field(default=14.0, ge=0)
    """Received images and results are removed when their study was quiet this long, days; 0 keeps all.
    Default 14: the PACS is the archive. Days count while the node runs: of a time that it was off, or that its clock
    jumped over, a day counts at most (an eighth of keep_days where that is less)."""
    verify_hours: float = Field(default=24.0, gt=0)
    """How often the audit trail is re-computed, hours. Default 24."""


class NodeConfig(Settings):
    """Everything in ``node.toml``."""

    node: NodeSection = NodeSection()
    receive: ReceiveSection = ReceiveSection()
    reconcile: ReconcileSection = ReconcileSection()
    tls: TLSSection = TLSSection()
    stow: StowSection = StowSection()
    destinations: dict[str, DestinationSection] = {}
    worklist: WorklistSection = WorklistSection()
    workers: WorkersSection = WorkersSection()
    slots: SlotsSection = SlotsSection()
    log: LogSection = LogSection()
    upkeep: UpkeepSection = UpkeepSection()

    def database_url(self) -> str | None:
        """The database URL with its password, None for SQLite. Raises Misconfigured for an unreadable password file."""
        url, file = self.node.database, self.node.database_password_file
        if url is None or file is None:
            return url
        try:
            password = file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Misconfigured(f"node.database_password_file: {file} cannot be read: {error.strerror}") from error
        head, _, tail = url.partition("@")
        if not tail:
            raise Misconfigured("node.database: give a user name (postgresql://user@host/name) to go with the password")
        return f"{head}:{quote(password, safe='')}@{tail}"


def load(path: Path) -> NodeConfig:
    """Read ``node.toml``; folders become absolute, relative ones start at the file.

    Raises Misconfigured with every fault at once.
    """
    config = parse(NodeConfig, read_toml(path), source=str(path))
    base = path.resolve().parent
    node = config.node.model_copy(
        update={
            "data": base / config.node.data,
            "language": _language(base, config.node.language),
            "database_password_file": config.node.database_password_file and base / config.node.database_password_file,
        }
    )
    workers = config.workers.model_copy(
        update={"models": base / config.workers.models, **_under(base, config.workers, "trusted_keys")}
    )
    tls = config.tls.model_copy(update=_under(base, config.tls, "certificate", "key", "trusted"))
    destinations = {
        name: d.model_copy(update=_under(base, d, "tls_trusted")) for name, d in config.destinations.items()
    }
    config = config.model_copy(update={"node": node, "workers": workers, "tls": tls, "destinations": destinations})
    _check_references(config, path)
    return config


def _language(base: Path, name: str) -> str:
    """A shipped language by its name; any other is the path of a table."""
    return str(base / name) if name.endswith(".toml") else name


def own_titles(config: NodeConfig) -> tuple[str, ...]:
    """The AE titles that the node answers to, its own first."""
    return (config.node.ae_title, *config.node.further_titles)


def worker_settings(config: NodeConfig) -> dict[str, Any]:
    """What a worker process is told of the node's settings, by key in TOML; None for what is not set."""
    workers = config.workers
    return {
        "data": str(config.node.data),
        "database": config.database_url(),
        "models": str(workers.models),
        "threads": workers.threads or max((os.cpu_count() or 1) // max(workers.count, 1), 1),
        "device": workers.device,
        "decoders": workers.decoders,
        "trusted_keys": None if workers.trusted_keys is None else str(workers.trusted_keys),
        "require_signature": workers.require_signature,
        "slots.devices": list(config.slots.devices),
        "slots.processors": config.slots.number,
        "slots.memory_mb": config.slots.memory_mb,
        "log_level": config.log.level,
    }


def _under(base: Path, section: Settings, *names: str) -> dict[str, Path | None]:
    paths = {name: getattr(section, name) for name in names}
    return {name: path and base / path for name, path in paths.items()}


def _check_references(config: NodeConfig, path: Path) -> None:
    tls = config.tls
    if tls.port is not None and (tls.certificate is None or tls.trusted is None):
        raise Misconfigured(f"{path}:\n  tls.port: to listen by TLS give tls.certificate and tls.trusted, too")
    if config.stow.port is not None and not config.stow.clear and (tls.certificate is None or tls.trusted is None):
        raise Misconfigured(f"{path}:\n  stow.port: give tls.certificate and tls.trusted, or set stow.clear")
    if tls.only and tls.port is None:
        raise Misconfigured(f"{path}:\n  tls.only: the node would listen nowhere; give tls.port, too")
    if config.workers.require_signature and config.workers.trusted_keys is None:
        raise Misconfigured(
            f"{path}:\n  workers.require_signature: name the folder of trusted keys (trusted_keys), too"
        )
    if config.slots.devices and (config.workers.device != "auto" or config.slots.number > 1):
        raise Misconfigured(f"{path}:\n  slots.devices: where it is given, leave out slots.number and workers.device")
    named = [("worklist.ups_destination", config.worklist.ups_destination)]
    named += [(f"receive.peers ({peer.ae_title}), query", peer.query) for peer in config.receive.peers]
    for key, name in named:
        if name is not None and name not in config.destinations:
            known = ", ".join(config.destinations) or "none"
            raise Misconfigured(f"{path}:\n  {key}: no destination is named {name!r}; known: {known}")
    for peer in config.receive.peers:
        strange = sorted(set(peer.called_titles).difference(own_titles(config)))
        if strange:
            raise Misconfigured(
                f"{path}:\n  receive.peers: {peer.ae_title} may call {', '.join(strange)}, which is neither "
                "node.ae_title nor among node.further_titles"
            )
