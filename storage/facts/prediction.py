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
    threshold_source: str = ""  #: where the operating point comes from
    segment: int | None = None  #: number of the segment that shows it


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The source of one mask frame."""

    sop_instance_uid: str
    sop_class_uid: str
    number: int | None = None  #: 1-based frame of a multi-frame source; None for a single-frame one


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A label map on the source grid, kept as a blob of zlib-compressed uint8 (C order: frame, row, column)."""

    blob: str  #: SHA-256 of the blob, hexadecimal
    shape: tuple[int, int, int]  #: frames, rows, columns
    frames: tuple[Frame, ...]  #: source of each frame, ordered along the slice normal


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
    urgency: Urgency = Urgency.ROUTINE
    urgency_reason: str = ""  #: which policy line decided
    claim: Urgency | None = None  #: what its findings alone ask for, whatever order and rules add; None: the urgency
    warnings: tuple[str, ...] = ()  #: for the reader
    device: str = ""  #: where it ran, e.g. ``cpu`` or ``cuda:0``
    seconds: dict[str, float] = field(default_factory=dict)  #: time per step

    @property
    def category(self) -> Urgency:
        """How actionable its findings are said to be: an order's priority makes no finding."""
        return self.urgency if self.claim is None else self.claim
