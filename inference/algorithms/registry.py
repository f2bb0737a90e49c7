"""Finds an algorithm by the name that a package's manifest gives, and loads its code only then.

Algorithms are imported when first asked for: torch takes seconds to load, and not every package needs it.
"""

from __future__ import annotations

from importlib import import_module

from inference.algorithms.raw import Algorithm, Raw
from storage.facts.errors import Misconfigured

__all__ = ["ALGORITHMS", "Algorithm", "Raw", "find"]

#: Name in ``model.toml`` to module and function.
ALGORITHMS: dict[str, tuple[str, str]] = {
    "brain-extraction": ("inference.algorithms.brain", "extract"),
    "lung-densitometry": ("inference.algorithms.lung_adaptor", "densitometry"),
    "network": ("inference.algorithms.network", "run"),
    "phantom-nodule": ("inference.algorithms.nodules", "find_nodules"),
}


def find(name: str) -> Algorithm:
    """The algorithm of that name. Raises Misconfigured when there is none, or what it needs is not installed."""
    try:
        module, function = ALGORITHMS[name]
    except KeyError:
        raise Misconfigured(f"there is no algorithm {name!r} (there: {', '.join(sorted(ALGORITHMS))})") from None
    try:
        algorithm: Algorithm = getattr(import_module(module), function)
    except ImportError as error:
        raise Misconfigured(f"algorithm {name} needs {error.name}: install the worker's dependencies") from error
    return algorithm
