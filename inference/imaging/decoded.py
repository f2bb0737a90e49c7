"""Decodes compressed objects before a run asks for their pixels, into files that are read as native pixels are.

A file is there whole or not at all, and lies only as long as something may read it: to lose one costs its decoding.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inference.imaging.native import place_of
from inference.imaging.pixels import compressed_frames
from storage.facts.errors import Transient


def decode(path: Path, decoded: Path) -> int:
    """Decode all frames of an object into the folder ``decoded``. Returns its bytes; 0 where another process does it.

    Raises Irregular where it has no compressed grey-scale pixels, Transient where the object is gone or there is no
    room.
    """
    place = place_of(decoded, path)
    part = place.with_suffix(".part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            return place.stat().st_size
        file = part.open("xb")
    except FileExistsError:
        return 0
    except OSError as error:
        raise _no_room(decoded, error) from error
    try:
        with file:
            for frame in compressed_frames(path):
                file.write(np.ascontiguousarray(frame, frame.dtype.newbyteorder("<")).data)
            size = file.tell()
        part.replace(place)
    except OSError as error:
        raise _no_room(decoded, error) from error
    finally:
        part.unlink(missing_ok=True)
    return size


def _no_room(decoded: Path, error: OSError) -> Transient:
    return Transient(f"{decoded} takes no decoded pixels: {error.strerror or 'input/output error'}")
