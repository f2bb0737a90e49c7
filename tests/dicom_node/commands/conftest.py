"""A node.toml, and the command line on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dicom_node.cli import cli
from storage.ledger import Ledger

NODE_TOML = """
[node]
data = "data"
port = 0
bind = "127.0.0.1"
[[receive.peers]]
ae_title = "PACS"
[destinations.pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = 1
timeout_seconds = 2
"""

Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A valid configuration file."""
    path = tmp_path / "node.toml"
    path.write_text(NODE_TOML, encoding="utf-8")
    return path


@pytest.fixture
def run(config: Path) -> Run:
    """Run a command on that configuration."""

    def run_it(*arguments: str, path: Path = config) -> Result:
        return CliRunner().invoke(cli, [*arguments, "-c", str(path)])

    return run_it


@pytest.fixture
def node_ledger(config: Path) -> Iterator[Ledger]:
    """The ledger that the configuration points to."""
    made = Ledger(config.parent / "data")
    yield made
    made.close()
