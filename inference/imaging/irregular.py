"""Why there is no result, in codes, and the error of a series that cannot become a volume."""

from __future__ import annotations

from storage.facts.errors import Rejected
from storage.facts.prediction import Code, Reason

#: From PS3.16 CID 9300 and 9302 (why a step was given up), 6315 (quality) and 6041 (why an algorithm failed).
INCORRECTLY_FORMATTED = Code(value="110521", scheme="DCM", meaning="Objects incorrectly formatted")
NOT_SUPPORTED = Code(value="110522", scheme="DCM", meaning="Object Types not supported")
INCOMPLETE = Code(value="110523", scheme="DCM", meaning="Object Set incomplete")
INSUFFICIENT_QUALITY = Code(value="110531", scheme="DCM", meaning="Insufficient quality for interpretation")
COVERAGE_INCOMPLETE = Code(value="130576", scheme="DCM", meaning="Anatomy coverage incomplete")


class Irregular(Rejected):
    """The series is no stack of parallel, evenly spaced, readable slices; ``reason`` says why, in codes and words."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.reason = Reason(code=code, text=text)
