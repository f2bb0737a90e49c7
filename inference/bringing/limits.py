"""Keeps the process that tries out a new package small: it may fail, hang or eat memory, and nothing else suffers."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from storage.facts.errors import Misconfigured

_LARGEST_FILE = 8 * 2**30
_SHARE = 0.8  #: of the machine's memory


def confine(seconds: float) -> None:
    """Bound this process for good: CPU time, memory, files, no core dump. Call it before anything else is loaded.

    Memory on a GPU is not bounded by it.
    """
    cores = os.cpu_count() or 1
    memory = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * _SHARE)
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, int(seconds * cores) + 1),
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE),
    ):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def run_apart(arguments: Sequence[str], result: Path, seconds: float) -> Mapping[str, Any]:
    """``python -m inference models ARGUMENTS`` in a session of its own; what it wrote as JSON into ``result``.

    Raises Misconfigured with its last words when it failed, or how it ended.
    """
    command = [sys.executable, "-m", "inference", "models", *arguments, "--result", str(result)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Misconfigured(
            f"the package did not finish within {seconds:g} s (its deadline_seconds): it hangs, or is too slow for "
            "this machine"
        ) from None
    finally:
        _end(process)
    if process.returncode == 0 and result.is_file():
        document: Mapping[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return document
    raise Misconfigured(_how_it_ended(process.returncode, said.decode(errors="replace")))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever is left of it and of what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _how_it_ended(code: int, said: str) -> str:
    lines = [line for line in said.strip().splitlines() if line.strip()]
    if code == -signal.SIGXCPU:
        return "the package took more processor time than it may: it hangs, or is too slow for this machine"
    if code < 0:
        name = signal.Signals(-code).name
        return (
            f"the process that tried the package out was ended by {name}: too little memory, or a fault in its weights"
        )
    return "\n".join(lines[-12:]) or f"the process that tried the package out ended with code {code} and said nothing"
