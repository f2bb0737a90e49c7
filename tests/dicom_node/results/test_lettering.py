"""Pictures and pages in the languages of the clinic: never a box, never an exception, nothing cut."""

from __future__ import annotations

import dataclasses
import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.results import caption
from dicom_node.results.lettering import drawable, font, has
from storage.facts.prediction import Code, Prediction, Presence
from tests import builders
from tests.dicom_node.results.making import labels_on, ordered

SPOKEN = {
    "German": "Verdacht auf Lungenrundherd, größer als 6 mm im Übergangsbereich",
    "Polish": "Podejrzenie guzka płucnego większego niż 6 mm, źródło: łagodny",
    "Czech": "Podezření na plicní uzel větší než 6 mm",
    "Turkish": "Akciğer nodülü şüphesi, İncelenmesi gereken ışık yoğunluğu",
    "Greek": "Υποψία πνευμονικού όζου μεγαλύτερου από 6 mm",
    "Russian": "Подозрение на узел в лёгком более 6 мм",
    "Vietnamese": "Nghi ngờ nốt phổi lớn hơn 6 mm",
    "Japanese": "肺結節の疑い、ケイカヲミル",
    "Chinese": "右肺上叶结节，考虑良性，建议随访复查以排除其他可能的病变情况，并结合临床资料综合判断",
    "Korean": "폐 결절이 의심됩니다",
    "Arabic": "اشتباه عقيدة رئوية",
    "Hebrew": "חשד לקשרית ריאה",
    "Hindi": "फेफड़े की गाँठ का संदेह",
    "symbols": "volume ≥ 6 cm³ ± 0.5 µm → −12 ‰ ≈ ∞ \u200b\u0301\ufeff😀\x07",
}
DRAWN = ("German", "Polish", "Czech", "Turkish", "Greek", "Russian", "Vietnamese")


@pytest.mark.parametrize("language", SPOKEN)
def test_what_is_drawn_has_only_characters_of_the_font(language: str) -> None:
    shown = drawable(SPOKEN[language])
    assert shown.strip("? ")
    assert all(has(char) for char in shown)
    assert (shown == SPOKEN[language]) == (language in DRAWN)


def test_what_the_font_lacks_is_transliterated_or_spelled_out() -> None:
    assert drawable("ケイカ") == "keika"
    assert drawable("≥ 6 → 7") == ">= 6 -> 7"
    assert drawable("e\u0301") == "é"
    assert drawable("\U000e0001a\x07") == "a"


def said(text: str) -> tuple[list[Dataset], Prediction]:
    """A run with a mask that says something in a language."""
    sources = builders.slices()
    condition = Code(value="X1", scheme="99TEST", meaning=text[:60])
    finding = dataclasses.replace(builders.finding(Presence.PRESENT), condition=condition, text=text)
    segments = tuple(dataclasses.replace(one, label=text[:60]) for one in builders.segments())
    return sources, builders.prediction(sources, labels_on(sources), findings=(finding,), segments=segments)


@pytest.mark.parametrize("language", SPOKEN)
def test_a_picture_and_a_page_are_made_in_every_language_with_nothing_cut(language: str) -> None:
    sources, prediction = said(SPOKEN[language].replace("\x07", ""))
    made = ordered(prediction, labels_on(sources), sources, kinds=("sc", "pdf"))
    assert set(made) == {"sc", "pdf"}
    picture = made["sc"].pixel_array
    assert not (picture[520:, -5:].max(axis=2) > 60).any()  # no letter runs into the border
    page = bytes(made["pdf"].EncapsulatedDocument)
    assert b"/NotoSans" in page.replace(b"+", b"/")
    streams = [one for one in re.findall(rb"stream\r?\n(.*?)endstream", page, re.DOTALL) if one[:1] == b"x"]
    assert any(b"Tj" in zlib.decompress(one) for one in streams)


def test_a_word_that_is_longer_than_a_line_goes_on_in_the_next() -> None:
    blank = Image.new("RGB", (200, 10))
    narrow = caption.sentences(blank, ["Pneumonoultramicroscopicsilicovolcanoconiosis and more"])
    assert narrow.height >= 10 + 2 * 20
    assert not (np.asarray(narrow)[12:, -6:].max(axis=2) > 60).any()
    assert font().getlength("Pneumonoultramicroscopicsilicovolcanoconiosis") > 184


