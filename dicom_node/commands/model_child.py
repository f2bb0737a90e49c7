"""Has a worker process do what needs torch or the models folder: this wing must not load either."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from dicom_node.config import NodeConfig, worker_settings
from storage.exits import TEMPORARY
from storage.facts.errors import Misconfigured, Transient

_LAST_LINES = 40


def ask_worker(config: NodeConfig, command: str, *arguments: str, quiet: bool = False) -> dict[str, Any]:
    """``python -m inference models COMMAND``; shows what it prints, unless quiet, and returns what it found.

    Raises Transient or Misconfigured with its own words when it failed.
    """
    with settings_of(config) as (settings, result):
        line = [sys.executable, "-m", "inference", "models", command, "-c", str(settings), "--result", str(result)]
        with (result.parent / "errors").open("w+", encoding="utf-8", errors="replace") as errors:
            process = subprocess.Popen(
                [*line, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
            )
            try:
                said = _shown(process, errors, quiet)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if process.returncode in (0, 1) and result.exists():
            document: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
            return document
    fault = "\n".join(said) or f"the worker process ended with code {process.returncode} and said nothing"
    raise Transient(fault) if process.returncode == TEMPORARY else Misconfigured(fault)


def _shown(process: subprocess.Popen[str], errors: IO[str], quiet: bool) -> Sequence[str]:
    """Its output as it comes; the end of its error output when it is over."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if not quiet:
                click.echo(line, nl=False)
    process.wait()
    errors.seek(0)
    return [line.rstrip() for line in errors if line.strip()][-_LAST_LINES:]


@contextmanager
def settings_of(config: NodeConfig) -> Iterator[tuple[Path, Path]]:
    """A file with the worker's settings, for this user alone (it may hold a password), and a place for its answer."""
    run = config.node.data / "run"
    run.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="models-", dir=run) as folder:
        path = Path(folder, "worker.toml")
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        values = {key: value for key, value in worker_settings(config).items() if value is not None}
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            # A JSON string, number or truth value is also a TOML one.
            file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        yield path, Path(folder, "result.json")
