"""The header walk beside pydicom, on data sets of every encoding: the same values, or none."""

from __future__ import annotations

import random
import struct
import warnings
import zlib
from io import BytesIO
from typing import Any

import pytest
from pydicom import config
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue

from dicom_node.receive import head

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
SHORT = [
    "AE",
    "AS",
    "AT",
    "CS",
    "DA",
    "DS",
    "DT",
    "FL",
    "FD",
    "IS",
    "LO",
    "LT",
    "PN",
    "SH",
    "SL",
    "SS",
    "ST",
    "TM",
    "UI",
    "UL",
    "US",
]
LONG = ["OB", "OD", "OF", "OL", "OV", "OW", "SV", "UC", "UN", "UR", "UT", "UV"]
NUMBERS = {"DS": ["1.5", "-2", "1e3", " 7 ", "+.5", "1E-2", "00012.50"], "IS": ["1", "-7", " 12 ", "+3", "0004"]}
ODD = [b"nan", b"1_0 ", b"1\\\\2", b"1\\2\\", b"\\", b"  ", b"1e999 ", b"7.0 ", b"\xe4", b"\1\0\0", b"\2\0\0\0"]
END, ITEM, END_OF_ITEM = 0xFFFEE0DD, 0xFFFEE000, 0xFFFEE00D
WANTED = {tag: keyword_for_tag(tag) for tag in head._READERS}


def element(tag: int, vr: str, value: bytes, syntax: str, *, undefined: bool = False) -> bytes:
    """A data element (PS3.5 7.1), whatever its value is."""
    order = ">" if syntax == BIG else "<"
    length = 0xFFFFFFFF if undefined else len(value)
    start = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT or tag >> 16 == 0xFFFE:
        return start + struct.pack(f"{order}L", length) + value
    if vr in SHORT:
        return start + vr.encode() + struct.pack(f"{order}H", length) + value
    return start + vr.encode() + b"\0\0" + struct.pack(f"{order}L", length) + value


def sequence(tag: int, draw: random.Random, syntax: str, depth: int) -> bytes:
    """A sequence of any kind: lengths defined or not, as UN, nested, empty."""
    unknown = syntax == EXPLICIT and draw.random() < 0.2
    inside = draw.choice([IMPLICIT, IMPLICIT, EXPLICIT]) if unknown else syntax
    undefined, items = unknown or draw.random() < 0.5, b""
    for _ in range(draw.randint(0, 3)):
        content = others(draw, inside, depth + 1, draw.randint(1, 3))
        if draw.random() < 0.5:
            items += element(ITEM, "", content, syntax)
        else:
            items += element(ITEM, "", content, syntax, undefined=True) + element(END_OF_ITEM, "", b"", syntax)
    items += element(END, "", b"", syntax) if undefined else b""
    return element(tag, "UN" if unknown else "SQ", items, syntax, undefined=undefined)


def others(draw: random.Random, syntax: str, depth: int, number: int) -> bytes:
    """Private elements of every VR, in order."""
    made = [element(0x00090010, "LO", b"MAKER ", syntax)]
    for tag in sorted(draw.sample(range(0x00091001, 0x000910FF), number)):
        if draw.random() < 0.4 and depth < 5:
            made.append(sequence(tag, draw, syntax, depth))
        elif draw.random() < 0.1 and syntax != IMPLICIT:
            fragments = element(ITEM, "", b"", syntax) + element(ITEM, "", draw.randbytes(20), syntax)
            made.append(element(tag, "OB", fragments + element(END, "", b"", syntax), syntax, undefined=True))
        else:
            vr = draw.choice([*SHORT, *LONG])
            size = draw.choice([0, 2, 100, 0x4C4C if vr in SHORT or depth else 70_000])  # 0x4C4C: "LL", like a VR
            made.append(element(tag, vr, draw.randbytes(size), syntax))
    return b"".join(made)


def a_value(draw: random.Random, vr: str, syntax: str) -> tuple[bytes, Any]:
    """The bytes of a value, and what it says."""
    if vr == "US":
        numbers = [draw.randrange(65536) for _ in range(draw.choice([1, 1, 1, 2]))]
        raw = struct.pack((">" if syntax == BIG else "<") + "H" * len(numbers), *numbers)
        return raw, numbers if len(numbers) > 1 else numbers[0]
    number = draw.choice([1, 1, 2, 3, 6])
    if vr in NUMBERS:
        parts = [draw.choice(NUMBERS[vr]) for _ in range(number)]
        said: list[Any] = [float(part) if vr == "DS" else int(part) for part in parts]
    else:
        texts = [f"1.2.{draw.randrange(9**9)}"] if vr == "UI" else ["CT", "ORIGINAL", "AX ", "A B"]
        parts = [draw.choice(texts) for _ in range(1 if vr == "UI" else number)]
        said = [part.strip() for part in parts]
    raw = "\\".join(parts).encode()
    return raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2), said if len(said) > 1 else said[0]


