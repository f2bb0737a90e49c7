"""Says a result as one page of PDF (PS3.3 A.45.1), for viewers that show nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.results import statement
from dicom_node.results.coding import DIAGNOSTIC_IMAGING_REPORT, item
from dicom_node.results.document import Circumstance, Reference, reference
from dicom_node.results.filing import Filing, begin
from dicom_node.results.identity import stamp
from storage.facts.prediction import Prediction

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_ENCODING = "cp1252"  #: of the fonts that every PDF reader brings along
_PICTURE_MM = 110.0
_LOWEST_MM = 270.0  #: what does not fit above this line is in the report
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
    pdf.set_title(_plain(naming.description))
    pdf.set_author(_plain(naming.node.manufacturer))
    pdf.set_margin(18)
    pdf.set_auto_page_break(False)
    pdf.add_page()
    _head(pdf, circumstance)
    if picture is not None:
        tall = _PICTURE_MM * picture.height / picture.width
        pdf.image(picture, x=(pdf.w - _PICTURE_MM) / 2, w=_PICTURE_MM, h=tall)
        pdf.ln(4)
    _body(pdf, circumstance)
    _foot(pdf, naming.made_at)
    return bytes(pdf.output())


def _head(pdf: FPDF, circumstance: Circumstance) -> None:
    naming, header = circumstance.naming, circumstance.source.header
    _line(pdf, naming.prediction.algorithm.name, size=15, bold=True)
    _line(pdf, naming.description, size=10, colour=_RED if naming.prediction.algorithm.research else _GREY)
    born = f", born {_date(header.PatientBirthDate)}" if header.PatientBirthDate else ""
    _line(pdf, f"Patient: {_name(str(header.PatientName))} (ID {header.PatientID or 'unknown'}{born})", size=10)
    study = [_date(header.StudyDate), str(header.get("StudyDescription", "")), _labelled(str(header.AccessionNumber))]
    _line(pdf, "Study: " + (", ".join(part for part in study if part) or "no date given"), size=10)
    source = circumstance.source
    described = f" '{source.description}'" if source.description else ""
    _line(pdf, f"Series: {source.modality or 'image'} {source.number}{described}", size=10)
    pdf.ln(3)


def _body(pdf: FPDF, circumstance: Circumstance) -> None:
    sentences = [*said(circumstance.naming.prediction, circumstance.remarks)]
    for number, sentence in enumerate(sentences):
        if pdf.get_y() > _LOWEST_MM - 6:
            _line(pdf, f"... {len(sentences) - number} more sentences are in the structured report.", colour=_GREY)
            return
        _line(pdf, sentence)


def said(prediction: Prediction, remarks: Iterable[str] = ()) -> list[str]:
    """All that a result says, in the order in which it is read."""
    sentences = [*statement.outcome(prediction)]
    sentences.append(statement.urgency(prediction))
    if statement.was_analysed(prediction):
        sentences += [statement.finding(given) for given in prediction.findings]
        sentences += [statement.measurement(given) for given in prediction.measurements]
        for segment in prediction.segments:
            sentences += [statement.measurement(given, segment.label) for given in segment.measurements]
        sentences += statement.scope(prediction)
    return [*sentences, *statement.caution(prediction), *statement.remarks(prediction, remarks)]


def _foot(pdf: FPDF, made_at: datetime) -> None:
    pdf.set_y(pdf.h - 18)
    _line(
        pdf,
        f"Made {made_at:%Y-%m-%d %H:%M} by software. See the structured report for all of it.",
        size=8,
        colour=_GREY,
    )


def _line(pdf: FPDF, text: str, *, size: int = 10, bold: bool = False, colour: tuple[int, int, int] = _BLACK) -> None:
    pdf.set_font("Helvetica", "B" if bold else "", size)
    pdf.set_text_color(*colour)
    pdf.multi_cell(0, size * 0.48, _plain(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT, align="L")


def _plain(text: str) -> str:
    """What the font has; a question mark stands for the rest."""
    return text.encode(_ENCODING, "replace").decode(_ENCODING)


def _name(written: str) -> str:
    """The alphabetic form of a name, family name first; where the font lacks it, who it is says the ID alone."""
    parts = [part for part in written.split("=")[0].split("^") if part]
    name = ", ".join((parts[0], " ".join(parts[1:]))) if len(parts) > 1 else "".join(parts)
    return name if name and _plain(name) == name else "see the study"


def _date(written: object) -> str:
    text = str(written or "")
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) >= 8 else ""


def _labelled(accession: str) -> str:
    return f"accession {accession}" if accession else ""
