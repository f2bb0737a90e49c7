from __future__ import annotations
from pydicom.dataset import Dataset
def faults(dataset: Dataset) -> list[str]:
    return []