def a_data_set(draw: random.Random, syntax: str) -> tuple[bytes, dict[str, Any]]:
    """A valid data set of that encoding, and what the index needs of it."""
    said: dict[str, Any] = {}
    inside = EXPLICIT if syntax == DEFLATED else syntax
    made = {0x00090000: others(draw, inside, 0, draw.randint(0, 6))}
    for tag, keyword in WANTED.items():
        if draw.random() < 0.85:
            vr = dictionary_VR(tag)
            raw, said[keyword] = a_value(draw, vr, inside)
            written = "UN" if inside == EXPLICIT and draw.random() < 0.05 else vr
            made[tag] = element(tag, written, raw, inside)
    made[0x00081115] = element(0x00081115, "SQ", b"", inside)
    made[0x00100010] = element(0x00100010, "PN", "山田".encode("shift_jis") + b"\\\x1b", inside)
    made[0x7FE00010] = element(0x7FE00010, "OW", draw.randbytes(64), inside)
    raw = b"".join(made[tag] for tag in sorted(made))
    if syntax == DEFLATED:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        raw = deflate.compress(raw) + deflate.flush()
    return raw, said


def by_pydicom(raw: bytes, syntax: str) -> dict[str, Any]:
    """What pydicom makes of a whole data set, in the index's terms; what it cannot convert is left out."""
    if syntax == DEFLATED:
        raw = zlib.decompress(raw, -zlib.MAX_WBITS)
    found = {}
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        dataset = read_dataset(BytesIO(raw), syntax == IMPLICIT, syntax != BIG)
        for tag, keyword in WANTED.items():
            try:
                value = _meant(_plain(dataset[tag].value), dictionary_VR(tag)) if tag in dataset else None
            except (BytesLengthException, ValueError, TypeError, OverflowError):
                continue
            if value is not None:
                found[keyword] = value
    return found


def _meant(value: Any, vr: str) -> Any:
    """Texts that are numbers, and several texts that another VR keeps as one."""
    if isinstance(value, str) and "\\" in value:
        value = [part.strip(" \0") for part in value.split("\\")]
    if vr not in ("DS", "IS", "US"):
        return value
    convert = float if vr == "DS" else int
    return [convert(one) for one in value] if isinstance(value, list) else None if value is None else convert(value)


def _plain(value: Any) -> Any:
    if isinstance(value, MultiValue | list):
        plain = ["" if (one := _plain(item)) is None else one for item in value]
        if plain and plain[-1] == "" and not isinstance(plain[0], str):
            plain.pop()  # numbers with a backslash too many
        return plain
    if isinstance(value, int | float):
        return float(value) if isinstance(value, float) else int(value)
    return str(value).strip(" \0") or None if isinstance(value, str) else None


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
def test_of_a_valid_data_set_all_that_is_wanted_is_read_as_it_was_written(syntax: str) -> None:
    for seed in range(250):
        raw, said = a_data_set(random.Random(seed), syntax)
        assert head.read(raw, syntax) == said, seed
        glanced = head.glance(memoryview(raw), syntax)
        assert glanced in (None, said), seed
        assert by_pydicom(raw, syntax) == said, seed


def _damaged(draw: random.Random, syntax: str) -> bytes:
    """A data set that some writer got wrong: another VR, out of order, twice, a stray end, odd numbers, cut off."""
    inside = EXPLICIT if syntax == DEFLATED else syntax
    made = [others(draw, inside, 3, 1)]
    for tag in WANTED:
        vr = dictionary_VR(tag)
        raw, _ = a_value(draw, vr, inside)
        if draw.random() < 0.15:
            odd = [
                b"nan",
                b"1_0 ",
                b"1\\\\2",
                b"1\\2\\",
                b"\\",
                b"  ",
                b"1e999 ",
                b"7.0 ",
                b"\xe4",
                b"\1\0\0",
                b"\2\0\0\0",
            ]
            raw = draw.choice(odd)
        elif draw.random() < 0.15:
            vr = draw.choice([*SHORT, *LONG])
            raw = draw.choice([raw, struct.pack(">L" if inside == BIG else "<L", 7), struct.pack("<d", 2.0)])
        made.append(element(tag, vr, raw, inside))
        if draw.random() < 0.04:
            made.append(
                draw.choice([made[-1], element(END, "", b"", inside), element(0x00080000, "UL", b"1234", inside)])
            )
    if draw.random() < 0.2:
        a, b = draw.sample(range(len(made)), 2)
        made[a], made[b] = made[b], made[a]
    raw = b"".join(made) + element(0x7FE00010, "OW", bytes(8), inside)
    return raw[: draw.randrange(len(raw))] if draw.random() < 0.1 else raw


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_of_a_data_set_that_is_odd_a_value_is_read_as_pydicom_reads_it_or_not_at_all(syntax: str) -> None:
    for seed in range(1500):
        raw = _damaged(random.Random(seed), syntax)
        try:
            found = head.read(raw, syntax)
        except head.Truncated:
            continue
        expected = by_pydicom(raw, syntax)
        assert {k: v for k, v in found.items() if v != expected.get(k)} == {}, seed
