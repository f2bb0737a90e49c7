"""Names what the node makes: UIDs that come out the same again, and the equipment that answers for the object.

Making the objects of a prediction twice gives the same bytes, so that a repeated C-STORE changes nothing in an archive.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.config import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MODEL_NAME
from dicom_node.results.coding import PROCESSING_EQUIPMENT, item
from dicom_node.results.language import Language, language
from dicom_node.results.normal import as_text
from storage.facts.prediction import Algorithm, Prediction

_NAMESPACE = uuid.UUID("8d1f0c0e-6f0b-5b52-9b0a-4f1f6f0e2a77")
#: Each kind of object has a series of its own, far from those of scanners; the last two may have several.
_SERIES_NUMBERS = {
    "sr": 9001, "seg": 9002, "seg-labelmap": 9003, "sr-comprehensive": 9004, "sc": 9005, "pdf": 9006, "kos": 9007,
    "kos-rejection": 9008, "gsps": 9009, "sc-map": 9010, "sr-volumetric": 9011, "sr-text": 9012,
    "image": 9100, "pmap": 9200,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """The equipment that writes results (General Equipment module, PS3.3 C.7.5.1)."""

    serial_number: str  #: of this installation; names the device observer too
    software_version: str
    manufacturer: str = "DICOM AI node project"
    station_name: str = ""
    institution: str = ""


def uid(*names: str) -> str:
    """A UID under 2.25 (PS3.5 B.2) that follows from the names alone: the same names give the same UID."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(names)).int}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """The names of all objects of one prediction."""

    prediction: Prediction
    node: NodeIdentity
    made_at: datetime  #: when the prediction was made; its local time is what the object says
    language: Language = field(default_factory=language)  #: what people are addressed in

    def uid(self, kind: str, index: int = 0) -> str:
        """UID of the ``index``-th thing of that kind.

        The node and the time are part of it: a second node, or a node that lost its ledger, must not write other bytes
        under a UID that an archive already holds.
        """
        p = self.prediction
        at = f"{self.made_at.timestamp():.6f}"
        return uid(p.key, p.algorithm.digest, self.node.serial_number, at, kind, str(index))

    @property
    def device_uid(self) -> str:
        """Of the device observer: this node running this package, whatever its version."""
        return uid("device", self.node.serial_number, self.prediction.algorithm.package)

    def tracking_uid(self, segment: int) -> str:
        """Of one segment, the same in SR and SEG; 0 is the result as a whole."""
        return self.uid("tracking", segment)

    def tracking_id(self, segment: int) -> str:
        """The human-readable name beside the tracking UID, 64 characters at most."""
        algorithm = self.prediction.algorithm
        return f"{algorithm.package} {algorithm.version}"[:56] + (f" #{segment}" if segment else " all")

    def detection_uid(self, detection: int) -> str:
        """The tracking UID of one detection, the same in all objects."""
        return self.uid("tracking detection", detection)

    def detection_id(self, detection: int) -> str:
        """The human-readable name beside it, 64 characters at most."""
        algorithm = self.prediction.algorithm
        return f"{algorithm.package} {algorithm.version}"[:52] + f" found {detection}"

    @property
    def description(self) -> str:
        """SeriesDescription: that it is AI, which, and what it is not for (64 characters)."""
        return series_description(self.prediction.algorithm)

    @property
    def date(self) -> str:
        """DA of ``made_at``."""
        return f"{self.made_at:%Y%m%d}"

    @property
    def time(self) -> str:
        """TM of ``made_at``."""
        return f"{self.made_at:%H%M%S.%f}"


def series_description(algorithm: Algorithm) -> str:
    """``AI ct-lung-densitometry 1.0.0 (research, not for diagnosis)``; the warning is never what is cut."""
    tail = " (research, not for diagnosis)" if algorithm.research else ""
    return f"AI {algorithm.package} {algorithm.version}"[: 64 - len(tail)] + tail


def sign(dataset: Dataset, naming: Naming, kind: str, series: int = 0, instance: int = 1) -> None:
    """Write identity, series, equipment and times into an object, over whatever stood there.

    ``series`` counts those of a kind that has several, ``instance`` the objects in one.
    """
    node, algorithm = naming.node, naming.prediction.algorithm
    named = kind if not series and instance == 1 else f"{kind} {series} {instance}"
    dataset.SOPInstanceUID = naming.uid(named)
    dataset.SeriesInstanceUID = naming.uid(f"{kind} series", series)
    dataset.SeriesNumber = _SERIES_NUMBERS[kind] + series
    dataset.InstanceNumber = instance
    dataset.SeriesDescription = naming.description
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.Manufacturer = as_text(64)(node.manufacturer)
    dataset.ManufacturerModelName = MODEL_NAME
    dataset.DeviceSerialNumber = as_text(64)(node.serial_number)
    dataset.SoftwareVersions = [
        as_text(64)(node.software_version),
        as_text(64)(f"{algorithm.package} {algorithm.version}"),
    ]
    if node.station_name:
        dataset.StationName = as_text(16)(node.station_name)
    if node.institution:
        dataset.InstitutionName = as_text(64)(node.institution)
    dataset.ContributingEquipmentSequence = [_processing(naming)]
    for name in ("InstanceCreation", "Content", "Series"):
        setattr(dataset, f"{name}Date", naming.date)
        setattr(dataset, f"{name}Time", naming.time)


def stamp(dataset: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> None:
    """The file meta information of a finished object (PS3.10 7.1), written by this node."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    dataset.preamble = b"\x00" * 128


def _processing(naming: Naming) -> Dataset:
    """The model as contributing equipment (PS3.3 C.12.1.1.5)."""
    algorithm = naming.prediction.algorithm
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [item(PROCESSING_EQUIPMENT)]
    equipment.Manufacturer = as_text(64)(algorithm.manufacturer) or "unknown"
    equipment.ManufacturerModelName = as_text(64)(algorithm.package)
    equipment.SoftwareVersions = as_text(64)(algorithm.version)
    equipment.ContributionDateTime = f"{naming.made_at:%Y%m%d%H%M%S.%f}"
    equipment.ContributionDescription = f"SHA-256 of manifest and weights: {algorithm.digest}"[:1024]
    return equipment
