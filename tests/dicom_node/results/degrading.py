"""How real series fall short of what the standard asks: one function for each way, on the objects of a series."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID

from tests import builders

Degrade = Callable[[list[Dataset]], list[Dataset]]


def clean(sources: list[Dataset]) -> list[Dataset]:
    """As it should be."""
    return sources


def bare(sources: list[Dataset]) -> list[Dataset]:
    """Attributes of type 2, which may be empty but not missing, are missing."""
    return without(
        sources, "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge",
        "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "SpecificCharacterSet",
        "Manufacturer", "SeriesNumber", "InstanceNumber", "SeriesDescription", "StudyDescription", "BodyPartExamined",
        "PositionReferenceIndicator", "PatientOrientation",
    )  # fmt: skip


def malformed(sources: list[Dataset]) -> list[Dataset]:
    """Values that break their representations."""
    return having(
        sources, PatientSex="U", PatientAge="65", PatientBirthDate="1960", StudyDate="2026.11.01",
        StudyTime="10:15:00", StudyID="S" * 30, AccessionNumber="1" * 20, StudyDescription="x" * 90,
        PatientName="Long^" + "x" * 90, BodyPartExamined="chest, upper and lower", PatientWeight="-1",
    )  # fmt: skip


def sparse(sources: list[Dataset]) -> list[Dataset]:
    """What real exports lack besides: nothing that only describes is left."""
    return without(bare(sources), "PixelSpacing", "SliceThickness", "ImageType", "PatientPosition", "Modality")


def foreign(sources: list[Dataset]) -> list[Dataset]:
    """Names of three alphabets."""
    return having(
        sources, PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう", StudyDescription="Грудная клетка",
        ReferringPhysicianName="Müller^Jörg",
    )  # fmt: skip


def undeclared(sources: list[Dataset]) -> list[Dataset]:
    """Text in a character set that is not said."""
    named = having(sources, PatientName="Müller^Jörg", StudyDescription="Überblick")
    return without(named, "SpecificCharacterSet")


def overlong(sources: list[Dataset]) -> list[Dataset]:
    """Numbers with more digits than a decimal string has room for, as scanners write them."""
    for measures in _measures(sources):
        builders.put(measures, "SliceThickness", "2.50000001788139001")
        builders.put(measures, "PixelSpacing", ["0.75000001788139001", "0.50000001788139001"])
    return sources


def unmeasured(sources: list[Dataset]) -> list[Dataset]:
    """No pixel spacing and no thickness."""
    for measures in _measures(sources):
        without([measures], "SliceThickness", "PixelSpacing")
    return sources


def frameless(sources: list[Dataset]) -> list[Dataset]:
    """No frame of reference."""
    return without(sources, "FrameOfReferenceUID")


def unplaced(sources: list[Dataset]) -> list[Dataset]:
    """No position."""
    for place in _places(sources):
        without([place], "ImagePositionPatient")
    return sources


def undirected(sources: list[Dataset]) -> list[Dataset]:
    """No orientation."""
    for ds in sources:
        for groups in (*ds.get("SharedFunctionalGroupsSequence", ()), *ds.get("PerFrameFunctionalGroupsSequence", ())):
            without([groups], "PlaneOrientationSequence")
    return without(sources, "ImageOrientationPatient")


def placeless(sources: list[Dataset]) -> list[Dataset]:
    """Neither frame of reference nor place."""
    return frameless(undirected(unplaced(sources)))


def duplicated(sources: list[Dataset]) -> list[Dataset]:
    """Two images at one place."""
    places = list(_places(sources))
    places[1].ImagePositionPatient = places[0].ImagePositionPatient
    return sources


def tilted(sources: list[Dataset]) -> list[Dataset]:
    """Planes pushed along themselves, as a tilted gantry does."""
    return _moved(sources, lambda index: (0.0, 0.6 * index, 0.6 * index))


def uneven(sources: list[Dataset]) -> list[Dataset]:
    """Distances that are not the same."""
    return _moved(sources, lambda index: (0.3 * index**2,) * 3)


def jittered(sources: list[Dataset]) -> list[Dataset]:
    """Distances that are nearly the same."""
    return _moved(sources, lambda index: (0.02 * (-1) ** index,) * 3)


def with_localizer(sources: list[Dataset]) -> list[Dataset]:
    """One image across the others."""
    sources[-1].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    return sources


def two_patients(sources: list[Dataset]) -> list[Dataset]:
    """Objects of two patients in one series."""
    sources[-1].PatientID = "T-0002"
    return sources


def two_places(sources: list[Dataset]) -> list[Dataset]:
    """Two frames of reference."""
    sources[-1].FrameOfReferenceUID = UID(f"{builders.ROOT}.99")
    return sources


def two_series(sources: list[Dataset]) -> list[Dataset]:
    """Objects of two series."""
    sources[-1].SeriesInstanceUID = UID(f"{builders.ROOT}.98")
    return sources


def two_sizes(sources: list[Dataset]) -> list[Dataset]:
    """Matrices of two sizes."""
    ds = sources[-1]
    shape = (int(ds.Rows) // 2, int(ds.Columns))
    builders.pixels(ds, np.zeros(shape, np.int16))
    return sources


#: What can befall any series.
ANY: dict[str, Degrade] = {
    "clean": clean, "bare": bare, "malformed": malformed, "sparse": sparse, "foreign": foreign,
    "undeclared": undeclared,
}  # fmt: skip
#: What can befall one that lies in the patient.
PLACED: dict[str, Degrade] = {
    "overlong": overlong, "unmeasured": unmeasured, "frameless": frameless, "unplaced": unplaced,
    "undirected": undirected, "placeless": placeless, "duplicated": duplicated, "tilted": tilted, "uneven": uneven,
    "jittered": jittered,
}  # fmt: skip
#: What can befall one of several objects.
SEVERAL: dict[str, Degrade] = {
    "with localizer": with_localizer, "two patients": two_patients, "two frames of reference": two_places,
    "two series": two_series, "two sizes": two_sizes,
}  # fmt: skip
#: Where patients, series or matrices are mixed, no result can be said: it has failed.
MIXED = frozenset({"two patients", "two series", "two sizes"})


def having(sources: list[Dataset], **values: str) -> list[Dataset]:
    """With values, valid or not."""
    for ds in sources:
        for keyword, value in values.items():
            builders.put(ds, keyword, value)
    return sources


def without(sources: list[Dataset], *keywords: str) -> list[Dataset]:
    """Without elements."""
    for ds in sources:
        for keyword in keywords:
            if keyword in ds:
                delattr(ds, keyword)
    return sources


def _measures(sources: Sequence[Dataset]) -> Iterator[Dataset]:
    """The items that say spacing and thickness."""
    for ds in sources:
        found = [
            item
            for groups in (
                *ds.get("SharedFunctionalGroupsSequence", ()),
                *ds.get("PerFrameFunctionalGroupsSequence", ()),
            )
            for item in groups.get("PixelMeasuresSequence", ())
        ]
        yield from found or [ds]


def _places(sources: Sequence[Dataset]) -> Iterator[Dataset]:
    """The items that say a position."""
    for ds in sources:
        groups = ds.get("PerFrameFunctionalGroupsSequence")
        yield from [ds] if groups is None else [group.PlanePositionSequence[0] for group in groups]


def _moved(sources: list[Dataset], shift: Callable[[int], tuple[float, float, float]]) -> list[Dataset]:
    for index, place in enumerate(_places(sources)):
        moved = np.add(place.ImagePositionPatient, shift(index))
        place.ImagePositionPatient = [f"{value:.6f}" for value in moved]
    return sources
