"""Says a result as one page of PDF (PS3.3 A.45.1), for viewers that show nothing else."""

from __future__ import annotations

from typing import Any

from fpdf import FPDF
from fpdf.enums import MethodReturnValue, XPos, YPos
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.results import lettering, statement
from dicom_node.results.coding import DIAGNOSTIC_IMAGING_REPORT, item
from dicom_node.results.document import Circumstance, Reference, reference
from dicom_node.results.filing import Filing, begin
from dicom_node.results.identity import Naming, stamp

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_PICTURE_MM = 110.0
_TALLEST_MM = 130.0  #: of the picture
_LOWEST_MM = 270.0  #: what does not fit above this line is in the report
_MOST_LINES = 3  #: of what stands above the picture, each
_CUT, _ROOM = " …", 6  #: what stands where a text was cut, and for which so many letters make room
_RED, _BLACK, _GREY = (176, 32, 32), (0, 0, 0), (96, 96, 96)


def summary(circumstance: Circumstance, picture: Image.Image | None) -> Dataset:
    """The Encapsulated PDF of a result, with its picture where there is one."""
    naming, source = circumstance.naming, circumstance.source
    dataset = begin(naming, source, Filing(sop_class_uid=ENCAPSULATED_PDF, modality="DOC", kind="pdf"))
    dataset.ConversionType = "WSD"
    dataset.AcquisitionDateTime = ""
    dataset.BurnedInAnnotation = "YES"  # the page names the patient: it may be printed
    dataset.DocumentTitle = naming.description
    dataset.ConceptNameCodeSequence = [item(DIAGNOSTIC_IMAGING_REPORT)]
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.SourceInstanceSequence = [_reference(reference(image)) for image in circumstance.source.images]
    content = _page(circumstance, picture)
    dataset.EncapsulatedDocumentLength = len(content)
    dataset.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    stamp(dataset)
    return dataset


def _reference(one: Reference) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = one.sop_class_uid, one.sop_instance_uid
    return made


def _page(circumstance: Circumstance, picture: Image.Image | None) -> bytes:
    naming = circumstance.naming
    pdf = FPDF(format="A4")
    pdf.set_creation_date(naming.made_at)  # the same result is the same bytes
    pdf.alias_nb_pages("")  # else a text that has {nb} in it would say the number of pages
    pdf.add_font(lettering.FAMILY, "", lettering.path())
    pdf.set_title(naming.description)
    pdf.set_author(naming.node.manufacturer)
    pdf.set_margin(18)
    pdf.set_auto_page_break(False)
    pdf.add_page()
    _head(pdf, circumstance)
    if picture is not None:
        wide = min(_PICTURE_MM, _TALLEST_MM * picture.width / picture.height)
        pdf.image(picture, x=(pdf.w - wide) / 2, w=wide, h=wide * picture.height / picture.width)
        pdf.ln(4)
    _body(pdf, circumstance)
    _foot(pdf, naming)
    return bytes(pdf.output())


def _head(pdf: FPDF, circumstance: Circumstance) -> None:
    naming, header = circumstance.naming, circumstance.source.header
    say = naming.language.say
    _line(pdf, naming.prediction.algorithm.name, size=15)
    _line(pdf, naming.description, size=10, colour=_RED if naming.prediction.algorithm.research else _GREY)
    born = _date(header.PatientBirthDate)
    who = _name(str(header.PatientName)) or say("page_see_study")
    number = header.PatientID or say("page_unknown")
    _line(pdf, say("page_patient_born" if born else "page_patient", name=who, id=number, born=born))
    accession = say("page_accession", number=header.AccessionNumber) if header.AccessionNumber else ""
    study = [_date(header.StudyDate), str(header.get("StudyDescription", "")), accession]
    _line(pdf, say("page_study", study=", ".join(part for part in study if part) or say("page_no_date")))
    source = circumstance.source
    described = f" '{source.description}'" if source.description else ""
    _line(pdf, say("page_series", series=f"{source.modality} {source.number}{described}".strip()))
    pdf.ln(3)


def _body(pdf: FPDF, circumstance: Circumstance) -> None:
    language = circumstance.naming.language
    sentences = statement.everything(circumstance.naming.prediction, language, circumstance.remarks)
    for number, sentence in enumerate(sentences):
        room = int((_LOWEST_MM - pdf.get_y()) / _tall(10))
        if room < 2 or not _line(pdf, sentence, most=room - 1):
            _line(pdf, language.say("page_more", count=len(sentences) - number), colour=_GREY)
            return


def _foot(pdf: FPDF, naming: Naming) -> None:
    pdf.set_y(pdf.h - 18)
    _line(pdf, naming.language.say("page_made", at=f"{naming.made_at:%Y-%m-%d %H:%M}"), size=8, colour=_GREY)


def _line(
    pdf: FPDF, text: str, *, size: int = 10, colour: tuple[int, int, int] = _BLACK, most: int = _MOST_LINES
) -> bool:
    """Write a text in at most so many lines. Returns whether it is whole; where it is not, it ends with a mark."""
    pdf.set_font(lettering.FAMILY, "", size)
    pdf.set_text_color(*colour)
    shown = lettering.drawable(text)
    lines: Any = pdf.multi_cell(0, _tall(size), shown, dry_run=True, output=MethodReturnValue.LINES)
    whole = len(lines) <= most
    if not whole:
        shown = "\n".join([*lines[: most - 1], lines[most - 1][:-_ROOM] + _CUT])
    pdf.multi_cell(0, _tall(size), shown, new_x=XPos.LMARGIN, new_y=YPos.NEXT, align="L")
    return whole


def _tall(size: int) -> float:
    """Height of a line of text of that size in points, mm."""
    return size * 0.48


def _name(written: str) -> str:
    """The alphabetic form of a name, family name first; empty where the font lacks it."""
    parts = [part for part in written.split("=")[0].split("^") if part]
    name = ", ".join((parts[0], " ".join(parts[1:]))) if len(parts) > 1 else "".join(parts)
    return name if all(map(lettering.has, name)) else ""


def _date(written: object) -> str:
    text = str(written or "")
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) >= 8 else ""
