"""Looks at the slots that a configuration asks for: are the devices there, and is there memory for all of them?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from inference.config import WorkerConfig
from inference.executors import vitals
from inference.executors.device import open_device
from inference.executors.pool import MACHINE_PART, devices_of
from storage.facts.errors import NodeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One slot as it would be."""

    device: str
    name: str = ""  #: what the device calls itself
    memory: int = 0  #: bytes that it may fill
    fault: str = ""  #: why it cannot work; empty where it can


def slots(config: WorkerConfig) -> Iterator[Slot]:
    """Every slot, opened and tried once. Raises Misconfigured where settings contradict each other."""
    devices = devices_of(config)
    machine = vitals.machine_bytes()
    limit = config.slots.memory_mb * 2**20 or int(machine * MACHINE_PART / len(devices))
    for device in devices:
        try:
            opened = open_device(device, limit)
            opened.probe()
            memory = min(opened.total(), limit) if device == "cpu" else opened.total()
            yield Slot(device=device, name="" if opened.kind == device else opened.kind, memory=memory)
        except NodeError as error:
            yield Slot(device=device, fault=f"slots.devices: {error}")
    if config.slots.memory_mb and limit * len(devices) > machine:
        fault = (
            f"slots.memory_mb: {len(devices)} slots of {config.slots.memory_mb} MB are more than this machine's "
            f"{machine >> 20} MB: at most {int(machine * MACHINE_PART) // len(devices) >> 20} leave room for receiving"
        )
        yield Slot(device="", fault=fault)
