"""Pictures and pages in the languages of the clinic: never a box, never an exception, nothing cut."""

from __future__ import annotations

import dataclasses
import io
import re
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
