"""The ``[accepts]`` table of ``model.toml``: which series a model may be run on."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from storage.facts.figures import exact, rounded
from storage.settings import Settings

#: What a header may fail to state; a package says for which of them silence refuses.
Fact = Literal["slice_thickness", "kernel", "anatomy", "sequence", "contrast"]


class Range(Settings):
    """Allowed values, both ends included."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("min or max must be given")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min must not be above max")
        return self

    def holds(self, value: float) -> bool:
        """Whether the value is allowed."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def figure(self, value: float) -> str:
        """A value in three decimals, or more where it lies close to what is allowed."""
        return exact(rounded(value, 3, *(one for one in (self.min, self.max) if one is not None)))

    def text(self, unit: str) -> str:
        """The range as the end of a sentence, e.g. ``at most 2.5 mm``."""
        least, most = (None if one is None else exact(one) for one in (self.min, self.max))
        if least is None:
            return f"at most {most} {unit}"
        return f"at least {least} {unit}" if most is None else f"{least} to {most} {unit}"


class Words(Settings):
    """Words of a header that speak for or against a series; ``*``, ``?`` and ``[1-4]`` match as in file names.

    Case does not matter. Descriptions are taken apart at everything that is neither letter nor digit.
    """

    accept: tuple[str, ...] = ()
    refuse: tuple[str, ...] = ()


class Kernel(Words):
    """Names of reconstruction kernels, matched against the whole first value of ConvolutionKernel (0018,1210)."""

    unknown: Literal["refuse", "pass"] = "refuse"
    """What to do with a kernel that neither list names. Default: refuse, for its sharpness is not known."""


class Timing(Settings):
    """One way to know a pulse sequence by its numbers; everything that is given must hold, times in ms."""

    scanning_sequence: tuple[str, ...] = ()
    """Values that ScanningSequence (0018,0020) must have."""
    repetition_time: Range | None = None
    echo_time: Range | None = None
    inversion_time: Range | None = None


class Sequence(Words):
    """How the wanted MR contrast is known: by words or by timing. A refused word is stronger than both."""

    name: str
    """For people, e.g. ``T1 weighted``."""
    timing: tuple[Timing, ...] = ()
    max_echo_time: float | None = None
    """A longer echo time (ms) contradicts the contrast, whatever the words say."""


class Volumes(Settings):
    """Which volume is meant where a series holds several; what is left out does not decide."""

    image_type: Words = Words()
    """Values of ImageType (0008,0008), of frames FrameType (0008,9007), e.g. ``M`` and not ``P``."""
    echo_time: Range | None = None
    """In ms."""
    b_value: Range | None = None
    """In s/mm2."""
    tube_voltage: Range | None = None
    """In kV, of dual-energy CT."""
    of_several: Literal["refuse", "first", "last"] = "refuse"
    """What becomes of several that are still left: in the order of echoes, b-values, time points and acquisitions."""


class Accepts(Settings):
    """What a series must be. Lengths in mm, angles in degrees; what is left out is not asked for."""

    modality: tuple[str, ...] = Field(min_length=1)
    orientation: tuple[Literal["axial", "coronal", "sagittal", "oblique", "projection"], ...] = ()
    """Of the slices; ``projection`` is a radiograph (CR, DX, MG), of which a run sees one."""
    slice_thickness: Range | None = None
    spacing: Range | None = None
    """Step between slices."""
    pixel_spacing: Range | None = None
    max_irregularity: float = Field(default=0.1, ge=0, le=0.1)
    """Largest deviation of a step from the median step, as a part of it."""
    max_tilt: float = Field(default=0.5, ge=0, le=0.5)
    min_slices: int = Field(default=3, ge=3)
    coverage: Range | None = None
    """Extent of the stack along its normal."""
    rescale_types: tuple[str, ...] = ()
    """Allowed values of RescaleType (0028,1054), where the header states one."""
    image_type_excludes: tuple[str, ...] = ("LOCALIZER",)
    """Values of ImageType (0008,0008) that are refused."""
    lossy: Literal["any", "refuse"] = "any"
    """Whether images are taken that were compressed with loss, now or earlier (0028,2110)."""
    contrast: Literal["any", "refuse"] = "any"
    """Whether images with a contrast agent are taken."""
    kernel: Kernel | None = None
    anatomy: Words | None = None
    """Words of BodyPartExamined, the anatomic region and the descriptions; an accepted word outweighs a refused one."""
    sequence: Sequence | None = None
    volumes: Volumes | None = None
    """Which one is meant of several in a series (echoes, time points, reconstructions). Default: that is refused."""
    require: tuple[Fact, ...] = ()
    """Facts that the header must state; for others, silence passes."""
