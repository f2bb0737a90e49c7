"""Every setting of a worker process: frozen, validated, each with its unit, its default and why."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from storage.facts.errors import Misconfigured
from storage.settings import Settings, parse, read_toml


class SlotsSection(Settings):
    """The processes that models run in, and who goes first."""

    devices: tuple[str, ...] = ()
    """Devices with a slot each, as ["cuda:0", "cuda:1"]; one may be named twice. Default none: ``device`` decides."""
    processors: int = Field(default=1, ge=1)
    """Slots on the CPU where there is no GPU. Default 1: torch uses all cores for one run; more serve small models."""
    memory_mb: int = Field(default=0, ge=0)
    """Memory of one slot process, MB; one that takes more is killed. Default 0: 80 % of the machine's, divided."""
    ageing_seconds: float = Field(default=900.0, ge=0)
    """How many seconds of waiting HIGH is worth. Default 900: a routine run waits a quarter of an hour at most longer
    than the urgent ones that came after it, which is soon for a routine reading. STAT is always first."""
    warm_seconds: float = Field(default=60.0, ge=0)
    """By how much a run may overtake an older one because its model is loaded, seconds. Default 60: a model of some GB
    takes several seconds to load."""
    worth_seconds: float = Field(default=30.0, ge=0)
    """What a HIGH run must gain for a routine one to be stopped, seconds; never past half its time. Default 30."""
    give_way_seconds: float = Field(default=15.0, gt=0)
    """A run that was told to give way to a STAT and reaches no checkpoint is stopped with its process after so long,
    seconds. Default 15: longer than a patch takes."""
    stall_seconds: float = Field(default=120.0, gt=0)
    """A run is killed that passed checkpoints and passes no more, or that does nothing at all, for so long, seconds.
    Default 120: loading a large model from a slow disk takes less."""
    grace_seconds: float = Field(default=3.0, ge=0)
    """What a run may still take when the worker stops, seconds. Default 3: the node waits 10 for all its children."""
    patience: int = Field(default=3, ge=1)
    """Failures one after another, of different packages or at its start, after which a device is out of service."""
    probe_seconds: float = Field(default=60.0, gt=0)
    """After so long a device that is out of service is tried again, seconds. Default 60."""


class PackageSection(Settings):
    """What holds for one package at this site."""

    pinned: bool = False
    """Keep its models loaded. Default false: the least recently used go first."""
    processor: bool = True
    """Run it on the CPU where a GPU has too little memory for it. Default true: late is better than never."""
    devices: tuple[str, ...] = ()
    """Run it on these devices alone. Default none: on any."""


class WorkerConfig(Settings):
    """A worker: where the ledger is, where the models are, what it may use."""

    data: Path
    """Data folder of the node; on another machine the same folder, shared."""
    database: str | None = None
    """SQLAlchemy URL. Default none: SQLite in the data folder."""
    models: Path
    """Folder with model packages and weights."""
    threads: int = Field(default=0, ge=0)
    """CPU threads for torch, divided among the slots. Default 0: as many as the machine has."""
    decoders: int = Field(default=1, ge=0, le=64)
    """Processes that decode compressed slices while others of their series still arrive. Default 1; 0: none."""
    device: str = "auto"
    """Torch device: auto (default: a slot on each GPU if there is one, else on the CPU), cpu, cuda, cuda:0 …"""
    slots: SlotsSection = SlotsSection()
    """The processes that models run in. Default: one a GPU, else one on the CPU."""
    packages: dict[str, PackageSection] = {}
    """By package identifier."""
    trusted_keys: Path | None = None
    """Folder of public keys (Ed25519, PEM) whose signatures on packages are believed. Default none."""
    require_signature: bool = False
    """Refuse packages of the models folder that no trusted key signed. Default false: few are signed today."""
    log_level: str = "INFO"
    """Least level that is logged. Default INFO."""

    @property
    def required_keys(self) -> Path | None:
        """Folder of the keys, one of which must have signed each package; None where none need be signed.

        Raises Misconfigured when signatures are required and no keys are named.
        """
        if self.require_signature and self.trusted_keys is None:
            raise Misconfigured("require_signature: name the folder of trusted keys (trusted_keys), too")
        return self.trusted_keys if self.require_signature else None


def load(path: Path) -> WorkerConfig:
    """Read a worker's TOML file; relative folders start at the file. Raises Misconfigured with every fault at once."""
    config = parse(WorkerConfig, read_toml(path), source=str(path))
    base = path.resolve().parent
    places = {"data": base / config.data, "models": base / config.models}
    return config.model_copy(update={**places, "trusted_keys": config.trusted_keys and base / config.trusted_keys})
