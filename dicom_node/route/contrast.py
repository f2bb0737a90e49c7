"""How the images were made, from what headers really hold: CT kernel, MR contrast, contrast agent."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dicom_node.route.evidence import Derived, said, words
from dicom_node.route.reading import Reading

_SOFT, _STANDARD, _SHARP = "soft", "standard", "sharp"

#: Kernel names by vendor; first match wins. Siemens: its operating instructions call B30 and B40 the standard for
#: body tissue, B10 and B20 softer, B50 and up sharper; later families (Br38, Hr60, Qr40) keep that meaning of the two
#: digits. The others name their kernels by use.
_KERNELS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("GE", re.compile(r"SOFT"), _SOFT),
    ("GE", re.compile(r"STANDARD|STD\+?|DETAIL"), _STANDARD),
    ("GE", re.compile(r"LUNG|BONE|BONEPLUS|EDGE|CHEST"), _SHARP),
    ("Siemens", re.compile(r"[A-Z][A-Z]?[12]\d[A-Z]?"), _SOFT),
    ("Siemens", re.compile(r"[A-Z][A-Z]?[34]\d[A-Z]?"), _STANDARD),
    ("Siemens", re.compile(r"[A-Z][A-Z]?[5-9]\d[A-Z]?"), _SHARP),
    ("Canon", re.compile(r"FC[0-2]\d"), _STANDARD),
    ("Canon", re.compile(r"FC[358]\d"), _SHARP),
    ("Philips", re.compile(r"[UY]?A"), _SOFT),
    ("Philips", re.compile(r"[UY]?B"), _STANDARD),
    ("Philips", re.compile(r"[UY]?[CDEL]"), _SHARP),
)


def kernel_class(reading: Reading) -> Derived:
    """Soft, standard or sharp, by the vendor's naming of ConvolutionKernel (0018,1210)."""
    kernel = next(iter(reading.codes("ConvolutionKernel")), "")
    if not kernel:
        return Derived(value=None, evidence="ConvolutionKernel is missing")
    canon = kernel.startswith("FC")  # its two letters and two digits look like a Siemens name
    for vendor, pattern, found in _KERNELS:
        if pattern.fullmatch(kernel) and (vendor == "Canon") == canon:
            return Derived(value=found, evidence=f'ConvolutionKernel "{kernel}" is a {found} kernel of {vendor}')
    return Derived(value=None, evidence=f'ConvolutionKernel "{kernel}" is not in the table of kernels')


_AGENT_NONE = words("none", "no", "non", "without", "n")
_WITHOUT = words(
    r"non[- ]?con(?:trast)?", r"w/?o(?: contrast)?", r"without(?: iv)?(?: contrast)?", "unenhanced", "plain",
    r"nativ\w*", r"no contrast", r"sans iv", r"sans injection", r"\(?c-\)?", r"pre[- ]?(?:contrast|gd|gad)",
)  # fmt: skip
_WITH = words(
    r"with(?: iv)? contrast", r"w/? ?contrast", "contrast enhanced", "enhanced", r"post[- ]?(?:contrast|gd|gad\w*|km)",
    "km", r"c\+", r"\+c", r"ce", r"t1c", r"arterial", r"portal(?: venous)?", r"venous phase", "nephrographic",
    "cta", "gd",
)  # fmt: skip


def contrast(reading: Reading) -> Derived:
    """Whether a contrast agent was given, where the header states it; contradictions leave it missing."""
    agent = reading.text("ContrastBolusAgent")
    if agent:
        stated = "no" if _AGENT_NONE.fullmatch(agent) else "yes"
        return Derived(value=stated, evidence=f'ContrastBolusAgent is "{agent}"')
    if reading.items("ContrastBolusAgentSequence"):
        return Derived(value="yes", evidence="ContrastBolusAgentSequence is present")
    for keyword in ("SeriesDescription", "ProtocolName", "StudyDescription"):
        without, given = said(reading, _WITHOUT, (keyword,)), said(reading, _WITH, (keyword,))
        if without and given:
            return Derived(value=None, evidence=f"{keyword} speaks of both with and without contrast")
        if without or given:
            return Derived(value="no" if without else "yes", evidence=without or given)
    return Derived(value=None, evidence="the header does not state whether a contrast agent was given")


