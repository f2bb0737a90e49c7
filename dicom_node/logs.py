"""Structured logs for an administrator: UIDs, AE titles, task numbers; never a patient's data."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Literal


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "process": record.process,
            "from": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            # Only where it happened: the text of a foreign exception may quote a data set.
            kind, _, trace = record.exc_info
            entry["exception"] = kind.__name__ if kind else ""
            entry["trace"] = _places(trace)
        return json.dumps(entry, ensure_ascii=False)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{at} {record.levelname:<7} {record.name}: {record.getMessage()}"
        if record.exc_info:
            kind, _, trace = record.exc_info
            text += f" [{kind.__name__ if kind else ''} at {' < '.join(reversed(_places(trace)[-4:]))}]"
        return text


def _places(trace: object) -> list[str]:
    places: list[str] = []
    while trace is not None:
        frame, line = trace.tb_frame, trace.tb_lineno  # type: ignore[attr-defined]
        places.append(f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}")
        trace = trace.tb_next  # type: ignore[attr-defined]
    return places


def begin(level: str, form: Literal["json", "text"]) -> None:
    """Write logs to standard error. The libraries' own are kept quiet: they print data sets."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("pynetdicom", "apscheduler", "alembic", "highdicom", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # pydicom and pynetdicom quote element values and exceptions in their messages.
    for name in ("pydicom", "pynetdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
