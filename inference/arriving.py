"""What the ledger knows of series that a run may be asked for soon."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pydicom

from inference.imaging.border import reading
from inference.imaging.irregular import Irregular
from inference.packages.gates import refuse
from inference.packages.manifest import Manifest
from inference.packages.package import Package
from storage import workers
from storage.facts.errors import Transient
from storage.ledger import Ledger

Packages = Mapping[tuple[str, str], Package]


class LedgerArrivals:
    """See executors.ahead.Arrivals. ``packages``: those that a run may be asked of, which may become more."""

    def __init__(self, ledger: Ledger, packages: Packages) -> None:
        self._ledger, self._packages = ledger, packages

    def news(self, since: int | None) -> tuple[int, Collection[str]]:
        """See executors.ahead.Arrivals."""
        with self._ledger.read() as session:
            return workers.news(session, since)

    def awaited(self) -> Collection[str]:
        """Series that still arrive, are routed, or have a run that has not ended."""
        with self._ledger.read() as session:
            return workers.awaited_series(session)

    def suits(self, series: str) -> bool | None:
        """Whether its first object is compressed, and its header keeps not every package from taking it.

        None where no object is here.
        """
        with self._ledger.read() as session:
            first = [path for paths in workers.files_of(session, [series], most=1).values() for path in paths]
        if not first:
            return None
        path = Path(self._ledger.data, first[0])
        try:
            with reading(path, "the header"):
                header = pydicom.dcmread(path, stop_before_pixels=True)
                compressed = bool(header.file_meta.TransferSyntaxUID.is_compressed)
        except Irregular:
            return False
        except Transient:  # it is gone, or cannot be read now
            return None
        return compressed and any(_takes(package.manifest, header) for package in tuple(self._packages.values()))

    def files(self, series: Collection[str]) -> Mapping[str, Sequence[Path]]:
        """The objects that are here of each series, in the order of their arrival."""
        if not series:
            return {}
        with self._ledger.read() as session:
            found = workers.files_of(session, series)
        return {uid: [Path(self._ledger.data, path) for path in paths] for uid, paths in found.items()}


def _takes(manifest: Manifest, header: pydicom.Dataset) -> bool:
    """Whether it may, as the series of the run or as a further one."""
    others = [entry.accepts for entry in manifest.inputs if entry.accepts is not None]
    return any(
        refuse(manifest.model_copy(update={"accepts": accepts}), header, None) is None
        for accepts in (manifest.accepts, *others)
    )