#: Words for MR contrasts; the earlier wins where a description has several ("T2 FLAIR", "T1 FLAIR").
_MR_WORDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("ADC", words(r"e?adc", "apparent diffusion")),
    ("DWI", words("dwi", "dti", r"diff(?:usion)?", "hardi", r"trace\w?", r"ep b\d+")),
    ("SWI", words("swi", "swan", "susceptibility")),
    ("PERFUSION", words(r"perf(?:usion)?", "dsc", "dce", "p?c?asl")),
    ("FMRI", words("bold", "fmri", "rs-?fmri", "resting state")),
    ("FIELDMAP", words(r"field ?map(?:ping)?", "field mapping")),
    ("MRA", words("tof", "mra", r"angio\w*")),
    ("T1", words(r"t1[a-z]*[ -]+flair")),
    ("FLAIR", words(r"\w*flair\w*", r"dark[- ]?fluid")),
    ("STIR", words("stir", "tirm")),
    ("T2*", words(r"t2 ?\*w?", r"t2[- ]?star", r"hemo\w*")),
    ("T1", words(r"t1\w*", r"mp ?rage\d?", "mp2rage", "bravo", r"f?spgr", "vibe", "thrive", "lava", "tfl")),
    ("T2", words(r"t2\w*")),
    ("PD", words(r"pdw?", r"proton(?: density)?", r"pd[- ]?fs")),
)

#: AcquisitionContrast (0008,9209) and the third value of ImageType in Enhanced MR (PS3.3 C.8.13.3.1.1).
_MR_STATED = {
    "T1": "T1", "T2": "T2", "T2_STAR": "T2*", "FLUID_ATTENUATED": "FLAIR", "STIR": "STIR", "PROTON_DENSITY": "PD",
    "DIFFUSION": "DWI", "PERFUSION": "PERFUSION", "TOF": "MRA", "FLOW_ENCODED": "MRA", "ADC": "ADC", "SWI": "SWI",
    "FMRI": "FMRI",
}  # fmt: skip


def mr_sequence(reading: Reading) -> Derived:
    """The MR contrast: as stated in codes, else by timing and words, which must not contradict each other."""
    if "MR" not in reading.codes("Modality"):
        return Derived(value=None, evidence="the modality is not MR")
    for keyword in ("AcquisitionContrast", "ImageType"):
        codes = reading.codes(keyword)
        if "ADC" in codes:
            return Derived(value="ADC", evidence=f'{keyword} says "ADC"')
        for code in codes:
            if code in _MR_STATED:
                return Derived(value=_MR_STATED[code], evidence=f'{keyword} says "{code}"')
    return _reconciled(_by_timing(reading), _by_words(reading))


def _reconciled(timing: Derived, wording: Derived) -> Derived:
    if timing.value is None or wording.value is None:
        return timing if wording.value is None else wording
    if timing.value == wording.value:
        return Derived(value=timing.value, evidence=f"{wording.evidence}; {timing.evidence}")
    if wording.value in ("T1", "T2", "PD") and timing.value in ("T1", "T2", "PD"):
        return Derived(value=None, evidence=f"{wording.evidence}, but {timing.evidence}")
    return wording  # timing alone cannot tell the special techniques from their relatives


def _by_words(reading: Reading) -> Derived:
    for keyword in ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName"):
        hits = [(found, text) for found, pattern in _MR_WORDS if (text := said(reading, pattern, (keyword,)))]
        names = {found for found, _ in hits}
        if hits and hits[0][0] == "T1" and "T2" in names and "FLAIR" not in names:
            return Derived(value=None, evidence=f"{keyword} speaks of both T1 and T2")
        if hits:
            return Derived(value=hits[0][0], evidence=hits[0][1])
    return Derived(value=None, evidence="neither codes, timing nor descriptions name the MR contrast")


def _by_timing(reading: Reading) -> Derived:
    """The usual ranges at 1.5 and 3 T (milliseconds); what lies between them is left undecided."""
    tr, te = reading.number("RepetitionTime"), reading.number("EchoTime")
    if tr is None or te is None:
        return Derived(value=None, evidence="RepetitionTime or EchoTime is missing")
    ti = reading.number("InversionTime") or 0.0
    kinds = set(reading.codes("ScanningSequence"))
    found = next((name for name, fits in _timings(kinds, tr, te, ti) if fits), None)
    timing = f"TR {tr:g}, TE {te:g}" + (f", TI {ti:g}" if ti else "") + " ms"
    if found is None:
        return Derived(value=None, evidence=f"{timing} fits no usual contrast")
    return Derived(value=found, evidence=f"{'/'.join(sorted(kinds))} with {timing} is usual for {found}")


def _timings(kinds: set[str], tr: float, te: float, ti: float) -> Iterator[tuple[str, bool]]:
    if "EP" in kinds:
        return
    inverted = ti > 0
    yield "FLAIR", inverted and ti >= 1500 and te >= 60
    yield "STIR", inverted and 80 <= ti <= 260 and tr >= 1500
    yield "T1", inverted and 350 <= ti <= 1400 and te <= 30
    spin_echo = "SE" in kinds and not inverted
    yield "T1", spin_echo and tr <= 1000 and te <= 35
    yield "T2", spin_echo and tr >= 1500 and te >= 60
    yield "PD", spin_echo and tr >= 1500 and te <= 45
    yield "T2*", "GR" in kinds and not inverted and te >= 15 and tr >= 200
