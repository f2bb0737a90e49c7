"""What is wrong with a configuration though each of its values is of its kind: what only the stages would find."""

from __future__ import annotations

from collections.abc import Iterator

from dicom_node.config import NodeConfig
from dicom_node.results import profiles
from dicom_node.results.language import language
from storage.facts.errors import Misconfigured


def faults(config: NodeConfig) -> Iterator[str]:
    """Each fault, with its key."""
    try:
        language(config.node.language)
    except Misconfigured as error:
        yield str(error)
    for name, section in config.destinations.items():
        try:
            profiles.of(section)
        except Misconfigured as error:
            yield f"destinations.{name}.{error}"
