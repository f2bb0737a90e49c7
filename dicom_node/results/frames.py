"""Writes the frames of a large multi-frame object by columns: what differs between frames is patched into bytes.

A functional-group item (PS3.3 C.7.6.16) of an ordinary writer costs most of a millisecond, and a segmentation of a
whole body has thousands that differ in four numbers. Here an item is encoded by pydicom once for each length of its
values, and what a frame has of its own is overwritten in place: the bytes are those that the ordinary writer makes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from storage.facts.errors import Rejected

_LONGEST = 0xFFFFFFFE  #: value length of an element, bytes (PS3.5 7.1.1)
_INDEX = b"\x20\x00\x57\x91UL"  #: Dimension Index Values
_PLACE = b"\x20\x00\x32\x00DS"  #: Image Position (Patient)
_UID = b"\x08\x00\x55\x11UI"  #: Referenced SOP Instance UID
_FRAME = b"\x08\x00\x60\x11IS"  #: Referenced Frame Number
_SEGMENT = b"\x62\x00\x0b\x00US"  #: Referenced Segment Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """An image that frames lie on, as their items say it."""

    sop_instance_uid: str
    frame: int | None  #: 1-based, of a multi-frame image
    position: tuple[str, str, str]  #: DS as written, mm


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """All that follows the header of an image object."""

    #: Of the Per-frame Functional Groups Sequence, encoded, without their item tags; none for a single-frame object.
    items: Sequence[bytes]
    pixels: Callable[[], Iterator[bytes]]  #: the value of the pixel data, piece by piece; can be asked for again
    length: int | None  #: of that value, bytes; None when it is encapsulated (PS3.5 A.4)
    bits: int = 1  #: of a pixel
    element: tuple[int, bytes] = (0x0010, b"OB")  #: element number and representation of the pixel data


class Items:
    """Encodes items of the Per-frame Functional Groups Sequence after an exemplar."""

    def __init__(self, exemplar: Dataset, planes: Sequence[Plane]) -> None:
        self._exemplar = deepcopy(exemplar)
        self._segmented = "SegmentIdentificationSequence" in exemplar
        self._templates: dict[tuple[int, ...], bytes] = {}
        self._planes = [self._of_plane(plane) for plane in planes]

    def item(self, plane: int, index: Sequence[int], segment: int) -> bytes:
        """The item of a frame: its plane by position, its Dimension Index Values, its segment's number."""
        encoded, at_index, at_segment = self._planes[plane]
        made = bytearray(encoded)
        struct.pack_into(f"<{len(index)}I", made, at_index, *index)
        if self._segmented:
            struct.pack_into("<H", made, at_segment, segment)
        return bytes(made)

    def _of_plane(self, plane: Plane) -> tuple[bytes, int, int]:
        values = _padded(plane)
        lengths = tuple(len(value) for value in values.values())
        if lengths not in self._templates:
            self._templates[lengths] = self._encode(plane)
        made = bytearray(self._templates[lengths])
        for header, value in values.items():
            at = _at(made, header)
            made[at : at + len(value)] = value
        encoded = bytes(made)
        return encoded, _at(encoded, _INDEX), _at(encoded, _SEGMENT) if self._segmented else 0

    def _encode(self, plane: Plane) -> bytes:
        item = self._exemplar
        source = item.DerivationImageSequence[0].SourceImageSequence[0]
        source.ReferencedSOPInstanceUID = plane.sop_instance_uid
        if plane.frame is not None:
            source.ReferencedFrameNumber = plane.frame
        item.PlanePositionSequence[0].ImagePositionPatient = list(plane.position)
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        with config.disable_value_validation():
            write_dataset(buffer, item)
        return buffer.getvalue()


def _padded(plane: Plane) -> dict[bytes, bytes]:
    """The values of a plane, padded to even length as their representations ask (PS3.5 6.2)."""
    given = {_UID: (plane.sop_instance_uid, b"\0"), _PLACE: ("\\".join(plane.position), b" ")}
    if plane.frame is not None:
        given[_FRAME] = (str(plane.frame), b" ")
    encoded = {header: (text.encode("ascii"), pad) for header, (text, pad) in given.items()}
    return {header: value + pad * (len(value) % 2) for header, (value, pad) in encoded.items()}


def _at(item: bytes | bytearray, header: bytes) -> int:
    """Where the value of an element begins that an item has exactly once."""
    if item.count(header) != 1:
        raise Rejected(f"the exemplar of a frame has element {header[:4].hex()} {item.count(header)} times, not once")
    return item.index(header) + len(header) + 2


def parts(header: Dataset, frames: Frames | None) -> Iterator[bytes]:
    """The Part 10 file of an object, piece by piece, in Explicit VR Little Endian.

    ``header`` is the whole object when there are no ``frames``. Raises Rejected for more than DICOM can hold.
    """
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    yield buffer.getvalue()
    if frames is None:
        return
    yield from _groups(header, frames)
    length = 0xFFFFFFFF if frames.length is None else frames.length
    if (frames.length or 0) > _LONGEST:
        raise Rejected(f"{header.SOPInstanceUID} would have more than {_LONGEST} bytes in one element: too many frames")
    number, representation = frames.element
    yield struct.pack("<HH2sHI", 0x7FE0, number, representation, 0, length)
    yield from frames.pixels()


def _groups(header: Dataset, frames: Frames) -> Iterator[bytes]:
    if not frames.items:
        return
    items = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(item)) + item for item in frames.items)
    if len(items) > _LONGEST:
        raise Rejected(f"{header.SOPInstanceUID} would have more than {_LONGEST} bytes in one element: too many frames")
    yield struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, len(items)) + items
