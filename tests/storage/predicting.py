"""Predictions without anything but a mask, for a ledger."""

from __future__ import annotations

from storage.facts.prediction import Algorithm, Code, Frame, Mask, Prediction, Status

CT = "1.2.840.10008.5.1.4.1.1.2"


def prediction_of(study: str, blob: str = "") -> Prediction:
    """What a run on the study said, with a mask if one is given."""
    algorithm = Algorithm(
        package="p", version="1", name="P", manufacturer="M", digest="ab" * 32,
        family=Code(value="123110", scheme="DCM", meaning="Artificial Intelligence"),
    )  # fmt: skip
    frame = Frame(sop_instance_uid=f"{study}.1.1", sop_class_uid=CT)
    return Prediction(
        key=f"{study}.1/1/p@1", study_uid=study, series_uid=f"{study}.1", revision=1, algorithm=algorithm,
        status=Status.SUCCEEDED, mask=Mask(blob=blob, shape=(1, 2, 2), frames=(frame,)) if blob else None,
    )  # fmt: skip
