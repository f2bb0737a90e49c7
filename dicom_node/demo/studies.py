"""What the demo sends: its own three studies, or the user's files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from dicom_node.deliver.destination import Outgoing
from dicom_node.demo import brain, phantom
from dicom_node.demo.downloads import Downloads
from storage.facts.errors import Rejected

_WANTED = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "Modality"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A value that is known beforehand, beside which the reported one is shown."""

    code: str  #: code value of the measurement
    what: str
    value: float
    unit: str
    digits: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One study to be sent."""

    title: str
    study_uid: str
    modality: str
    files: tuple[Outgoing, ...]
    truth: tuple[Truth, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A study that is written to disk only when it is its turn."""

    title: str
    write: Callable[[], Study]


def own(folder: Path, downloads: Downloads) -> list[Planned]:
    """The demo's three studies: a brain, a chest whose truth is known, and one that must be refused."""

    def the_brain() -> Study:
        brain.write(downloads.brain_template, folder / "brain")
        return _one("Brain MR (average of 152)", folder / "brain")

    def the_chest() -> Study:
        truth = phantom.write(folder / "chest")
        return _one("Chest CT (phantom)", folder / "chest", _truths(truth))

    def the_slab() -> Study:
        phantom.write(folder / "slab", seed=2, slab=True)
        return _one("Chest slab (to be refused)", folder / "slab")

    return [
        Planned(title="Brain MR (average of 152)", write=the_brain),
        Planned(title="Chest CT (phantom)", write=the_chest),
        Planned(title="Chest slab (to be refused)", write=the_slab),
    ]


def _truths(truth: phantom.PhantomTruth) -> tuple[Truth, ...]:
    noise = f"expected under noise of {truth.noise_hu:.0f} HU"
    return (
        Truth(code="118565006", what="Lung volume", value=truth.volume_ml, unit="mL", digits=1),
        Truth(code="112181", what="Mean lung density", value=truth.mean_hu, unit="HU", digits=1),
        Truth(code="LAA-950", what="%LAA-950", value=truth.noisy_laa950_percent, unit="%", digits=2, note=noise),
        Truth(code="PERC15", what="Perc15", value=truth.noisy_perc15_hu, unit="HU", digits=1, note=noise),
    )


def _one(title: str, folder: Path, truth: tuple[Truth, ...] = ()) -> Study:
    [found] = of_folder(folder)
    return Study(title=title, study_uid=found.study_uid, modality=found.modality, files=found.files, truth=truth)


def of_folder(folder: Path) -> list[Study]:
    """The studies whose files lie under a folder; what is not DICOM is passed over. Raises Rejected when none do."""
    files: dict[str, list[Outgoing]] = {}
    modalities: dict[str, str] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        known = _read(path)
        if known is None:
            continue
        study_uid, modality, outgoing = known
        files.setdefault(study_uid, []).append(outgoing)
        modalities.setdefault(study_uid, modality)
    if not files:
        raise Rejected(f"there is no DICOM file under {folder}")
    return [
        Study(title=f"Study …{uid[-12:]}", study_uid=uid, modality=modalities[uid], files=tuple(found))
        for uid, found in files.items()
    ]


def _read(path: Path) -> tuple[str, str, Outgoing] | None:
    try:
        with pydicom.config.disable_value_validation():
            header = pydicom.dcmread(path, specific_tags=_WANTED, stop_before_pixels=True)
            outgoing = Outgoing(
                path=path,
                sop_class_uid=str(header.SOPClassUID),
                sop_instance_uid=str(header.SOPInstanceUID),
                transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
            )
            return str(header.StudyInstanceUID), str(header.get("Modality", "")), outgoing
    except (InvalidDicomError, AttributeError, OSError, ValueError, EOFError):
        return None


def planned(studies: Sequence[Study]) -> list[Planned]:
    """Studies that are on disk already."""
    return [Planned(title=study.title, write=partial(_ready, study)) for study in studies]


def _ready(study: Study) -> Study:
    return study
