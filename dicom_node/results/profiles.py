"""What each kind of destination can really show, and so what is made for it and sent to it.

OHIF 3.13 was seen to shift the colours of ordinary label maps, and shows no key objects; Weasis 4 reads label maps and
key objects by its source; a plain PACS viewer shows pictures and pages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from storage.facts.errors import Misconfigured
from storage.facts.result import ResultObject

SR = "sr"  #: Comprehensive 3D SR with outlines, Basic Text SR where there are none
SR_COMPREHENSIVE = "sr-comprehensive"  #: the same in the older class that more archives take
SEG = "seg"  #: Segmentation, BINARY
LABELMAP = "seg-labelmap"  #: Label Map Segmentation, RLE
SC = "sc"  #: a picture with outlines and caption
PDF = "pdf"  #: a page with the picture and what was said
KEY_OBJECTS = "kos"  #: the images of positive findings
REJECTION = "kos-rejection"  #: that the objects of an earlier revision are no longer to be used

#: All kinds, in the order in which they are made: a later one may refer to an earlier one.
KINDS = (SEG, LABELMAP, SC, SR, SR_COMPREHENSIVE, PDF, KEY_OBJECTS, REJECTION)
#: What goes beside a report and may be missing where it cannot be made well.
BESIDE = frozenset({SC, PDF, KEY_OBJECTS, REJECTION})


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of destination."""

    name: str
    kinds: tuple[str, ...]
    why: str


PROFILES: dict[str, Profile] = {
    one.name: one
    for one in (
        Profile(
            name="orthanc-ohif",
            kinds=(SEG, SR),
            why="What no viewer was seen to break on; OHIF shows both on the images.",
        ),
        Profile(
            name="slicer",
            kinds=(SEG, SR),
            why="3D Slicer reads BINARY segmentations; its label map reader is not released yet.",
        ),
        Profile(
            name="weasis",
            kinds=(LABELMAP, SC, SR, KEY_OBJECTS),
            why="Weasis reads label maps, at a fraction of the size, and marks key objects.",
        ),
        Profile(
            name="classic-pacs",
            kinds=(SC, SR_COMPREHENSIVE, PDF),
            why="A picture and a page are shown everywhere; many viewers print SR as text and none of this fails.",
        ),
        Profile(
            name="dcm4chee",
            kinds=(SEG, SC, SR, KEY_OBJECTS, REJECTION),
            why="An archive for several viewers, which hides what a rejection note retires.",
        ),
    )
}
DEFAULT = PROFILES["orthanc-ohif"]


def profile(name: str) -> Profile:
    """The profile of that name. Raises Misconfigured."""
    try:
        return PROFILES[name]
    except KeyError:
        raise Misconfigured(f"there is no destination profile {name!r}; known: {', '.join(PROFILES)}") from None


def needed(profiles: Iterable[Profile]) -> tuple[str, ...]:
    """The kinds to make for all of these destinations, each once, in the order of making."""
    wanted = {kind for one in profiles for kind in one.kinds} or set(DEFAULT.kinds)
    return tuple(kind for kind in KINDS if kind in wanted)


def subset(objects: Iterable[ResultObject], kinds: Collection[str]) -> list[ResultObject]:
    """The objects that a destination of these kinds gets."""
    return [one for one in objects if one.kind in kinds]
