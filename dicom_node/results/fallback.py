"""What stands for a kind of object that a destination does not take.

The same content in an older class comes first, then what only eyes can read. A picture and a page say all that a report
says, negatives and failures too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from dicom_node.results import profiles
from dicom_node.results.capability import CLASSES, NEEDS
from dicom_node.results.profiles import Profile

#: A SOP class and a transfer syntax, as a destination refuses it.
Offer = tuple[str, str]

#: What stands for a kind, the best first.
INSTEAD: Mapping[str, tuple[str, ...]] = {
    profiles.SR: (profiles.SR_COMPREHENSIVE, profiles.SR_TEXT, profiles.PDF, profiles.SC),
    profiles.SR_COMPREHENSIVE: (profiles.SR, profiles.SR_TEXT, profiles.PDF, profiles.SC),
    profiles.LABELMAP: (profiles.SEG, profiles.SC),
    profiles.SEG: (profiles.SC,),
    profiles.PARAMETRIC_MAP: (profiles.SC_MAP,),
    profiles.PRESENTATION: (profiles.SC,),
    profiles.PDF: (profiles.SC,),
    profiles.SC: (profiles.PDF,),
}
#: What only repeats or selects what is said elsewhere, and may be missing.
EXPENDABLE = frozenset(
    {profiles.SR_VOLUMETRIC, profiles.SC_MAP, profiles.PRESENTATION, profiles.KEY_OBJECTS, profiles.REJECTION}
)


def resolved(profile: Profile, refused: Collection[Offer]) -> Profile:
    """A profile where what is known to be refused is replaced; what nothing can replace stays."""
    kinds = dict.fromkeys(stand_in(kind, refused) for kind in profile.kinds)
    return replace(profile, kinds=tuple(kinds))


def stand_in(kind: str, refused: Collection[Offer]) -> str:
    """What goes in a kind's place: itself, unless what it usually is is refused and something else is not."""
    ladder = (kind, *INSTEAD.get(kind, ()))
    return next((one for one in ladder if not _usual(one, refused)), kind)


def _usual(kind: str, refused: Collection[Offer]) -> bool:
    """Whether what a kind usually is, is refused."""
    usual = NEEDS[kind][0]
    return any((usual, syntax) in refused for syntax in CLASSES[usual][1])


def errand(kinds: Iterable[str], given: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a task of delivery says of the kinds that it brings; ``given`` is what stands for others from the start."""
    wanted = list(dict.fromkeys(kinds))
    said: dict[str, Any] = {
        "kinds": wanted,
        "instead": {kind: list(INSTEAD[kind]) for kind in wanted if kind in INSTEAD},
        "expendable": [kind for kind in wanted if kind in EXPENDABLE],
    }
    return said | ({"replaced": dict(given)} if given else {})
