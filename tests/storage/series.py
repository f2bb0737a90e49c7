"""Complete series in a ledger, without files."""

from __future__ import annotations

import time
from typing import Any

from storage.facts.arrival import Arrival
from storage.facts.study import Instance
from storage.ledger import Transaction

CT = "1.2.840.10008.5.1.4.1.1.2"


def arrive(
    tx: Transaction, series: str, study: str, header: dict[str, Any] | None = None, *, count: int = 1, at: float = 0.0
) -> None:
    """Record a series of ``count`` parallel slices, 1 mm apart, and close it."""
    given = {"Modality": "CT", "SOPClassUID": CT} | (header or {})
    slices = [
        given
        | {"ImagePositionPatient": [0.0, 0.0, float(n)], "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]}
        for n in range(count)
    ]
    tx.studies.record([_arrival(f"{series}.{n}", series, study, each, at) for n, each in enumerate(slices)])
    tx.studies.complete(series, given)


def _arrival(uid: str, series: str, study: str, header: dict[str, Any], at: float) -> Arrival:
    instance = Instance(
        sop_instance_uid=uid,
        sop_class_uid=CT,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        series_uid=series,
        study_uid=study,
        path=f"instances/{uid}.dcm",
        size=1,
        digest="00",
        header=header,
    )
    return Arrival(
        instance=instance, association=None, calling_ae="CT1", called_ae="NODE", received_at=at or time.time()
    )
