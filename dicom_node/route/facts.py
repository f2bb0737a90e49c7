"""Everything a rule may ask about one series: its header, and facts derived from all of its slices."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from dicom_node.route import contrast, provenance
from dicom_node.route.evidence import Derived
from dicom_node.route.expression import Attribute, Scalar
from dicom_node.route.geometry import Stack, planes_of, stack_of
from dicom_node.route.provenance import NodeIdentity
from dicom_node.route.reading import Reading
from dicom_node.route.values import Values, private_value, values_of
from dicom_node.route.vocabulary import DERIVED
from storage.facts.study import Header, Series

_SHOWN_VALUES, _SHOWN_CHARACTERS = 5, 64  #: of a value in an explanation


class SeriesFacts:
    """One series as rules see it. Look-ups are kept, for many rules ask the same."""

    def __init__(self, header: Header, derived: Mapping[str, Derived]) -> None:
        self._reading = Reading(header)
        self.derived = derived
        self._names: re.Pattern[str] | None = None
        self._knows_names = False
        self._values: dict[str, Values] = {}
        self.memory: dict[Any, Any] = {}  #: what others have worked out about the series and may be asked again
        self._shown: dict[str, str] = {}

    @property
    def header(self) -> Mapping[str, Any]:
        """The whole header, as it was recorded."""
        return self._reading.header

    def known(self, name: str) -> Any:
        """The value of a derived fact; None where it is missing."""
        fact = self.derived.get(name)
        return None if fact is None else fact.value

    def values(self, attribute: Attribute) -> Values:
        """The values of an attribute; never raises."""
        found = self._values.get(attribute.label)
        if found is None:
            found = self._values[attribute.label] = values_of(attribute, self._first(attribute))
        return found

    def key(self, attribute: Attribute) -> Hashable:
        """What stands for the values of an attribute: where it is equal, they are."""
        raw = self._first(attribute)
        return (type(raw), raw) if raw is None or isinstance(raw, str | int | float) else repr(raw)

    def _first(self, attribute: Attribute) -> Any:
        step = attribute.steps[0]
        if step.key in DERIVED:
            return self.known(step.key)
        if step.creator:
            return private_value(step, self._reading.header)
        return self._reading.get(step.key)

    def shown(self, attribute: Attribute) -> str:
        """A phrase for people: what the attribute is here, and for a derived fact why."""
        phrase = self._shown.get(attribute.label)
        if phrase is None:
            phrase = self._shown[attribute.label] = self._phrase(attribute)
        return phrase

    def _phrase(self, attribute: Attribute) -> str:
        found = self.values(attribute)
        known = self.derived.get(attribute.steps[0].key)
        because = f" ({self.redacted(known.evidence)})" if known is not None else ""
        if found.values:
            shown = [self._value(each, attribute) for each in found.values[:_SHOWN_VALUES]]
            more = ", …" if len(found.values) > _SHOWN_VALUES else ""
            return f"{attribute.label} is {', '.join(shown)}{more}{because}"
        if found.size and not found.problem:
            return f"{attribute.label} has {found.size} item(s)"
        return f"{found.problem}{because}"

    def _value(self, value: Scalar, attribute: Attribute) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int | float):
            return str(value) if isinstance(value, int) and abs(value) < 10**15 else f"{value:.6g}"
        if not attribute.quotable:
            return f"a text of {len(value)} characters"
        text = self.redacted(value)
        return f'"{text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"}"'

    def redacted(self, text: str) -> str:
        """The text without the patient's name, ID or birth date, should somebody have typed them into it."""
        if not self._knows_names:  # only what is shown needs them
            self._names, self._knows_names = _identifying_words(self._reading), True
        return text if self._names is None else self._names.sub("…", text)


def _identifying_words(reading: Reading) -> re.Pattern[str] | None:
    """What must not be quoted: parts of names, IDs and the birth date. Two Latin letters count as a whole word only."""
    found: set[str] = set()
    for keyword in ("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName"):
        found |= set(re.split(r"[\^= ,]+", reading.text(keyword)))
    for keyword in ("PatientID", "OtherPatientIDs", "PatientBirthDate"):
        found |= set(reading.texts(keyword))
    long = sorted((part for part in found if len(part) >= 2), key=len, reverse=True)[:50]
    parts = [rf"\b{re.escape(part)}\b" if len(part) == 2 and part.isascii() else re.escape(part) for part in long]
    return re.compile("|".join(parts), re.IGNORECASE) if parts else None


