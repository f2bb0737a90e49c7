"""What a model said, in terms that need neither torch nor highdicom.

A ``Prediction`` is the evidence that is kept before anyone dresses it as DICOM. Masks are on the grid of the source
series: frame *i* of the mask belongs to ``frames[i]``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from storage.facts.study import Urgency


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A coded concept (PS3.3 Table 8.8-1)."""

    value: str
    scheme: str  #: coding scheme designator: DCM, SCT, UCUM, LN, RADLEX or 99…
    meaning: str


SOFTWARE_FAILURE = Code(value="111218", scheme="DCM", meaning="Software failure")


class Status(StrEnum):
    """How the run ended (CID 6042)."""

    SUCCEEDED = "succeeded"  #: 111222 DCM
    PARTIAL = "partial"  #: 111223 DCM
    FAILED = "failed"  #: 111224 DCM
    NOT_ATTEMPTED = "not attempted"  #: 111225 DCM


class Presence(StrEnum):
    """What is said of a condition (CID 240)."""

    PRESENT = "present"
    ABSENT = "absent"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why there is no result: a code for machines (CID 6041 or 9300) and a sentence for people."""

    code: Code
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """Who computed it (TID 4019)."""

    package: str  #: package identifier, e.g. ``ct-lung-densitometry``
    version: str
    name: str  #: for people
    manufacturer: str
    family: Code  #: CID 7162, e.g. (123110, DCM, "Artificial Intelligence")
    digest: str  #: SHA-256 over the manifest and the weights, hexadecimal
    parameters: tuple[tuple[str, str], ...] = ()  #: name and value, as written in the report
    research: bool = True  #: not for primary diagnosis
    intended_use: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One number with its unit (NUM of TID 300 / 1419)."""

    name: Code
    value: float
    unit: Code  #: UCUM
    digits: int = 1  #: decimals that are meaningful
    method: str = ""  #: published method, for the report


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One class of the mask, with what was measured in it."""

    number: int  #: value in the mask, from 1 without gaps
    label: str  #: 64 characters at most
    category: Code  #: CID 7150
    type: Code  #: CID 7151 ff.
    colour: tuple[int, int, int]  #: recommended display colour, sRGB 0..255
    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A condition that was looked for, and what is said of it."""

    condition: Code
    presence: Presence
    text: str  #: one sentence for the reader
    probability: float | None = None  #: calibrated, 0..1
    threshold: float | None = None  #: operating point, in the unit of what it is applied to
    threshold_unit: Code | None = None  #: UCUM, of the threshold; None where it is a probability
    threshold_source: str = ""  #: where the operating point comes from
    segment: int | None = None  #: number of the segment that shows it
    detection: int | None = None  #: number of the detection that shows it
    uncertainty: float | None = None  #: 0 certain .. 1 knows nothing (entropy over its maximum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The source of one mask frame."""

    sop_instance_uid: str
    sop_class_uid: str
    number: int | None = None  #: 1-based frame of a multi-frame source; None for a single-frame one


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A label map on the source grid, kept as a zlib-compressed blob (C order: frame, row, column).

    Where segments overlap there are several, each as the first; a segment is in one of them.
    """

    blob: str  #: SHA-256 of the blob, hexadecimal
    shape: tuple[int, int, int]  #: frames, rows, columns
    frames: tuple[Frame, ...]  #: source of each frame, ordered along the slice normal
    dtype: str = "uint8"  #: or ``uint16``, little endian, for more than 255 segments
    over: tuple[str, ...] = ()  #: blobs of the further maps

    @property
    def blobs(self) -> tuple[str, ...]:
        """Of all maps."""
        return (self.blob, *self.over)


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A box on the source grid; a point where both corners are equal.

    Corners are (frame, row, column), zero-based, in fractions of pixels; whole numbers are centres of pixels. A frame
    is a place in the prediction's ``frames``; both corners of a box in a single image have the same one.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One thing that was found at one place."""

    number: int  #: from 1, the most suspicious first
    label: str  #: 64 characters at most, e.g. ``Nodule 1``
    category: Code  #: CID 7150
    type: Code  #: what it is, e.g. (27925004, SCT, "Nodule")
    location: Location
    score: float  #: calibrated probability that it is one, 0..1
    colour: tuple[int, int, int]  #: recommended display colour, sRGB 0..255
    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probability:
    """One class of a grade and how likely it is."""

    value: Code
    probability: float  #: calibrated, 0..1


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """One class out of several that exclude each other, of the series or of one detection."""

    question: Code  #: what was asked, e.g. (111025, DCM, "Density of lesion")
    answer: Code | None  #: the class that is said; None where the model abstained
    probabilities: tuple[Probability, ...]  #: of all classes, in the order of the scale
    text: str  #: one sentence for the reader
    ordinal: bool = False  #: the classes are steps of a scale
    uncertainty: float | None = None  #: 0 certain .. 1 knows nothing (entropy over its maximum)
    threshold: float | None = None  #: probability that a class must reach to be said
    threshold_source: str = ""  #: where that operating point comes from
    detection: int | None = None  #: number of the detection that is graded; None: the series


