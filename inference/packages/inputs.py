"""The ``[[inputs]]`` tables of ``model.toml``: series that a model is given beside the one that the run is of."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from inference.packages.accepts import Accepts
from inference.packages.coded import Key
from storage.settings import Settings


class InputEntry(Settings):
    """One further series. It is brought to the grid of the first one by patient coordinates."""

    role: Key
    """What rules and the algorithm call it, e.g. ``flair`` or ``prior``."""
    missing: Literal["refuse", "impute"] = "refuse"
    """What becomes of a run without it, or with one that cannot be used. Default: it is refused, naming the role."""
    impute: Literal["zeros", "mean"] = "zeros"
    """What stands in for it: zeros, or the mean that the package states. Default zeros."""
    mean: float | None = None
    """For ``impute = "mean"``: the mean of the training data, in the unit of the rescaled pixels."""
    frame_of_reference: Literal["same", "any"] = "same"
    """Whether its FrameOfReferenceUID must be that of the first series. Default: it must. A prior's differs."""
    overlap: float = Field(default=0.5, gt=0, le=1)
    """Least part of the first series' voxels that it must cover. Default 0.5."""
    accepts: Accepts | None = None
    """What it must be. Default: whatever the rule gives."""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.impute == "mean") != (self.mean is not None):
            raise ValueError('mean is stated where impute = "mean", and only there')
        if self.impute == "mean" and self.missing == "refuse":
            raise ValueError('impute means something only where missing = "impute"')
        return self

    @property
    def stand_in(self) -> float:
        """The value that takes its place."""
        return 0.0 if self.mean is None else self.mean


def _roles_differ(entries: tuple[InputEntry, ...]) -> tuple[InputEntry, ...]:
    roles = [entry.role for entry in entries]
    if len(set(roles)) < len(roles):
        raise ValueError("roles must differ")
    return entries


Inputs = Annotated[tuple[InputEntry, ...], AfterValidator(_roles_differ)]