def facts_of(series: Series, slices: Sequence[Mapping[str, Any]], node: NodeIdentity) -> SeriesFacts:
    """Derive the facts of a complete series.

    ``slices`` are the headers of its instances (SLICE_KEYWORDS suffice). Never raises, whatever the headers hold.
    """
    reading = Reading(series.header)
    stack = stack_of(planes_of(reading.header, slices))
    frames = _frames(slices, series, reading)
    derived = _plain(series, reading, frames) | _of_stack(stack, reading)
    derived["kernel_class"] = contrast.kernel_class(reading)
    derived["mr_sequence"] = contrast.mr_sequence(reading)
    derived["contrast"] = contrast.contrast(reading)
    derived["sop_class"] = provenance.sop_class(reading)
    derived["is_image"] = provenance.is_image(reading)
    derived["is_from_this_node"] = provenance.is_from_this_node(series, reading, node)
    derived["is_localizer"] = provenance.is_localizer(reading, stack, frames)
    derived["is_mosaic"] = provenance.is_mosaic(reading)
    derived["is_screen_capture"] = provenance.is_screen_capture(reading)
    derived["is_label_map"] = provenance.is_label_map(reading)
    derived["is_derived"] = provenance.is_derived(reading, stack, derived)
    derived["is_phantom"] = provenance.is_phantom(reading)
    return SeriesFacts(series.header, derived)


def _frames(slices: Iterable[Mapping[str, Any]], series: Series, reading: Reading) -> int:
    counts = [Reading(each).number("NumberOfFrames") for each in slices]
    counts = counts or [reading.number("NumberOfFrames")] * min(series.instances, 1)
    return sum(int(count) if count is not None and count >= 1 else 1 for count in counts)


def _plain(series: Series, reading: Reading, frames: int) -> dict[str, Derived]:
    return {
        "number_of_instances": Derived(value=series.instances, evidence="counted"),
        "number_of_frames": Derived(value=frames, evidence="counted"),
        "calling_ae": Derived(value=series.calling_ae.strip() or None, evidence="of the association"),
        "called_ae": Derived(value=series.called_ae.strip() or None, evidence="of the association"),
        "patient_age_years": _age(reading),
    }


def _of_stack(stack: Stack, reading: Reading) -> dict[str, Derived]:
    measured = f"from the positions of {stack.slices} slices" if stack.slices else "no slice has a position"
    tilt = Derived(value=_rounded(stack.tilt), evidence=measured)
    stated = reading.number("GantryDetectorTilt")
    if stack.tilt is None and stated is not None:
        tilt = Derived(value=_rounded(abs(stated)), evidence="GantryDetectorTilt, as the positions do not tell")
    return {
        "slice_spacing_mm": Derived(value=_rounded(stack.spacing), evidence=measured),
        "spacing_irregular": Derived(value=_rounded(stack.irregular), evidence=measured),
        "coverage_mm": Derived(value=_rounded(stack.coverage), evidence=measured),
        "orientation": Derived(value=stack.orientation, evidence=measured),
        "tilt_degrees": tilt,
    }


def _rounded(value: float | None) -> float | None:
    """To 0.001, below which a header's decimals mean nothing and thresholds would flicker."""
    return None if value is None else round(value, 3)


_AGE_UNITS = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}
_OLDEST = 130  #: years; dates that make more of it are wrong


def _age(reading: Reading) -> Derived:
    """From PatientAge (AS: nnnD, nnnW, nnnM or nnnY), else from birth and study dates, which are not quoted."""
    stated = re.fullmatch(r"([0-9]{3})([DWMY])", reading.text("PatientAge"))
    if stated is not None and int(stated[1]) / _AGE_UNITS[stated[2]] <= _OLDEST:
        return Derived(value=round(int(stated[1]) / _AGE_UNITS[stated[2]], 2), evidence="PatientAge")
    born, seen = (re.match(r"[0-9]{8}", reading.text(name)) for name in ("PatientBirthDate", "StudyDate"))
    years = (int(seen[0]) - int(born[0])) // 10_000 if born and seen else -1
    if not 0 <= years <= _OLDEST:
        return Derived(value=None, evidence="neither PatientAge nor birth and study dates tell")
    return Derived(value=years, evidence="from birth and study dates")
