"""Finds the stack of a series that a model is meant to see, where the series holds several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from inference.imaging.geometry import Geometry, Stack
from inference.imaging.header import texts
from inference.imaging.irregular import INCORRECTLY_FORMATTED, Irregular
from inference.imaging.parts import Part, split
from inference.imaging.planes import Headers
from inference.packages.accepts import Range, Volumes
from inference.packages.evidence import matching
from inference.packages.gates import refuse
from inference.packages.manifest import Manifest

NAMED = 4  #: parts that a sentence lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a run sees."""

    stack: Stack
    header: Dataset  #: that speaks for it
    warnings: tuple[str, ...] = ()  #: for the reader: what else the series holds


def choose(manifest: Manifest, headers: Headers) -> Chosen:
    """The stack of a series that the package takes.

    Raises Irregular, with the reason of the largest part where none is taken, and naming what tells them apart where
    several are. A plain series is judged by its header first, whose reasons are the plainer ones.
    """
    try:
        parts = split(headers)
    except Irregular:
        _require(manifest, headers.representative)
        raise
    if len(parts) == 1:
        return Chosen(stack=_taken(manifest, headers.representative, parts[0]), header=headers.representative)
    return _one_of(manifest, headers, parts)


def _one_of(manifest: Manifest, headers: Headers, parts: Sequence[Part]) -> Chosen:
    fitting: list[tuple[Part, Chosen]] = []
    refusals: list[tuple[int, Irregular]] = []
    for part in parts:
        header = headers.of(part.planes)
        try:
            series = _taken(manifest, header, part)
            series.check()
        except Irregular as error:
            refusals.append((len(part.planes), error))
        else:
            fitting.append((part, Chosen(stack=series, header=header)))
    if not fitting:
        largest = max(refusals, key=lambda one: one[0])[1]
        text = f"{largest.reason.text} None of the {len(parts)} parts of the series is taken: {_listed(parts)}."
        raise Irregular(largest.reason.code, text)
    left = list(_wanted(manifest.accepts.volumes, fitting))
    if len(left) != 1:
        raise Irregular(INCORRECTLY_FORMATTED, _ambiguous(manifest, [part for part, _ in left or fitting], bool(left)))
    part, chosen = left[0]
    others = [other for other in parts if other is not part]
    warning = f"Of the series, {part.text()} were analysed, and not {_listed(others)}."
    return Chosen(stack=chosen.stack, header=chosen.header, warnings=(warning,))


def _taken(manifest: Manifest, header: Dataset, part: Part) -> Stack:
    _require(manifest, header)
    series = part.stack()
    _require(manifest, header, series.geometry)
    return series


def _require(manifest: Manifest, header: Dataset, geometry: Geometry | None = None) -> None:
    reason = refuse(manifest, header, geometry)
    if reason is not None:
        raise Irregular(reason.code, reason.text)


def _wanted(wanted: Volumes | None, fitting: Sequence[tuple[Part, Chosen]]) -> Iterator[tuple[Part, Chosen]]:
    """Those that the package means, in their order."""
    if wanted is None:
        yield from fitting
        return
    left = [one for one in fitting if _is_meant(wanted, *one)]
    if wanted.of_several == "refuse" or not left:
        yield from left
    else:
        yield left[0] if wanted.of_several == "first" else left[-1]


def _is_meant(wanted: Volumes, part: Part, chosen: Chosen) -> bool:
    types = [value.upper() for value in texts(chosen.header, "ImageType")]
    if matching(types, wanted.image_type.refuse):
        return False
    if wanted.image_type.accept and not matching(types, wanted.image_type.accept):
        return False
    said = {value.name: value.text for value in part.values}
    ranges = (("echo time", wanted.echo_time), ("b-value", wanted.b_value), ("tube voltage", wanted.tube_voltage))
    return all(_holds(allowed, said.get(name)) for name, allowed in ranges)


def _holds(allowed: Range | None, text: str | None) -> bool:
    """Whether a value lies in a range; one by which the parts do not differ does not decide."""
    if allowed is None or text is None:
        return True
    try:
        return allowed.holds(float(text))
    except ValueError:
        return False


def _ambiguous(manifest: Manifest, parts: Sequence[Part], several: bool) -> str:
    name = f"({manifest.id} {manifest.version})"
    if several:
        return (
            f"The series holds {len(parts)} volumes that this model would take: {_listed(parts)}. Send the one that is "
            f"meant as a series of its own, or let the package say which by accepts.volumes. {name}"
        )
    return f"The series holds {len(parts)} volumes, but none that accepts.volumes means: {_listed(parts)}. {name}"


def _listed(parts: Sequence[Part]) -> str:
    listed = "; ".join(part.text() for part in parts[:NAMED])
    return f"{listed}; and {len(parts) - NAMED} more" if len(parts) > NAMED else listed
