"""The coded concepts that results speak (PS3.16), each once, and how a code is written into a data set."""

from __future__ import annotations

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from dicom_node.results.normal import line
from storage.facts.prediction import Code, Presence, Status
from storage.facts.study import Urgency


def _dcm(value: str, meaning: str) -> Code:
    return Code(value=value, scheme="DCM", meaning=meaning)


def _sct(value: str, meaning: str) -> Code:
    return Code(value=value, scheme="SCT", meaning=meaning)


# Documents and containers
IMAGING_MEASUREMENT_REPORT = _dcm("126000", "Imaging Measurement Report")
DIAGNOSTIC_IMAGING_REPORT = Code(value="18748-4", scheme="LN", meaning="Diagnostic Imaging Report")
IMAGING_MEASUREMENTS = _dcm("126010", "Imaging Measurements")
IMAGE_LIBRARY = _dcm("111028", "Image Library")
IMAGE_LIBRARY_GROUP = _dcm("126200", "Image Library Group")
FINDINGS = _dcm("121070", "Findings")
CONCLUSIONS = _dcm("121076", "Conclusions")
CURRENT_PROCEDURE_DESCRIPTIONS = _dcm("121064", "Current Procedure Descriptions")

# Context
LANGUAGE = _dcm("121049", "Language of Content Item and Descendants")
OBSERVER_TYPE = _dcm("121005", "Observer Type")
DEVICE = _dcm("121007", "Device")
DEVICE_UID = _dcm("121012", "Device Observer UID")
DEVICE_NAME = _dcm("121013", "Device Observer Name")
DEVICE_MANUFACTURER = _dcm("121014", "Device Observer Manufacturer")
DEVICE_MODEL = _dcm("121015", "Device Observer Model Name")
DEVICE_SERIAL = _dcm("121016", "Device Observer Serial Number")
MODALITY = _dcm("121139", "Modality")
PROCESSING_EQUIPMENT = _dcm("109102", "Processing Equipment")

# Content
FINDING = _dcm("121071", "Finding")
CONCLUSION = _dcm("121077", "Conclusion")
COMMENT = _dcm("121106", "Comment")
SERIES_UID = _dcm("112002", "Series Instance UID")
PROCEDURE_DESCRIPTION = _dcm("121065", "Procedure Description")
PROBABILITY = _dcm("122157", "Probability")
THRESHOLD = _dcm("122411", "Threshold Value")
CERTAINTY = _dcm("111012", "Certainty of Finding")
PERCENT = Code(value="%", scheme="UCUM", meaning="Percent")
NO_UNITS = Code(value="1", scheme="UCUM", meaning="no units")
ANATOMICAL_STRUCTURE = _sct("91723000", "Anatomical Structure")

# Maps (CID 7180)
SALIENCY = _dcm("130404", "Saliency")
CLASS_ACTIVATION = _dcm("130402", "Class activation")
GRADIENT_WEIGHTED_CLASS_ACTIVATION = _dcm("130403", "Gradient-weighted class activation")
UNCERTAIN = _sct("64957009", "Uncertain")

# TID 4019
ALGORITHM_FAMILY = _dcm("111000", "Algorithm Family")
ALGORITHM_NAME = _dcm("111001", "Algorithm Name")
ALGORITHM_PARAMETERS = _dcm("111002", "Algorithm Parameters")
ALGORITHM_VERSION = _dcm("111003", "Algorithm Version")
ALGORITHM_MANUFACTURER = _dcm("122405", "Algorithm Manufacturer")

# Outcome
ANALYSIS_PERFORMED = _dcm("111004", "Analysis Performed")
QUALITY_FINDING = _dcm("111052", "Quality Finding")
PRIORITY = _sct("260870009", "Priority")
STATUS: dict[Status, Code] = {  # CID 6042
    Status.SUCCEEDED: _dcm("111222", "Succeeded"),
    Status.PARTIAL: _dcm("111223", "Partially Succeeded"),
    Status.FAILED: _dcm("111224", "Failed"),
    Status.NOT_ATTEMPTED: _dcm("111225", "Not Attempted"),
}
PRESENCE: dict[Presence, Code] = {  # CID 240
    Presence.PRESENT: _sct("52101004", "Present"),
    Presence.ABSENT: _sct("272519000", "Absent"),
    Presence.UNDETERMINED: _sct("373068000", "Undetermined"),
}
UNDETERMINED = PRESENCE[Presence.UNDETERMINED]
#: CID 7035. The node's ladder runs upwards, the ACR's downwards: category 1 is to be told within minutes.
URGENCY: dict[Urgency, Code] = {
    Urgency.STAT: Code(value="RID49480", scheme="RADLEX", meaning="ACR Category 1 Actionable Finding"),
    Urgency.HIGH: Code(value="RID49481", scheme="RADLEX", meaning="ACR Category 2 Actionable Finding"),
    Urgency.ROUTINE: Code(value="RID49482", scheme="RADLEX", meaning="ACR Category 3 Actionable Finding"),
}
#: CID 100, by modality; the general code elsewhere.
PROCEDURE: dict[str, Code] = {
    "CT": Code(value="25045-6", scheme="LN", meaning="CT unspecified body region"),
    "MR": Code(value="25056-3", scheme="LN", meaning="MRI unspecified body region"),
    "PT": Code(value="44136-0", scheme="LN", meaning="PET unspecified body region"),
    "NM": Code(value="49118-3", scheme="LN", meaning="NM unspecified body region"),
}
IMAGING_PROCEDURE = _sct("363679005", "Imaging procedure")
#: CID 29, as far as series of that kind are worked on.
MODALITIES: dict[str, Code] = {
    "CT": _dcm("CT", "Computed Tomography"),
    "MR": _dcm("MR", "Magnetic Resonance"),
    "CR": _dcm("CR", "Computed Radiography"),
    "DX": _dcm("DX", "Digital Radiography"),
    "MG": _dcm("MG", "Mammography"),
    "PT": _dcm("PT", "Positron emission tomography"),
    "NM": _dcm("NM", "Nuclear Medicine"),
    "US": _dcm("US", "Ultrasound"),
    "XA": _dcm("XA", "X-Ray Angiography"),
}
OTHER_MODALITY = _dcm("OT", "Other")
_SHORT = 16  #: characters of a Code Value; a longer one has an attribute of its own (PS3.3 8.1)


def concept(code: Code) -> CodedConcept:
    """A code as highdicom takes it; meanings are one value of 64 characters at most, as LO demands."""
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=_meaning(code))


def item(code: Code) -> Dataset:
    """A code as an item of a code sequence (PS3.3 Table 8.8-1)."""
    made = Dataset()
    setattr(made, "CodeValue" if len(code.value) <= _SHORT else "LongCodeValue", code.value)
    made.CodingSchemeDesignator, made.CodeMeaning = code.scheme, _meaning(code)
    return made


def _meaning(code: Code) -> str:
    """A backslash would part it in two values."""
    return line(code.meaning.replace("\\", "/"))[:64].rstrip()
