"""What a result takes over from its source series: patient, study and geometry, mended, and nothing else.

Real series lack type 2 attributes and hold values that break their representation; neither may keep a result from its
patient. The source itself is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydicom import config
from pydicom.dataset import Dataset

from dicom_node.results import normal
from dicom_node.results.normal import plain, value
from dicom_node.results.planes import place
from storage.facts.errors import Rejected

#: Patient, General Study and Patient Study modules (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2): how each is mended, and whether
#: it must be there even if empty (type 2).
_KEPT: dict[str, tuple[Callable[[str], str], bool]] = {
    "PatientName": (normal.as_name, True),
    "PatientID": (normal.as_identifier(64), True),
    "IssuerOfPatientID": (normal.as_identifier(64), False),
    "PatientBirthDate": (normal.as_date, True),
    "PatientSex": (normal.as_sex, True),
    "StudyDate": (normal.as_date, True),
    "StudyTime": (normal.as_time, True),
    "StudyID": (normal.as_identifier(16), True),
    "AccessionNumber": (normal.as_identifier(16), True),
    "ReferringPhysicianName": (normal.as_name, True),
    "StudyDescription": (normal.as_text(64), False),
    "PatientAge": (normal.as_age, False),
    "PatientSize": (normal.as_number, False),
    "PatientWeight": (normal.as_number, False),
}
_SERIES: dict[str, Callable[[str], str]] = {
    "Modality": normal.as_code,
    "BodyPartExamined": normal.as_code,
    "SeriesDescription": normal.as_text(64),
}
_SIDE = ("ImageLaterality", "Laterality")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The source series as results need it."""

    study_uid: str
    series_uid: str
    modality: str  #: empty when the source does not say
    description: str  #: SeriesDescription
    number: str  #: SeriesNumber
    laterality: str  #: L or R of a paired part; empty when the source does not say
    header: Dataset  #: patient and study attributes, valid, all of type 2 there; text is Unicode
    places: Mapping[str, Dataset]  #: identity and geometry of each instance by its UID, in the order given
    remarks: tuple[str, ...]  #: what was mended, for the reader; never a value

    def image(self, sop_instance_uid: str) -> Dataset:
        """The image of that UID. Raises Rejected when it is not among the sources."""
        try:
            return self.places[sop_instance_uid]
        except KeyError:
            raise Rejected(
                f"image {sop_instance_uid} of the prediction is not among the source objects: send the series again"
            ) from None

    @property
    def images(self) -> tuple[Dataset, ...]:
        """The images in the order given."""
        return tuple(self.places.values())


def read(datasets: Sequence[Dataset]) -> Source:
    """What is needed of the headers of one series; pixels are not looked at.

    Raises Rejected where a UID is missing, or where patients, studies or series are mixed.
    """
    if not datasets:
        raise Rejected("a result needs the header of one source object at least: none is left of this series")
    with config.disable_value_validation():  # what pydicom says of invalid values quotes them
        return _read(datasets)


def _read(datasets: Sequence[Dataset]) -> Source:
    study, series = (_the_one(datasets, keyword) for keyword in ("StudyInstanceUID", "SeriesInstanceUID"))
    _require_one_patient(datasets, series)
    first = datasets[0]
    header, remarks = _header(first, study)
    images: dict[str, Dataset] = {}
    for dataset in datasets:
        image = place(dataset)
        images.setdefault(str(image.SOPInstanceUID), image)
    texts = {keyword: mend(plain(value(first, keyword))) for keyword, mend in _SERIES.items()}
    if texts["BodyPartExamined"]:
        header.BodyPartExamined = texts["BodyPartExamined"]
    return Source(
        study_uid=study,
        series_uid=series,
        modality=texts["Modality"],
        description=texts["SeriesDescription"],
        number=plain(value(first, "SeriesNumber")),
        laterality=next((s for k in _SIDE if (s := plain(value(first, k))) in ("L", "R")), ""),
        header=header,
        places=images,
        remarks=tuple(remarks),
    )


def _the_one(datasets: Iterable[Dataset], keyword: str) -> str:
    found = {plain(value(dataset, keyword)) for dataset in datasets}
    if found == {""} or len(found) != 1:
        what = "missing" if found == {""} else "not the same"
        raise Rejected(f"{keyword} is {what} in the source objects: no result can be filed with them")
    return found.pop()


def _require_one_patient(datasets: Iterable[Dataset], series: str) -> None:
    patients = {(plain(value(d, "PatientID")), plain(value(d, "IssuerOfPatientID"))) for d in datasets}
    if len(patients) > 1:
        raise Rejected(
            f"series {series} holds objects of {len(patients)} different Patient IDs: "
            "no result is made of it; correct the series in the archive and send it again"
        )


def _header(first: Dataset, study: str) -> tuple[Dataset, list[str]]:
    header, remarks = Dataset(), []
    header.SpecificCharacterSet = "ISO_IR 192"
    header.StudyInstanceUID = study
    for keyword, (mend, required) in _KEPT.items():
        given = plain(value(first, keyword))
        mended = mend(given)
        if mended or required:
            setattr(header, keyword, mended)
        if given and not mended and not _says_unknown(keyword, given):
            remarks.append(f"{keyword} of the source is not a valid value and was left out.")
    return header, remarks


def _says_unknown(keyword: str, given: str) -> bool:
    return keyword == "PatientSex" and given.upper() in {"U", "UNKNOWN"}
