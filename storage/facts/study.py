"""What arrives: instances, the series they form, and how urgent the reading is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

#: A DICOM header as plain data: keyword (or ``ggggeeee`` for private tags) to a value. One value is a scalar, several
#: are a list, a sequence is a list of such mappings, an absent or empty attribute has no key. DS and FD are floats, IS
#: and US ints, everything else text. Bulk data (pixels, OB/OW/UN longer than 64 bytes) is never in it.
Header = Mapping[str, Any]

#: Key of a header that is only what the index has, because the object could not be read: the reason why.
UNREADABLE = "_unreadable"

#: Key of the header of a series that went on incomplete: how many objects the source has and the node has not.
MISSING = "_missing"


class Urgency(IntEnum):
    """How soon a person should look; also the order of the node's own queue."""

    ROUTINE = 0
    HIGH = 1
    STAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One stored SOP instance, bytes as received (a Part 10 file)."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    series_uid: str
    study_uid: str
    path: str  #: relative to the data folder
    size: int  #: bytes
    digest: str  #: BLAKE3 of the data set as received, hexadecimal
    header: Header  #: what orders and groups slices; see storage.facts.study.SLICE_KEYWORDS


#: What the index keeps of every instance; the whole header is kept once a series.
SLICE_KEYWORDS = (
    "Modality",
    "ImageType",
    "InstanceNumber",
    "AcquisitionNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "PixelSpacing",
    "SliceThickness",
    "NumberOfFrames",
    "TemporalPositionIdentifier",
    "EchoNumbers",
    "ImagesInAcquisition",
    "NumberOfTemporalPositions",
    "ConcatenationUID",
    "InConcatenationNumber",
    "InConcatenationTotalNumber",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A series as the node knows it."""

    series_uid: str
    study_uid: str
    modality: str
    calling_ae: str  #: AE title of the peer that sent it
    called_ae: str  #: AE title that the peer called
    revision: int  #: 0 while first arriving; grows each time the series becomes complete
    instances: int  #: number of distinct SOP instances stored
    header: Header  #: the whole header of one representative instance; empty until complete
