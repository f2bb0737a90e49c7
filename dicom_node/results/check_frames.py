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
    if header.get("NumberOfFrames") != len(frames.items) or not frames.items:
        yield f"NumberOfFrames is {header.get('NumberOfFrames')}, but {len(frames.items)} frames are described"
    if len(set(frames.items)) < len(frames.items):
        yield "two frames say the same of themselves"
    bits = len(frames.items) * int(header.get("Rows") or 0) * int(header.get("Columns") or 0)
    wanted = (bits + 7) // 8
    if frames.length is not None and frames.length != wanted + wanted % 2:
        yield f"PixelData has {frames.length} bytes, {wanted + wanted % 2} are needed for its frames"


def sample(header: Dataset, frames: Frames) -> Dataset:
    """A small object with some of the frames, the first and the last among them, and empty pixels."""
    made = Dataset()
    made.update(header)  # elements are shared: those that differ are put anew
    made.file_meta = header.file_meta
    last = len(frames.items) - 1
    chosen = sorted({round(i * last / max(_IN_FULL - 1, 1)) for i in range(_IN_FULL)})
    groups = [_read(frames.items[i]) for i in chosen if i >= 0]
    made.add_new("PerFrameFunctionalGroupsSequence", "SQ", groups)
    made.add_new("NumberOfFrames", "IS", len(groups))
    bits = len(groups) * int(header.get("Rows") or 0) * int(header.get("Columns") or 0)
    if frames.length is not None:
        made.PixelData = bytes((bits + 15) // 16 * 2)
    return made


def _read(item: bytes) -> Dataset:
    return read_dataset(BytesIO(item), is_implicit_VR=False, is_little_endian=True)