class Shown(StrEnum):
    """What the values of a map mean."""

    SALIENCY = "saliency"  #: how much each voxel moved the answer, 0..1
    UNCERTAINTY = "uncertainty"  #: 0 certain .. 1 knows nothing
    PROBABILITY = "probability"  #: calibrated, 0..1


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """Values on the source grid, kept as a zlib-compressed blob (C order: frame, row, column)."""

    blob: str  #: SHA-256 of the blob, hexadecimal
    shape: tuple[int, int, int]  #: frames, rows, columns; frame *i* belongs to the prediction's ``frames[i]``
    dtype: str  #: numpy's name, little endian: ``float32``, ``float16``, ``int16``, ``uint16``


@dataclass(frozen=True, slots=True, kw_only=True)
class Heatmap:
    """A map of real values on the source grid."""

    shown: Shown
    label: str  #: for people, e.g. ``Saliency for Nodule``
    method: str  #: with its citation, e.g. ``Grad-CAM (Selvaraju et al. 2017)``
    array: Array
    explains: Code | None = None  #: the condition or class that it explains


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedImage:
    """New images made of the series, as a denoised copy on the same grid."""

    label: str  #: Series Description, 64 characters at most
    method: Code  #: Derivation Code (CID 7203)
    text: str  #: Derivation Description
    array: Array  #: stored values: real-world value = stored * slope + intercept
    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Everything that one run of one package on one series said."""

    key: str  #: of the run: the INFER task's key; names every object made of it
    study_uid: str
    series_uid: str
    revision: int  #: of the series
    algorithm: Algorithm
    status: Status
    reason: Reason | None = None  #: set unless the run succeeded
    findings: tuple[Finding, ...] = ()
    segments: tuple[Segment, ...] = ()
    measurements: tuple[Measurement, ...] = ()  #: of the series as a whole
    mask: Mask | None = None
    detections: tuple[Detection, ...] = ()
    grades: tuple[Grade, ...] = ()
    heatmaps: tuple[Heatmap, ...] = ()
    images: tuple[DerivedImage, ...] = ()
    frames: tuple[Frame, ...] = ()  #: source of each frame of locations, maps and derived images
    urgency: Urgency = Urgency.ROUTINE
    urgency_reason: str = ""  #: which policy line decided
    claim: Urgency | None = None  #: what its findings alone ask for, whatever order and rules add; None: the urgency
    warnings: tuple[str, ...] = ()  #: for the reader
    device: str = ""  #: where it ran, e.g. ``cpu`` or ``cuda:0``
    seconds: dict[str, float] = field(default_factory=dict)  #: time per step

    @property
    def arrays(self) -> tuple[Array, ...]:
        """What is kept in blobs besides the mask."""
        return (*(one.array for one in self.heatmaps), *(one.array for one in self.images))

    @property
    def category(self) -> Urgency:
        """How actionable its findings are said to be: an order's priority makes no finding."""
        return self.urgency if self.claim is None else self.claim