def test_a_page_is_the_same_bytes_again() -> None:
    sources, prediction = said(SPOKEN["Greek"])
    first, second = (
        bytes(ordered(prediction, labels_on(sources), sources, kinds=("pdf",))["pdf"].EncapsulatedDocument)
        for _ in range(2)
    )
    assert first == second
    assert len(io.BytesIO(first).read()) < 400_000


def drawn(text: str) -> tuple[Dataset, str]:
    """The picture, and what the page draws above its lower margin."""
    sources, prediction = said("Nodule")
    first = dataclasses.replace(prediction.findings[0], text=text)
    prediction = dataclasses.replace(prediction, findings=(first, *prediction.findings[1:]))
    made = ordered(prediction, labels_on(sources), sources, kinds=("sc", "pdf"))
    return made["sc"], visible(bytes(made["pdf"].EncapsulatedDocument))


def visible(page: bytes) -> str:
    """The text of a page by its own table of letters, without what lies below the page's end."""
    streams = []
    for head in re.finditer(rb"/Length (\d+)[^>]*>>\s*stream\r?\n", page):
        raw = page[head.end() : head.end() + int(head[1])]
        streams.append(zlib.decompress(raw) if raw[:1] == b"x" else raw)
    table = next(one.decode("latin-1") for one in streams if b"begincmap" in one)
    letters = dict(re.findall(r"^<([0-9A-F]{4})> <([0-9A-F]+)>$", table, re.MULTILINE))
    content = next(one for one in streams if b") Tj" in one)
    shown = ""
    for height, raw in re.findall(rb"BT [\d.]+ (-?[\d.]+) Td[^()]*\(((?:\\.|[^\\)])*)\) Tj", content, re.DOTALL):
        codes = re.sub(
            rb"\\(.)", lambda m: {b"n": b"\n", b"r": b"\r", b"t": b"\t"}.get(m[1], m[1]), raw, flags=re.DOTALL
        )
        pairs = [f"{code:04X}" for (code,) in struct.iter_unpack(">H", codes)]
        if float(height) > 0:
            shown += "".join(bytes.fromhex(letters[one]).decode("utf-16-be") for one in pairs) + "\n"
    return shown


STRANGE = {
    "lines": "one\ntwo\r\nthree\x0bfour\u2028five",
    "controls": "".join(map(chr, range(32))) + "\x7f\x85 end",
    "right to left": "\u202eabc שלום",
    "marks": "e\u0301\u0301 a\u0300 Z\u0335",
    "a surrogate": "a\ud800b",
    "emoji": "👍🏽 👩‍👩‍👧 well",
    "backslashes": "a\\b\\\\c \\n (d) ) (",
    "what others replace": "**bold** __under__ --s-- {nb} {0} %s <b>&amp;",
    "spaces": "soft\u00adhyphen no\u00a0break thin\u2009space zero\u200bwidth",
    "nothing": " \t ",
}


@pytest.mark.parametrize("what", STRANGE)
def test_whatever_a_text_holds_the_page_shows_it(what: str) -> None:
    _, page = drawn(STRANGE[what])
    assert "".join(drawable(STRANGE[what]).split()) in "".join(page.split())


@pytest.mark.parametrize("text", ["x" * 10_000, " ".join(["word"] * 2500), "结" * 3000, "\u00a0".join(["word"] * 1000)])
def test_a_text_of_any_length_is_cut_with_a_mark_and_never_drawn_below_the_page(text: str) -> None:
    """Before, it ran over the end of the page, and so did the sentence that says so."""
    picture, page = drawn(text)
    assert picture.Rows < 900
    assert " …\n" in page
    assert re.search(r"\d+ more sentences are in the structured report", page)
    assert "not reviewed by a physician" not in page
    assert "Made 2026" in page


def test_a_word_of_any_length_is_broken_where_the_picture_ends() -> None:
    lines = caption._wrap("W" * 3000 + " i" * 10, 496)
    assert "".join(lines) == "W" * 3000 + " i" * 10
    assert all(font().getlength(line) <= 496 for line in lines)
    assert all(font().getlength(line + "W") > 496 for line in lines[:-1])
    assert caption._wrap("", 496) == []


@pytest.mark.parametrize("shape", [(600, 20), (20, 600)])
def test_a_picture_of_any_shape_leaves_room_for_the_sentences(shape: tuple[int, int]) -> None:
    source = builders.radiograph(*shape)
    made = ordered(builders.failure([source]), None, [source], kinds=("pdf",))
    assert "not reviewed by a physician" in visible(bytes(made["pdf"].EncapsulatedDocument))
