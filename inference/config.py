"""Every setting of a worker process: frozen, validated, each with its unit, its default and why."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from storage.settings import Settings, parse, read_toml


class WorkerConfig(Settings):
    """A worker: where the ledger is, where the models are, what it may use."""

    data: Path
    """Data folder of the node; on another machine the same folder, shared."""
    database: str | None = None
    """SQLAlchemy URL. Default none: SQLite in the data folder."""
    models: Path
    """Folder with model packages and weights."""
    threads: int = Field(default=0, ge=0)
    """CPU threads for torch. Default 0: as many as the machine has."""
    device: str = "auto"
    """Torch device: auto (default: a GPU if there is one), cpu, cuda, cuda:0 …"""
    log_level: str = "INFO"
    """Least level that is logged. Default INFO."""


def load(path: Path) -> WorkerConfig:
    """Read a worker's TOML file; relative folders start at the file. Raises Misconfigured with every fault at once."""
    config = parse(WorkerConfig, read_toml(path), source=str(path))
    base = path.resolve().parent
    return config.model_copy(update={"data": base / config.data, "models": base / config.models})
