"""Encodes label maps as pixel data: one bit a pixel and segment (PS3.5 8.1.1), or labels run by run (PS3.5 Annex G)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from dicom_node.results import region
from dicom_node.results.region import Labels

_LONGEST_RUN = 128
_TOGETHER = 8  #: frames packed at once: any eight end at a whole byte


def packed(labels: Labels, frames: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The frames of a BINARY segmentation, each a (plane, segment), the first pixel in the lowest bit.

    Frames follow each other without padding to a byte; the whole is padded to an even number of bytes.
    """
    whole = _pixels(labels) % 8 == 0 and not region.overlap(labels)
    written = 0
    for piece in (_by_spans if whole else _together)(labels, frames):
        written += len(piece)
        yield piece
    if written % 2:
        yield b"\0"


def _by_spans(labels: Labels, frames: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Frames of whole bytes: only the part of a plane that the segment reaches is looked at."""
    size = _pixels(labels) // 8
    reach: dict[int, npt.NDArray[np.intp]] = {}
    for plane, segment in frames:
        if plane not in reach:
            reach[plane] = region.spans(labels[plane])
        low, high = reach[plane][segment] if segment < len(reach[plane]) else (0, 0)
        first, last = int(low) // 8, -(-int(high) // 8)
        part = labels[plane].ravel()[8 * first : 8 * last]
        bits = np.packbits(part == segment, bitorder="little").tobytes()
        yield b"".join((bytes(first), bits, bytes(size - last)))


def _together(labels: Labels, frames: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Frames of any size, and of segments that overlap: eight at once, which end at a whole byte."""
    for start in range(0, len(frames), _TOGETHER):
        bits = [region.bits(labels[plane], segment).ravel() for plane, segment in frames[start : start + _TOGETHER]]
        yield np.packbits(np.concatenate(bits), bitorder="little").tobytes()


def packed_length(labels: Labels, frames: int) -> int:
    """The bytes that ``packed`` makes."""
    length = (frames * _pixels(labels) + 7) // 8
    return length + length % 2


def _pixels(labels: Labels) -> int:
    """In one frame."""
    return int(labels.shape[-2]) * int(labels.shape[-1])


def encapsulated(labels: Labels, planes: Sequence[int], bits: int) -> Iterator[bytes]:
    """Planes of a label map as RLE Lossless fragments, one a frame, behind an offset table (PS3.5 A.4).

    ``bits`` of a pixel are 8 or 16, whatever type the labels have: their values must fit.
    """
    wanted = np.dtype(f"uint{bits}")
    fragments = [run_lengths(labels[plane].astype(wanted, copy=False)) for plane in planes]
    offsets, at = [], 0
    for fragment in fragments:
        offsets.append(at)
        at += len(fragment) + 8
    yield _item(struct.pack(f"<{len(offsets)}I", *offsets) if at <= 0xFFFFFFFF else b"")
    for fragment in fragments:
        yield _item(fragment)
    yield b"\xfe\xff\xdd\xe0\0\0\0\0"


def _item(value: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(value)) + value


def run_lengths(plane: Labels) -> bytes:
    """One frame of labels in RLE Lossless, rows apart as PS3.5 G.3.1 asks, all runs at once.

    Labels of 16 bits are two segments, the higher bytes first (PS3.5 G.2). Labels come in runs. Each becomes a count
    and a value, a lone pixel too, where byte 0 says "one literal": a few bytes more than the best encoding of noise,
    and nothing more for masks.
    """
    parts = [plane] if plane.dtype.itemsize == 1 else [plane >> 8, plane & 0xFF]
    segments = [_runs(part.astype(np.uint8, copy=False)) for part in parts]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    offsets = [64, 64 + len(segments[0])][: len(segments)]
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(offsets))) + b"".join(segments)


def _runs(plane: npt.NDArray[np.uint8]) -> bytes:
    flat = np.ascontiguousarray(plane).ravel()
    change = np.empty(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=change[1:])
    change[:: plane.shape[1]] = True
    starts = np.flatnonzero(change)
    lengths = np.diff(starts, append=flat.size)
    chunks = (lengths + _LONGEST_RUN - 1) // _LONGEST_RUN
    counts = np.full(int(chunks.sum()), _LONGEST_RUN)
    counts[np.cumsum(chunks) - 1] = lengths - _LONGEST_RUN * (chunks - 1)
    runs = np.empty((counts.size, 2), np.uint8)
    runs[:, 0] = (257 - counts) & 0xFF
    runs[:, 1] = np.repeat(flat[starts], chunks)
    return runs.tobytes()
