"""What the kernel says of a process: its memory, its work; and how much memory there is (Linux; elsewhere nothing)."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import select
import signal
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
_F_SETOWN, _O_ASYNC = fcntl.F_SETOWN, getattr(os, "O_ASYNC", 0)


def resident_bytes(pid: int) -> int:
    """Memory that a process holds now, bytes; 0 where the kernel does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used; 0 where the kernel does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    except (OSError, IndexError, ValueError):
        return 0.0


def exists(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def peak_bytes() -> int:
    """The most memory that this process held since ``forget_peak``, bytes; 0 where the kernel does not say."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def forget_peak() -> None:
    """Begin to measure the peak anew."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        pass


def machine_bytes() -> int:
    """Memory of this machine, or of the container that it is seen from, bytes."""
    total = os.sysconf("SC_PHYS_PAGES") * PAGE
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no limit reads "max"
        return total


def give_back_memory() -> None:
    """Return what was freed to the kernel: the allocator keeps it otherwise, and it would count as used."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone
    if trim is not None:
        trim(0)


def die_with(descriptor: int) -> None:
    """Let the kernel end this process when the other end of a pipe is closed, even inside of foreign code.

    A thread that reads could not run while foreign code holds the interpreter. SIGIO ends a process by default.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(descriptor, _F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | _O_ASYNC)
    if select.select([descriptor], [], [], 0)[0]:  # closed before the kernel was asked to tell
        os._exit(1)


def offer_to_the_killer() -> None:
    """When the machine runs out of memory, the kernel should take this process and not the one that receives."""
    try:
        Path("/proc/self/oom_score_adj").write_text("800", encoding="ascii")
    except OSError:
        pass
