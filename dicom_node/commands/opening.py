"""What every command begins with: the configuration and the ledger."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.config import NodeConfig, load
from storage.facts.errors import Misconfigured

if TYPE_CHECKING:
    from storage.ledger import Ledger


def read_config(path: Path) -> NodeConfig:
    """The configuration, or how to get one. Raises Misconfigured."""
    if not path.exists():
        raise Misconfigured(
            f"{path}: there is no such file. Give one with -c FILE; `dicom-node config show > node.toml` writes one "
            "with every setting at its default"
        )
    return load(path)


@contextmanager
def open_ledger(path: Path, *, create: bool = False) -> Iterator[Ledger]:
    """The node's ledger. Raises Misconfigured when there is none yet, unless it may be created."""
    from storage.ledger import Ledger  # SQLAlchemy: `serve` comes through here too, and has no use for it

    config = read_config(path)
    if not create and config.node.database is None and not (config.node.data / "ledger.db").exists():
        raise Misconfigured(f"{config.node.data} holds no ledger yet: start the node once (dicom-node serve -c {path})")
    with usable(config.node.data):
        ledger = Ledger(config.node.data, config.database_url())
    try:
        yield ledger
    finally:
        ledger.close()


@contextmanager
def usable(data: Path) -> Iterator[None]:
    """For what opens the data folder: that it may not says whose it is. Raises Misconfigured for an OSError."""
    try:
        yield
    except OSError as error:
        what = error.filename or data
        raise Misconfigured(f"{what} cannot be used: {error.strerror or type(error).__name__}{_owned(data)}") from error


def _owned(data: Path) -> str:
    """What to do where another user owns the folder, or the nearest one above it that exists."""
    there = next(folder for folder in (data.absolute(), *data.absolute().parents) if folder.exists())
    owner = there.stat().st_uid
    if owner == os.getuid() and os.access(there, os.W_OK | os.X_OK):
        return ""
    return f". {there} belongs to {_user(owner)}: give the command as the node's user, or let that user own the folder"


def operator() -> str:
    """Who gives the command, for the audit trail: by user ID, which no environment variable changes."""
    return f"operator {_user(os.getuid())}"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid {number}"
