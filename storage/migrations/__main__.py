"""``python -m storage.migrations``: bring the database to HEAD in a process of its own; standard input has its URL.

For processes whose memory is bounded: Alembic takes 11 MB that are never given back.
"""

from __future__ import annotations

import sys

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from storage.migrations import upgrade


def main() -> None:
    """Upgrade, then end."""
    url = sys.stdin.read().strip()
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    engine = create_engine(parsed)
    with engine.connect() as connection:
        upgrade(connection, url)
    engine.dispose()


if __name__ == "__main__":
    main()
