"""What tells acquisitions apart that lie in one series: echoes, b-values, time points, reconstructions.

Classic objects say it at the top, Enhanced ones in their functional groups (PS3.3 C.7.6.16.2, C.8.13.5, C.8.15.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from inference.imaging.header import groups_of, macro, value_of

DIGITS = 2  #: decimals of a number: echo times of one echo differ in the third


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An attribute by which acquisitions differ."""

    name: str  #: for people
    keyword: str  #: of classic objects
    macros: tuple[tuple[str, str], ...] = ()  #: functional group macro and attribute of Enhanced ones
    unit: str = ""
    dimension: int | None = None  #: instead: place among the Dimension Index Values of Enhanced ones


#: Functional group macros that say what kind of image a frame is.
FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
#: Those that change what an image shows come first: what separates by the first of them is said in its words.
MARKS = (
    Mark(name="image type", keyword="ImageType", macros=tuple((s, "FrameType") for s in FRAME_TYPES)),
    Mark(
        name="component",
        keyword="ComplexImageComponent",
        macros=(("MRImageFrameTypeSequence", "ComplexImageComponent"),),
    ),
    Mark(name="kernel", keyword="ConvolutionKernel", macros=(("CTReconstructionSequence", "ConvolutionKernel"),)),
    Mark(name="tube voltage", keyword="KVP", macros=(("CTXRayDetailsSequence", "KVP"),), unit="kV"),
    Mark(name="echo time", keyword="EchoTime", macros=(("MREchoSequence", "EffectiveEchoTime"),), unit="ms"),
    Mark(name="echo", keyword="EchoNumbers"),
    Mark(name="inversion time", keyword="InversionTime", macros=(("MRModifierSequence", "InversionTimes"),), unit="ms"),
    Mark(
        name="flip angle",
        keyword="FlipAngle",
        macros=(("MRTimingAndRelatedParametersSequence", "FlipAngle"),),
        unit="degrees",
    ),
    Mark(name="b-value", keyword="DiffusionBValue", macros=(("MRDiffusionSequence", "DiffusionBValue"),), unit="s/mm2"),
    Mark(
        name="diffusion direction",
        keyword="DiffusionGradientOrientation",
        macros=(("MRDiffusionSequence", "DiffusionGradientDirectionSequence"),),
    ),
    Mark(name="stack", keyword="StackID", macros=(("FrameContentSequence", "StackID"),)),
    Mark(
        name="heart phase",
        keyword="NominalPercentageOfCardiacPhase",
        macros=(("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),),
        unit="%",
    ),
    Mark(
        name="trigger time",
        keyword="TriggerTime",
        macros=(("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),),
        unit="ms",
    ),
    Mark(
        name="time point",
        keyword="TemporalPositionIdentifier",
        macros=(("FrameContentSequence", "TemporalPositionIndex"),),
    ),
    Mark(name="acquisition", keyword="AcquisitionNumber", macros=(("FrameContentSequence", "FrameAcquisitionNumber"),)),
)
#: Dimensions that say where a frame lies, not which acquisition it is of.
_PLACES = frozenset({"ImagePositionPatient", "InStackPositionNumber", "StackID", "PlanePositionSequence"})
#: To be read of every object.
KEYWORDS = (*(mark.keyword for mark in MARKS), "DimensionIndexSequence")


def marks_of(header: Dataset) -> Iterator[Mark]:
    """Every mark that an object may have: the known ones, then the dimensions by which its maker sorted the frames."""
    yield from MARKS
    for number, item in enumerate(value_of(header, "DimensionIndexSequence") or ()):
        pointer = value_of(item, "DimensionIndexPointer")
        name = "" if pointer is None else keyword_for_tag(pointer) or f"dimension {pointer}"
        if name and name not in _PLACES:
            yield Mark(name=name, keyword="", dimension=number)


def read_mark(header: Dataset, frame: int | None, mark: Mark) -> str:
    """What one image, or one frame (0-based) of an Enhanced one, says; empty where it is silent."""
    if frame is None:
        return _text(value_of(header, mark.keyword)) if mark.keyword else ""
    groups = groups_of(header, frame)
    if mark.dimension is not None:
        indices = macro(groups, "FrameContentSequence", "DimensionIndexValues")
        given = indices if isinstance(indices, MultiValue | list) else [indices]
        return _text(given[mark.dimension]) if mark.dimension < len(given) else ""
    found = (macro(groups, sequence, keyword) for sequence, keyword in mark.macros)
    return next((text for value in found if (text := _text(value))), "")


def in_order(text: str) -> tuple[int, float, str]:
    """A key by which values follow each other: numbers by size, before words."""
    try:
        return 0, float(text), ""
    except ValueError:
        return 1, 0.0, text


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, MultiValue | Sequence | list | tuple):
        return "\\".join(_text(item) for item in value)
    if isinstance(value, Dataset):
        return _text(value_of(value, "DiffusionGradientOrientation"))
    try:
        return f"{round(float(str(value)), DIGITS) + 0.0:g}"
    except ValueError:
        return str(value).strip()
