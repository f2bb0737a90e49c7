"""The names that a rule may use, their types, and the names it may not.

A name in CamelCase is a DICOM keyword (PS3.6); its value representation gives its type. A name in lower_snake is a
fact that the node derives from the whole series.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from pydicom.datadict import dictionary_description, dictionary_VR, keyword_dict, keyword_for_tag


class Type(StrEnum):
    """What a name or a literal stands for; the value is how an error message calls it."""

    NUMBER = "a number"
    TEXT = "text"
    CODE = "text (CS)"  #: code string: compared in upper case
    TRUTH = "true or false"
    DATE = "a date"
    TIME = "a time"
    SEQUENCE = "a sequence"
    BYTES = "binary data"
    ANY = "a private value"  #: takes the type of what it is compared with


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A name that the node derives."""

    type: Type
    about: str  #: for people; carries the unit
    values: tuple[str, ...] = ()  #: all values it can have, when they are few


_MR = ("T1", "T2", "T2*", "FLAIR", "STIR", "PD", "DWI", "ADC", "SWI", "MRA", "PERFUSION", "FMRI", "FIELDMAP")

DERIVED: dict[str, Fact] = {
    "number_of_instances": Fact(type=Type.NUMBER, about="stored instances of the series"),
    "number_of_frames": Fact(type=Type.NUMBER, about="images: frames of multi-frame instances, one for each other"),
    "slice_spacing_mm": Fact(type=Type.NUMBER, about="median distance of neighbouring slices along their normal, mm"),
    "spacing_irregular": Fact(type=Type.NUMBER, about="largest deviation from slice_spacing_mm, mm"),
    "coverage_mm": Fact(type=Type.NUMBER, about="first to last slice along the normal, plus one spacing, mm"),
    "orientation": Fact(
        type=Type.TEXT, about="plane of the slices", values=("AXIAL", "CORONAL", "SAGITTAL", "OBLIQUE")
    ),
    "tilt_degrees": Fact(type=Type.NUMBER, about="angle between slice normal and stack direction (gantry tilt), 0..90"),
    "kernel_class": Fact(type=Type.TEXT, about="CT reconstruction kernel", values=("soft", "standard", "sharp")),
    "mr_sequence": Fact(type=Type.TEXT, about="MR contrast", values=_MR),
    "contrast": Fact(type=Type.TEXT, about="contrast agent, where stated", values=("yes", "no")),
    "patient_age_years": Fact(type=Type.NUMBER, about="age at the study, years"),
    "is_image": Fact(type=Type.TRUTH, about="the SOP class is an image; missing for an unknown SOP class"),
    "is_localizer": Fact(type=Type.TRUTH, about="scout, topogram, survey"),
    "is_derived": Fact(type=Type.TRUTH, about="reformat, projection, map, label map, capture: not merely compressed"),
    "is_label_map": Fact(type=Type.TRUTH, about="pixels are labels although the SOP class is an image"),
    "is_mosaic": Fact(type=Type.TRUTH, about="many slices tiled into one image"),
    "is_screen_capture": Fact(type=Type.TRUTH, about="a picture of a screen, or a dose report"),
    "is_phantom": Fact(type=Type.TRUTH, about="phantom or quality control"),
    "is_from_this_node": Fact(type=Type.TRUTH, about="this node wrote it"),
    "calling_ae": Fact(type=Type.TEXT, about="AE title of the peer that sent it"),
    "called_ae": Fact(type=Type.TEXT, about="AE title that the peer called"),
    "sop_class": Fact(type=Type.TEXT, about='name of the SOP class, e.g. "CT Image Storage"'),
}

_NUMBERS = frozenset({"DS", "IS", "FL", "FD", "US", "SS", "UL", "SL", "UV", "SV", "US or SS"})
_TEXTS = frozenset({"AE", "AS", "AT", "LO", "LT", "SH", "ST", "UC", "UI", "UR", "UT"})

#: What names a person. A rule never needs it, and an explanation must not show it (DICOM PS3.15 Table E.1-1).
_IDENTITY = frozenset(
    {
        "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDs",
        "OtherPatientIDsSequence", "PatientBirthDate", "PatientBirthTime", "PatientBirthDateInAlternativeCalendar",
        "PatientDeathDateInAlternativeCalendar", "PatientAddress", "PatientTelephoneNumbers",
        "PatientTelecomInformation", "PatientInsurancePlanCodeSequence", "MedicalRecordLocator", "PatientComments",
        "ReferencedPatientPhotoSequence", "AdmissionID", "IssuerOfAdmissionIDSequence", "PersonAddress",
        "PersonTelephoneNumbers", "PersonTelecomInformation", "SourcePatientGroupIdentificationSequence",
        "GroupOfPatientsIdentificationSequence", "ReferencedPatientSequence", "ClinicalTrialSubjectID",
        "ClinicalTrialSubjectReadingID",
    }
)  # fmt: skip

#: Long free text may hold anything: it can be tested, but an explanation does not quote it.
UNQUOTED_VR = frozenset({"LT", "ST", "UT", "UC"})


def type_of_vr(vr: str) -> Type:
    """The type of an attribute from its value representation (PS3.5 Section 6.2)."""
    if vr in _NUMBERS:
        return Type.NUMBER
    if vr in _TEXTS:
        return Type.TEXT
    named = {"CS": Type.CODE, "DA": Type.DATE, "DT": Type.DATE, "TM": Type.TIME, "SQ": Type.SEQUENCE, "UN": Type.ANY}
    return named.get(vr, Type.BYTES)


@cache
def vr_of(keyword: str) -> str | None:
    """The value representation of a keyword; None when the standard has no such keyword."""
    tag = keyword_dict.get(keyword)
    return None if not keyword or tag is None else dictionary_VR(tag)


def keyword_of(group: int, element: int) -> str:
    """The keyword of a public tag; empty when the standard has none."""
    return keyword_for_tag((group << 16) | element)


def names_a_person(keyword: str) -> bool:
    """Whether an attribute could tell who the patient is or who did the work."""
    return keyword in _IDENTITY or vr_of(keyword) == "PN"


def nearest(name: str) -> str | None:
    """The name that was most likely meant; for error messages."""
    known = [*DERIVED, *filter(None, keyword_dict)]
    folded = {each.casefold().replace("_", ""): each for each in reversed(known)}
    wanted = name.casefold().replace("_", "")
    if wanted in folded:
        return folded[wanted]
    close = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.75)
    return folded[close[0]] if close else None


def names_beginning(part: str) -> list[tuple[str, str]]:
    """The names that begin so, whatever their case, with what they mean; those that a rule may not use left out."""
    wanted = part.casefold()
    facts = [(name, fact.about) for name, fact in DERIVED.items() if name.startswith(wanted)]
    known = sorted(each for each in keyword_dict if each and each.casefold().startswith(wanted))
    allowed = [each for each in known if not names_a_person(each)]
    return facts + [(each, dictionary_description(keyword_dict[each])) for each in allowed]
