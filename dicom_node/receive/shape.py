"""What the headers of a series say of how much there is of it: counts that scanners state, places without an image.

A count is written before all is made, and not every maker means the series by it: Images in Acquisition may be those of
several reconstructions. So whether counts hold is learned for each source and protocol, like its pauses: see
``receive.gaps``. Geometry needs no learning, but says less: a hole shows that something lacks, never that nothing does.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dicom_node.receive.gaps import LEAST_SERIES, RARE
from storage.facts.arrival import Tally
from storage.facts.study import Header, Instance

LEAST_PLACES = 5  #: of a stack, before its spacing is known
REGULAR = 0.8  #: of the spaces must be equal, within the tolerance
SPACING_TOLERANCE = 0.05  #: of a space
HOLE_TOLERANCE = 0.1  #: how far a hole may be from a whole number of spaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How much of a series is here, by its headers."""

    stated: int = 0  #: images that they state; 0 where they do not, or contradict each other
    here: int = 0  #: images that are here, counted in the same way
    telling: bool = False  #: whether what is stated would be the whole series
    holes: int = 0  #: places that no image has, within a regular stack or at one of the temporal positions

    @property
    def lacking(self) -> int:
        """Images that are stated and not here."""
        return max(self.stated - self.here, 0)

    @property
    def whole(self) -> bool:
        """Whether all that is stated is here, and nothing speaks against it."""
        return self.telling and self.stated == self.here and not self.holes


UNSAID = Shape()


def holds(tally: Tally | None) -> bool | None:
    """Whether the counts of a source and protocol can be relied on; None while too little is known."""
    if tally is None or tally.kept + tally.broken < LEAST_SERIES:
        return None
    return tally.broken <= RARE * (tally.kept + tally.broken)


def kept(shape: Shape) -> bool | None:
    """Whether the count of a series that is over held; None where it stated none."""
    return shape.telling and shape.stated == shape.here if shape.stated else None


def shape_of(instances: Sequence[Instance]) -> Shape:
    """What the headers of a series say, of what is here of it. Never raises, whatever they hold."""
    headers = [instance.header for instance in instances]
    stated, here, telling = _concatenated(headers) or _acquired(headers) or (0, 0, False)
    return Shape(stated=stated, here=here, telling=telling, holes=_untimed(headers) + _holes(headers))


_Said = tuple[int, int, bool]


def _concatenated(headers: Sequence[Header]) -> _Said | None:
    """In-concatenation Total Number (0020,9163): an object that came in parts (PS3.3 C.7.6.16.1.1)."""
    parts: dict[Hashable, set[int]] = defaultdict(set)
    totals: dict[Hashable, int] = {}
    for header in headers:
        uid, number = header.get("ConcatenationUID"), _count(header, "InConcatenationNumber")
        total = _count(header, "InConcatenationTotalNumber")
        if not isinstance(uid, str) or not number or not total or totals.setdefault(uid, total) != total:
            return None
        parts[uid].add(number)
    stated, here = sum(totals.values()), sum(map(len, parts.values()))
    return (stated, here, len(totals) == 1) if totals else None


def _acquired(headers: Sequence[Header]) -> _Said | None:
    """Images in Acquisition (0020,1002), of original images: derived ones may have it from those that they show."""
    stated: dict[Hashable, int] = {}
    here: dict[Hashable, int] = defaultdict(int)
    for header in headers:
        number, total = header.get("AcquisitionNumber"), _count(header, "ImagesInAcquisition")
        key = number if isinstance(number, Hashable) else None
        if not total or not _is_original(header) or stated.setdefault(key, total) != total:
            return None
        here[key] += _count(header, "NumberOfFrames") or 1
    if not stated:
        return None
    images, most = sum(here.values()), max(stated.values())
    if len(set(stated.values())) == 1 and images <= most:
        return most, images, True  # of the series, also by makers who number each rotation as an acquisition
    return sum(stated.values()), images, False  # more acquisitions may come, or more than was stated came


def _untimed(headers: Sequence[Header]) -> int:
    """Images that lack of Number of Temporal Positions (0020,0105), each having as many as the one that has most."""
    here: dict[int, int] = defaultdict(int)
    totals = {_count(header, "NumberOfTemporalPositions") for header in headers}
    for header in headers:
        here[_count(header, "TemporalPositionIdentifier")] += 1
    total = totals.pop() if len(totals) == 1 else 0
    if not total or 0 in here or len(here) > total:
        return 0
    return total * max(here.values()) - sum(here.values())


def _count(header: Header, keyword: str) -> int:
    """A positive whole number; 0 where there is none."""
    value = header.get(keyword)
    return value if isinstance(value, int) and value > 0 else 0


def _is_original(header: Header) -> bool:
    kind = header.get("ImageType")
    return (kind[:1] == ["ORIGINAL"]) if isinstance(kind, list) else kind == "ORIGINAL"


def _holes(headers: Iterable[Header]) -> int:
    """Places that lack in the stacks of a series; of what is no regular stack none."""
    stacks: dict[Hashable, set[float]] = defaultdict(set)
    for header in headers:
        placed = _place(header)
        if placed is not None:
            stacks[placed[0]].add(placed[1])
    return sum(_missing(sorted(places)) for places in stacks.values())


def _place(header: Mapping[str, Any]) -> tuple[Hashable, float] | None:
    """The stack of an image, and where it lies along the stack's normal, mm (PS3.3 C.7.6.2.1.1)."""
    turned, position = _numbers(header, "ImageOrientationPatient", 6), _numbers(header, "ImagePositionPatient", 3)
    if turned is None or position is None:
        return None
    (a, b, c, d, e, f), (x, y, z) = turned, position
    along = (b * f - c * e) * x + (c * d - a * f) * y + (a * e - b * d) * z
    stack = (tuple(round(n, 2) for n in turned), str(header.get("TemporalPositionIdentifier")))
    return (*stack, str(header.get("EchoNumbers"))), round(along, 3)


def _numbers(header: Mapping[str, Any], keyword: str, size: int) -> list[float] | None:
    value = header.get(keyword)
    if not isinstance(value, list) or len(value) != size:
        return None
    fine = all(isinstance(number, int | float) and math.isfinite(number) and abs(number) < 1e6 for number in value)
    return value if fine else None


def _missing(places: Sequence[float]) -> int:
    if len(places) < LEAST_PLACES:
        return 0
    spaces = [b - a for a, b in pairwise(places)]
    usual = statistics.median(spaces)
    regular = sum(abs(space - usual) <= SPACING_TOLERANCE * usual for space in spaces)
    if regular < REGULAR * len(spaces):
        return 0
    holes = 0
    for space in spaces:
        steps = space / usual
        if steps >= 2 - HOLE_TOLERANCE and abs(steps - round(steps)) <= HOLE_TOLERANCE:
            holes += round(steps) - 1
    return holes if holes <= len(places) // 2 else 0
