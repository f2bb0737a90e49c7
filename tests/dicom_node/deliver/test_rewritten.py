"""What is sent in implicit VR says what the file says in explicit VR: value for value, whatever the values are."""

from __future__ import annotations

import io
import json
import random
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.datadict import dictionary_VR

from dicom_node.deliver import body
from dicom_node.deliver.destination import Outgoing
from dicom_node.deliver.dimse import send
from dicom_node.deliver.implicit import Unwritable, write_implicit
from storage.facts.errors import Rejected
from tests.dicom_node.deliver.making import ROOT, free_port, to
from tests.dicom_node.deliver.test_foreign import _program, _running

CAPTURE, EXPLICIT, IMPLICIT = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
BYTES = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "AT": 4, "SV": 8, "UV": 8, "OW": 2, "OF": 4, "OL": 4,
         "OD": 8, "OV": 8, "OB": 2, "UN": 2}  # fmt: skip
TEXT = {"CS", "DA", "DS", "IS", "LO", "LT", "PN", "UC", "UR", "UT"}
#: Tags in a data set's order, with VRs that a file may give them: some ambiguous by the dictionary, some not its own.
TAGS = {
    0x00080008: ["CS"], 0x00080020: ["DA"], 0x00080119: ["UC"], 0x00081115: ["SQ"], 0x00081190: ["UR"],
    0x00100010: ["PN"], 0x00104000: ["LT"], 0x00180050: ["DS", "UN"], 0x00181151: ["IS"], 0x00189087: ["FD"],
    0x00209228: ["UL"], 0x00280009: ["AT"], 0x00280106: ["US", "SS"], 0x00280120: ["US", "SS"], 0x00281201: ["OW"],
    0x00283006: ["US", "OW", "UN"], 0x0040A160: ["UT", "UN"], 0x0040A730: ["SQ", "UN"], 0x00660016: ["OF"],
    0x00660040: ["OL"], 0x00720082: ["SV"], 0x00720083: ["UV"],
}  # fmt: skip
PRIVATE = ["SQ", "UN", "OB", "LO", "US", "FD", "UT", "DS", "SV", "OV"]
Tree = dict[int, "bytes | list[Tree]"]


def header(tag: int, vr: str, length: int, *, explicit: bool = True) -> bytes:
    if not explicit:
        return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)
    long = vr in LONG
    size = struct.pack("<HL" if long else "<H", *([0] if long else []), length)
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode() + size


def a_value(draw: random.Random, vr: str) -> bytes:
    if vr in BYTES:
        return draw.randbytes(BYTES[vr] * draw.choice([0, 1, 1, 3, 40]))
    if vr in ("UT", "UC") and draw.random() < 0.2:
        return b"x" * 70_000
    said = {"DA": b"20261101", "DS": b"1.50", "IS": b"0007", "CS": b"ORIGINAL", "PN": b"D\xf6e^J"}
    return draw.choice([b"", said.get(vr, b"\xe4\x1b$B= x"[: draw.choice([2, 6])])])


def a_data_set(draw: random.Random, depth: int = 0, *, explicit: bool = True) -> bytes:
    """A data set as a file may hold it; inside of a UN it is implicit (PS3.5 6.2.2)."""
    tags = {tag: draw.choice(vrs) for tag, vrs in TAGS.items() if draw.random() < (0.2 if depth else 0.6)}
    if draw.random() < 0.5:
        tags |= {0x00090010: "LO"} | {0x00091000 + draw.randrange(1, 255): draw.choice(PRIVATE) for _ in range(3)}
    if draw.random() < 0.2:
        tags[0x00080000] = "UL"
    made = b""
    for tag, vr in sorted(tags.items()):
        if vr == "SQ" or (vr == "UN" and tag == 0x0040A730):
            if depth > 3:
                continue
            items = b"".join(an_item(draw, depth, explicit=explicit and vr == "SQ") for _ in range(draw.randrange(3)))
            known = draw.random() < 0.5 and (explicit or not tag >> 16 & 1)
            length = len(items) if known else 0xFFFFFFFF
            end = b"" if known else b"\xfe\xff\xdd\xe0" + bytes(4)
            made += header(tag, vr, length, explicit=explicit) + items + end
        else:
            value = b"ACME 1.0" if tag == 0x00090010 else a_value(draw, vr)
            value = bytes(4) if vr == "UL" and not tag & 0xFFFF else value
            value += b"" if explicit else b" " * (len(value) % 2)
            made += header(tag, vr, len(value), explicit=explicit) + value
    return made


