"""Derived facts as the ledger keeps them: rules can be asked again about a series whose files are gone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dicom_node.route import contrast, evidence, facts, geometry, provenance, reading
from dicom_node.route.evidence import Derived
from dicom_node.route.facts import SeriesFacts, facts_of
from dicom_node.route.provenance import NodeIdentity
from storage.facts.routing import RecordedSeries
from storage.facts.study import Instance, Series

#: Where facts come from: a change in any of them makes the facts that are kept old.
_SOURCES = (contrast, evidence, facts, geometry, provenance, reading)


@cache
def derivation(node: NodeIdentity) -> str:
    """Which way of deriving this is: the code that does it, and how the node knows its own results."""
    told = [sorted(node.model_names), sorted(node.ae_titles), sorted(node.uid_roots)]
    digest = hashlib.sha256(repr(told).encode())
    for module in _SOURCES:
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:16]


def plain(known: SeriesFacts) -> dict[str, Any]:
    """The derived facts for ``storage``: name to value and evidence."""
    return {name: [fact.value, fact.evidence] for name, fact in known.derived.items()}


class _Kept(Mapping[str, Derived]):
    """Facts as they were kept, each made when it is asked for: most are not. What has another shape is not there."""

    def __init__(self, kept: Mapping[str, Any]) -> None:
        self._kept = kept

    def __getitem__(self, name: str) -> Derived:
        match self._kept[name]:
            case [value, str(evidence)]:
                return Derived(value=value, evidence=evidence)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


class _KeptFacts(SeriesFacts):
    """Facts whose values are asked for far more often than the evidence for them."""

    def __init__(self, recorded: RecordedSeries) -> None:
        super().__init__(recorded.header, _Kept(recorded.facts))
        self._plain = recorded.facts

    def known(self, name: str) -> Any:
        """See SeriesFacts."""
        pair = self._plain.get(name)
        return pair[0] if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], str) else None


def facts_from(recorded: RecordedSeries) -> SeriesFacts:
    """The facts of a recorded series as they were kept. Never raises: what has another shape is missing."""
    return _KeptFacts(recorded)


def derive_again(series: Series, instances: Sequence[Instance], node: NodeIdentity) -> SeriesFacts:
    """The facts of a stored series from its slices, by the present derivation."""
    return facts_of(series, [instance.header for instance in instances], node)
