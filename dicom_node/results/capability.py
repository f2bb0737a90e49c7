"""What a destination must take for each kind of object, and which profile suits one that takes only some of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dicom_node.results import profiles
from dicom_node.results.profiles import Profile

IMPLICIT, EXPLICIT, RLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
_UNCOMPRESSED = (EXPLICIT, IMPLICIT)
_STORAGE = "1.2.840.10008.5.1.4.1.1."

#: What may be stored, by SOP class: what people call it, and the transfer syntaxes of which one must be taken.
CLASSES: dict[str, tuple[str, tuple[str, ...]]] = {
    f"{_STORAGE}66.4": ("Segmentation", _UNCOMPRESSED),
    f"{_STORAGE}66.7": ("Label Map Segmentation", (RLE,)),
    f"{_STORAGE}88.34": ("Comprehensive 3D SR", _UNCOMPRESSED),
    f"{_STORAGE}88.33": ("Comprehensive SR", _UNCOMPRESSED),
    f"{_STORAGE}88.11": ("Basic Text SR", _UNCOMPRESSED),
    f"{_STORAGE}7": ("Secondary Capture", _UNCOMPRESSED),
    f"{_STORAGE}104.1": ("Encapsulated PDF", _UNCOMPRESSED),
    f"{_STORAGE}30": ("Parametric Map", _UNCOMPRESSED),
    f"{_STORAGE}11.1": ("Grayscale Softcopy Presentation State", _UNCOMPRESSED),
    f"{_STORAGE}88.59": ("Key Object Selection", _UNCOMPRESSED),
    f"{_STORAGE}2": ("CT Image", _UNCOMPRESSED),
    f"{_STORAGE}4": ("MR Image", _UNCOMPRESSED),
}
#: The classes that the objects of a kind may be of, the usual one first: all of them must be taken.
NEEDS: dict[str, tuple[str, ...]] = {
    kind: tuple(f"{_STORAGE}{suffix}" for suffix in suffixes)
    for kind, suffixes in {
        profiles.SEG: ("66.4",),
        profiles.LABELMAP: ("66.7", "66.4"),
        profiles.SR: ("88.34", "88.11"),
        profiles.SR_COMPREHENSIVE: ("88.33", "88.11"),
        profiles.SR_TEXT: ("88.11",),
        profiles.SR_VOLUMETRIC: ("88.34",),
        profiles.SC: ("7",),
        profiles.SC_MAP: ("7",),
        profiles.PDF: ("104.1",),
        profiles.PARAMETRIC_MAP: ("30",),
        profiles.PRESENTATION: ("11.1",),
        profiles.IMAGES: ("2", "4", "7"),
        profiles.KEY_OBJECTS: ("88.59",),
        profiles.REJECTION: ("88.59",),
    }.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A profile for a destination, and what of it must be left out there."""

    profile: Profile
    without: tuple[str, ...]


def takes(kind: str, accepted: Mapping[str, Collection[str]]) -> bool:
    """Whether all objects of a kind would be taken, ``accepted`` being transfer syntaxes by SOP class."""
    return all(set(CLASSES[uid][1]) & set(accepted.get(uid, ())) for uid in NEEDS[kind])


def propose(accepted: Mapping[str, Collection[str]]) -> Proposal | None:
    """The profile that loses least there; None where no report would be taken, so that nothing can be promised.

    Of those that lose nothing the default comes first; else the one with most kinds left that still has a report.
    """
    fitting = []
    for one in profiles.PROFILES.values():
        without = tuple(kind for kind in one.kinds if not takes(kind, accepted))
        if any(kind in profiles.REPORTS and kind not in without for kind in one.kinds):
            fitting.append(Proposal(profile=one, without=without))
    if not fitting:
        return None
    return min(fitting, key=lambda p: (len(p.without), p.profile is not profiles.DEFAULT, -len(p.profile.kinds)))