def an_item(draw: random.Random, depth: int, *, explicit: bool) -> bytes:
    inside = a_data_set(draw, depth + 1, explicit=explicit)
    if draw.random() < 0.5:
        return b"\xfe\xff\x00\xe0" + struct.pack("<L", len(inside)) + inside
    return b"\xfe\xff\x00\xe0" + b"\xff" * 4 + inside + b"\xfe\xff\x0d\xe0" + bytes(4)


def known(tag: int) -> str:
    return "" if tag >> 16 & 1 or not tag & 0xFFFF else dictionary_VR(tag)


class Walk:
    """Reads a data set into a tree of raw values, by no library."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def data_set(self, end: int | None, *, explicit: bool) -> Tree:
        tree: Tree = {}
        while self.at < (len(self.raw) if end is None else end):
            group, element = struct.unpack_from("<HH", self.raw, self.at)
            tag = group << 16 | element
            if tag == 0xFFFEE00D:
                self.at += 8
                break
            vr, length = self.head(explicit=explicit)
            if vr == "SQ" or length == 0xFFFFFFFF or (vr == "UN" and known(tag) == "SQ"):
                tree[tag] = self.items(length, explicit=explicit and vr == "SQ")
                continue
            if element:
                padding = b" " if vr in TEXT else b"\0"
                tree[tag] = self.raw[self.at : self.at + length] + padding * (length % 2)
            self.at += length
        return tree

    def head(self, *, explicit: bool) -> tuple[str, int]:
        vr = self.raw[self.at + 4 : self.at + 6].decode("latin-1") if explicit else "UN"
        long, at = (vr in LONG, self.at + 6) if explicit else (True, self.at + 2)
        self.at = at + (6 if long else 2)
        return vr, struct.unpack_from("<L", self.raw, at + 2)[0] if long else struct.unpack_from("<H", self.raw, at)[0]

    def items(self, length: int, *, explicit: bool) -> list[Tree]:
        end, found = None if length == 0xFFFFFFFF else self.at + length, []
        while end is None or self.at < end:
            element, size = struct.unpack_from("<xxHL", self.raw, self.at)
            self.at += 8
            if element == 0xE0DD:
                break
            found.append(self.data_set(None if size == 0xFFFFFFFF else self.at + size, explicit=explicit))
        return found


def a_file(folder: Path, name: str, data: bytes, syntax: str = EXPLICIT, uid: str = f"{ROOT}.9") -> Outgoing:
    """A Part 10 file of a data set in bytes."""
    meta = b""
    for tag, value in ((0x00020002, CAPTURE), (0x00020003, uid), (0x00020010, syntax), (0x00020012, "1.2")):
        raw = value.encode() + b"\0" * (len(value) % 2)
        meta += header(tag, "UI", len(raw)) + raw
    path = folder / name
    path.write_bytes(bytes(128) + b"DICM" + header(0x00020000, "UL", 4) + struct.pack("<L", len(meta)) + meta + data)
    return Outgoing(path=path, sop_class_uid=CAPTURE, sop_instance_uid=uid, transfer_syntax_uid=syntax)


def data_set_of(path: Path) -> bytes:
    raw = path.read_bytes()
    return raw[144 + struct.unpack_from("<L", raw, 140)[0] :]


def implicit(raw: bytes) -> bytes:
    target = io.BytesIO()
    write_implicit(io.BytesIO(raw), target)
    return target.getvalue()


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_every_value_is_the_same_in_implicit_vr(first: int) -> None:
    for seed in range(first, first + 100):
        raw = a_data_set(random.Random(seed))
        expected = Walk(raw).data_set(None, explicit=True)
        assert Walk(implicit(raw)).data_set(None, explicit=False) == expected, seed


def unpadded(tree: Tree) -> Tree:
    """DCMTK pads some texts with zeros."""
    return {
        tag: value.rstrip(b" \0") if isinstance(value, bytes) else [unpadded(one) for one in value]
        for tag, value in tree.items()
    }


def test_dcmtk_reads_the_same_in_both(tmp_path: Path) -> None:
    program = _program("dcmconv")
    for seed in range(40):
        raw = a_data_set(random.Random(seed))
        read = []
        for name, data, syntax in (("explicit", raw, EXPLICIT), ("implicit", implicit(raw), IMPLICIT)):
            a_file(tmp_path, name, data, syntax)
            line = [program, "+ti", "-e", "-g", str(tmp_path / name), str(tmp_path / "read")]
            subprocess.run(line, check=True, capture_output=True)
            read.append(unpadded(Walk(data_set_of(tmp_path / "read")).data_set(None, explicit=False)))
        assert read[0] == read[1], seed


def shown(number: int) -> bytes:
    """An object that an archive takes, with values that others mend, cut or lose."""
    uid = f"{ROOT}.{number}".encode()
    uid += b"\0" * (len(uid) % 2)
    elements: list[tuple[int, str, bytes]] = [
        (0x00080005, "CS", b"ISO_IR 192"), (0x00080016, "UI", CAPTURE.encode() + b"\0"), (0x00080018, "UI", uid),
        (0x00080060, "CS", b"OT"), (0x00090010, "LO", b"ACME 1.0"), (0x00091001, "SV", b"\xff" * 8),
        (0x00100010, "PN", "Müller^Zoë".encode()), (0x00100020, "LO", b"4711"),
        (0x00180050, "DS", b"+01.50"), (0x0020000D, "UI", b"1.2.3.4\0"), (0x0020000E, "UI", b"1.2.3.4.5\0"),
        (0x00280010, "US", b"\4\0"), (0x00280011, "US", b"\4\0"), (0x00280100, "US", b"\x08\0"),
        (0x00280106, "SS", b"\xff\xff"), (0x00283006, "OW", b"\1\0\2\0"),
        (0x0040A160, "UT", b"x" * 70_000), (0x7FE00010, "OB", bytes(range(16))),
    ]  # fmt: skip
    return b"".join(header(tag, vr, len(value)) + value for tag, vr, value in elements)


def test_storescp_gets_each_value_in_implicit_vr(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "storescp"
    folder.mkdir()
    program = Path(_program("dcmdump")).with_name("storescp")  # pynetdicom installs another one of that name
    line = [str(program), "+xi", "-od", str(folder), "--bit-preserving", "--aetitle", "SCP", str(port)]
    data = {f"{ROOT}.{n}": shown(n) if n < 2 else shown(n) + a_private(n) for n in range(5)}
    files = [a_file(tmp_path, f"{n}.dcm", raw, uid=uid) for n, (uid, raw) in enumerate(data.items())]
    deflated = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = deflated.compress(shown(9)) + deflated.flush()
    files.append(a_file(tmp_path, "9.dcm", packed + b"\0" * (len(packed) % 2), body.DEFLATED, f"{ROOT}.9"))
    data[f"{ROOT}.9"] = shown(9)
    with _running(line, port, "SCP", tmp_path / "log"):
        sent = send(files, to(port, ae_title="SCP"))

    assert [one.status for one in sent] == [0] * 6
    stored = {path.name.partition(".")[2]: path for path in folder.iterdir()}
    for uid, raw in data.items():
        assert str(dcmread(stored[uid]).file_meta.TransferSyntaxUID) == IMPLICIT
        got = Walk(data_set_of(stored[uid])).data_set(None, explicit=False)
        assert got == Walk(raw).data_set(None, explicit=True)


def a_private(seed: int) -> bytes:
    """A private sequence behind the pixels, which a reader of implicit VR knows by its ends alone."""
    item = an_item(random.Random(seed), 2, explicit=True)
    creator = header(0x7FE10010, "LO", 4) + b"ACME"
    return creator + header(0x7FE11001, "SQ", len(item)) + item


def test_orthanc_gets_each_value_in_implicit_vr(tmp_path: Path) -> None:
    program, port = _program("Orthanc"), free_port()
    settings = {
        "Name": "test", "StorageDirectory": str(tmp_path / "db"), "IndexDirectory": str(tmp_path / "db"),
        "Plugins": [], "HttpServerEnabled": False, "DicomAet": "ORTHANC", "DicomPort": port,
        "DicomAlwaysAllowStore": True, "AcceptedTransferSyntaxes": [IMPLICIT],
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    files = [a_file(tmp_path, f"{n}.dcm", shown(n), uid=f"{ROOT}.{n}") for n in range(3)]
    with _running([program, str(tmp_path / "orthanc.json")], port, "ORTHANC", tmp_path / "log"):
        sent = send(files, to(port, ae_title="ORTHANC"))

    assert [one.status for one in sent] == [0] * 3
    stored = [path for path in (tmp_path / "db").rglob("*") if path.is_file() and path.read_bytes()[128:132] == b"DICM"]
    assert {str(dcmread(path).SOPInstanceUID) for path in stored} == {file.sop_instance_uid for file in files}
    for path in stored:
        number = int(str(dcmread(path).SOPInstanceUID).rpartition(".")[2])
        assert str(dcmread(path).file_meta.TransferSyntaxUID) == IMPLICIT
        got = Walk(data_set_of(path)).data_set(None, explicit=False)
        assert got == Walk(shown(number)).data_set(None, explicit=True)


ITEM = b"\xfe\xff\x00\xe0"
DEEP = b"".join(header(0x0040A730, "SQ", 0xFFFFFFFF) + ITEM + b"\xff" * 4 for _ in range(200))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (header(0x7FE00010, "OB", 0xFFFFFFFF) + ITEM + bytes(4), "its pixels are compressed"),
        (header(0x00080119, "UC", 0xFFFFFFFF), "a value has no length"),
        (b"\x08\0\x60\0ZZ\2\0CT", "no value representation"),
        (header(0x00080060, "CS", 4) + b"CT", "ends within a value"),
        (header(0x00080060, "CS", 2)[:7], "ends within an element"),
        (b"\x08\0", "ends within an element"),
        (header(0x0040A730, "SQ", 6) + ITEM + bytes(4), "shorter than what it holds"),
        (header(0x0040A730, "SQ", 8) + b"\x08\0\x60\0" + bytes(4), "holds what is no item"),
        (DEEP, "too deep"),
    ],
)
def test_what_cannot_be_rewritten_is_refused_with_the_reason(tmp_path: Path, raw: bytes, why: str) -> None:
    with pytest.raises(Unwritable, match=why):
        implicit(raw)
    ready = body.check(a_file(tmp_path, "bad.dcm", raw))
    with pytest.raises(Rejected, match=f"cannot be written in implicit VR: .*{why}"), body.opened(ready, IMPLICIT):
        pass


@pytest.mark.parametrize("size", [1 << 20, (3 << 20) + 2, 20 << 20])
def test_a_deflated_file_of_any_size_is_rewritten_whole(tmp_path: Path, size: int) -> None:
    raw = header(0x7FE00010, "OW", size) + bytes(size)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    ready = body.check(a_file(tmp_path, "large.dcm", packer.compress(raw) + packer.flush(), body.DEFLATED))
    with body.opened(ready, IMPLICIT) as made:
        assert made.size == size + 8


def test_a_deflated_file_that_is_cut_or_none_is_refused(tmp_path: Path) -> None:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(shown(1)) + packer.flush()
    for raw, why in ((packed[:-9], "ends before its compression does"), (b"\xff" * 20, "cannot be inflated")):
        ready = body.check(a_file(tmp_path, "bad.dcm", raw, body.DEFLATED))
        with pytest.raises(Rejected, match=why), body.opened(ready, IMPLICIT):
            pass
