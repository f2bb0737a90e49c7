"""What is made of a prediction, and when."""

from __future__ import annotations

from dataclasses import dataclass

from storage.facts.prediction import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A prediction with the time it was made: re-making its objects gives the same bytes."""

    prediction: Prediction
    made_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultObject:
    """A DICOM object made of a prediction, kept as a blob until every destination has it."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    series_uid: str
    study_uid: str
    prediction_key: str
    kind: str  #: sr, seg, ...
    description: str  #: its SeriesDescription
    blob: str
    size: int  #: bytes
