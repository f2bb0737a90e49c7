"""What each kind of destination can really show, and so what is made for it and sent to it.

OHIF 3.13 was seen to shift the colours of ordinary label maps, and shows no key objects; Weasis 4 reads label maps and
key objects by its source; a plain PACS viewer shows pictures and pages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from storage.facts.errors import Misconfigured
from storage.facts.result import ResultObject

SR = "sr"  #: Comprehensive 3D SR with outlines, Basic Text SR where there are none
SR_COMPREHENSIVE = "sr-comprehensive"  #: the same in the older class that more archives take
SR_TEXT = "sr-text"  #: a Basic Text SR even where there are outlines; stands for a report that is refused
SEG = "seg"  #: Segmentation, BINARY
LABELMAP = "seg-labelmap"  #: Label Map Segmentation, RLE
SR_VOLUMETRIC = "sr-volumetric"  #: groups that refer to segments and to surfaces in the patient (TID 1411)
SC = "sc"  #: a picture with outlines and caption
SC_MAP = "sc-map"  #: a picture of saliency, uncertainty or probability on the image
PARAMETRIC_MAP = "pmap"  #: the same as real values on the source's grid
PRESENTATION = "gsps"  #: boxes and points as graphics on the source's images
IMAGES = "image"  #: images that the model made of the series
PDF = "pdf"  #: a page with the picture and what was said
KEY_OBJECTS = "kos"  #: the images of positive findings
REJECTION = "kos-rejection"  #: that the objects of an earlier revision are no longer to be used

#: All kinds, in the order in which they are made: a later one may refer to an earlier one.
KINDS = (
    SEG, LABELMAP, IMAGES, PARAMETRIC_MAP, SC, SC_MAP, PRESENTATION, SR, SR_COMPREHENSIVE, SR_TEXT, SR_VOLUMETRIC,
    PDF, KEY_OBJECTS, REJECTION,
)  # fmt: skip
REPORTS = (SR, SR_COMPREHENSIVE, SR_TEXT)  #: of which every destination gets one
#: What goes beside a report and may be missing where it cannot be made well.
BESIDE = frozenset({SC, SC_MAP, PARAMETRIC_MAP, PRESENTATION, SR_VOLUMETRIC, PDF, KEY_OBJECTS, REJECTION})


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of destination."""

    name: str
    kinds: tuple[str, ...]
    why: str
    #: Its viewer exchanges the two pixel spacings (OHIF 3.13.2): outlines on other than square pixels would lie wrong.
    square_only: bool = False
    whole_maps: bool = False  #: its viewer needs a plane of a parametric map for every image (OHIF 3.13.2)


PROFILES: dict[str, Profile] = {
    one.name: one
    for one in (
        Profile(
            name="orthanc-ohif",
            kinds=(SEG, SR, PARAMETRIC_MAP, IMAGES),
            why="What no viewer was seen to break on; OHIF shows all of it on the images.",
            square_only=True,
            whole_maps=True,
        ),
        Profile(
            name="slicer",
            kinds=(SEG, SR, SR_VOLUMETRIC, PARAMETRIC_MAP, IMAGES),
            why="3D Slicer reads BINARY segmentations and reports that refer to them; no label maps are released yet.",
        ),
        Profile(
            name="weasis",
            kinds=(LABELMAP, SC, SC_MAP, PRESENTATION, SR, PARAMETRIC_MAP, IMAGES, KEY_OBJECTS),
            why="Weasis reads label maps, at a fraction of the size, draws graphics and marks key objects.",
        ),
        Profile(
            name="classic-pacs",
            kinds=(SC, SC_MAP, SR_COMPREHENSIVE, PDF, IMAGES),
            why="A picture and a page are shown everywhere; many viewers print SR as text and none of this fails.",
        ),
        Profile(
            name="dcm4chee",
            kinds=(SEG, SC, SC_MAP, PRESENTATION, SR, PARAMETRIC_MAP, IMAGES, KEY_OBJECTS, REJECTION),
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


class Chosen(Protocol):
    """What a configured destination says of its profile."""

    @property
    def profile(self) -> str:
        """Its name."""

    @property
    def without(self) -> tuple[str, ...]:
        """Kinds that are not sent there."""


def of(section: Chosen) -> Profile:
    """The profile of a configured destination, less what it goes without.

    Raises Misconfigured for a kind that there is none of, and where neither kind of report is left.
    """
    chosen = profile(section.profile)
    unknown = sorted(set(section.without) - set(KINDS))
    if unknown:
        raise Misconfigured(f"without: there is no kind {', '.join(unknown)}; known: {', '.join(KINDS)}")
    kinds = tuple(kind for kind in chosen.kinds if kind not in section.without)
    if not set(REPORTS) & set(kinds):
        raise Misconfigured(f"without: profile {chosen.name} would have no report left: a negative could not be told")
    return replace(chosen, kinds=kinds)


def needed(profiles: Iterable[Profile]) -> tuple[str, ...]:
    """The kinds to make for all of these destinations, each once, in the order of making."""
    wanted = {kind for one in profiles for kind in one.kinds} or set(DEFAULT.kinds)
    return tuple(kind for kind in KINDS if kind in wanted)


def subset(objects: Iterable[ResultObject], kinds: Collection[str]) -> list[ResultObject]:
    """The objects that a destination of these kinds gets."""
    return [one for one in objects if one.kind in kinds]
