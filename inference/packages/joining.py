"""Gives a volume its further series, each on its grid, or what stands in for those that are missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference.imaging.align import onto, share_frame_of_reference
from inference.imaging.geometry import stack
from inference.imaging.irregular import COVERAGE_INCOMPLETE, INCOMPLETE, NOT_SUPPORTED, Irregular
from inference.imaging.planes import read_headers
from inference.imaging.volume import AIR_HU, Volume, assemble
from inference.packages.choosing import choose
from inference.packages.inputs import InputEntry
from inference.packages.manifest import Manifest
from storage.facts.figures import percent

_WHOLE = 0.995  #: a series that covers this part of the grid covers it


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A further series that a rule chose."""

    role: str
    series_uid: str
    revision: int
    paths: tuple[Path, ...]
    decoded: Path | None = None  #: the folder of pixels that were decoded ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A volume with its further series, and what is to be said of them."""

    volume: Volume
    warnings: tuple[str, ...] = ()  #: for the reader
    parameters: tuple[tuple[str, str], ...] = ()  #: which series it were, for the report


def join(
    manifest: Manifest,
    volume: Volume,
    given: Sequence[Input],
    missing: Mapping[str, str],
    checkpoint: Callable[[], None],
) -> Joined:
    """The volume with every input that the manifest names.

    Raises Irregular, naming the role, where one is missing or unfit and may not be imputed.
    """
    others: dict[str, npt.NDArray[np.float32]] = {}
    warnings: list[str] = []
    parameters: list[tuple[str, str]] = []
    by_role = {each.role: each for each in given}
    for entry in manifest.inputs:
        found = by_role.get(entry.role)
        why, remark = missing.get(entry.role, "no rule names a series for it"), ""
        if found is not None:
            try:
                others[entry.role], remark = _aligned(manifest, entry, volume, found, checkpoint)
            except _Unfit as unfit:
                why = unfit.reason.text
        if entry.role in others and found is not None:
            parameters.append((f"Input {entry.role}", f"Series {found.series_uid}, revision {found.revision}"))
            warnings += [remark] if remark else []
            continue
        others[entry.role] = _imputed(manifest, entry, volume, why)
        parameters.append((f"Input {entry.role}", f"missing, imputed: {entry.impute}"))
        warnings.append(f"The input {entry.role} is missing ({why.rstrip('.')}); {_stand_in(entry)} took its place.")
    unknown = sorted(set(by_role) - {entry.role for entry in manifest.inputs})
    warnings += [f"The rule gave an input {role}, which this model does not take: it was not used." for role in unknown]
    return Joined(
        volume=dataclasses.replace(volume, others=others), warnings=tuple(warnings), parameters=tuple(parameters)
    )


class _Unfit(Irregular):
    """The series is there, but cannot be used: it counts as missing."""


def _aligned(
    manifest: Manifest, entry: InputEntry, volume: Volume, given: Input, checkpoint: Callable[[], None]
) -> tuple[npt.NDArray[np.float32], str]:
    """The series on the volume's grid, and a remark for the reader; its header is judged before its pixels."""
    series = _loaded(manifest, entry, given)
    if entry.frame_of_reference == "same" and not share_frame_of_reference(volume, series):
        raise Irregular(
            NOT_SUPPORTED,
            f"The input {entry.role} has another frame of reference than the series, or one of them states none: they "
            f"cannot be laid over each other without registration. ({manifest.id} {manifest.version})",
        )
    fill = AIR_HU if series.header.get("Modality") == "CT" else 0
    aligned = onto(volume, series, fill, checkpoint)
    if aligned.covered < entry.overlap:
        raise _Unfit(
            COVERAGE_INCOMPLETE,
            f"it covers {percent(aligned.covered, entry.overlap)}% of the series, and "
            f"{percent(entry.overlap)}% are needed",
        )
    remark = f"The input {entry.role} covers only {percent(aligned.covered, _WHOLE)}% of the series."
    return aligned.voxels, "" if aligned.covered >= _WHOLE else remark


def _loaded(manifest: Manifest, entry: InputEntry, given: Input) -> Volume:
    try:
        headers = read_headers(given.paths, given.decoded)
        if entry.accepts is None:
            return assemble(headers.representative, stack(headers.planes()), given.decoded)
        chosen = choose(manifest.model_copy(update={"accepts": entry.accepts}), headers)
        return assemble(chosen.header, chosen.stack, given.decoded)
    except Irregular as error:
        raise _Unfit(error.reason.code, error.reason.text) from error


def _imputed(manifest: Manifest, entry: InputEntry, volume: Volume, why: str) -> npt.NDArray[np.float32]:
    if entry.missing == "refuse":
        raise Irregular(
            INCOMPLETE,
            f"The input {entry.role} is missing: {why.rstrip('.')}. This model is not run without it. "
            f"({manifest.id} {manifest.version})",
        )
    return np.full(volume.voxels.shape, entry.stand_in, np.float32)


def _stand_in(entry: InputEntry) -> str:
    return "zeros" if entry.impute == "zeros" else f"the mean of the training data ({entry.stand_in:g})"
