"""Checks frames that were written by columns: all of them by what differs, some of them in full.

The bytes are read back by pydicom, so that what is judged is what will be sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dicom_node.results.frames import Frames

_IN_FULL = 32  #: frames that are judged like those of any object


def faults(header: Dataset, frames: Frames) -> Iterator[str]:
    """What is wrong with the frames together."""
    number = len(frames.items)
    if (number and header.get("NumberOfFrames") != number) or (not number and "NumberOfFrames" in header):
        yield f"NumberOfFrames is {header.get('NumberOfFrames')}, but {number} frames are described"
    if len(set(frames.items)) < number:
        yield "two frames say the same of themselves"
    wanted = _length(header, frames, number or 1)
    if frames.length is not None and frames.length != wanted:
        yield f"the pixel data have {frames.length} bytes, {wanted} are needed for the frames"


def _length(header: Dataset, frames: Frames, number: int) -> int:
    bits = number * int(header.get("Rows") or 0) * int(header.get("Columns") or 0) * frames.bits
    return (bits + 15) // 16 * 2


def sample(header: Dataset, frames: Frames) -> Dataset:
    """A small object with some of the frames, the first and the last among them, and empty pixels."""
    made = Dataset()
    made.update(header)  # elements are shared: those that differ are put anew
    made.file_meta = header.file_meta
    number = len(frames.items)
    if number:
        last = number - 1
        chosen = sorted({round(i * last / max(_IN_FULL - 1, 1)) for i in range(_IN_FULL)})
        groups = [_read(frames.items[i]) for i in chosen]
        made.add_new("PerFrameFunctionalGroupsSequence", "SQ", groups)
        number = len(groups)
        made.add_new("NumberOfFrames", "IS", number)
    if frames.length is not None:
        element, representation = frames.element
        made.add_new(0x7FE00000 + element, representation.decode(), bytes(_length(header, frames, number or 1)))
    return made


def _read(item: bytes) -> Dataset:
    return read_dataset(BytesIO(item), is_implicit_VR=False, is_little_endian=True)
