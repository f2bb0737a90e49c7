"""Gives pictures and pages a font that is the same everywhere, and text that it can draw.

Noto Sans (SIL Open Font License 1.1) draws Latin with all its accents, Greek and Cyrillic. What it lacks is spelled
out, or transliterated by anyascii: a reader can make something of it, and of a box nothing. The report keeps every
character.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib.resources import files

from anyascii import anyascii
from PIL import ImageFont

FAMILY = "NotoSans"
FONT_PIXELS = 15  #: legible at 512 pixels

_SPELLED = {"≥": ">=", "≤": "<=", "≈": "~", "≠": "!=", "→": "->", "←": "<-", "∞": "inf", "√": "sqrt "}
_SHAPED = range(0x0590, 0x1D00)  #: scripts whose letters change with their neighbours, which are drawn one by one here
_UNDRAWN = "\uffff"  #: no character: shows what the font draws where it has none


@cache
def path() -> str:
    """The file of the font; its default instance is the regular one."""
    return str(files("fontpkg_noto_sans") / "files" / "NotoSans[wdth,wght].ttf")


@cache
def font(pixels: int = FONT_PIXELS) -> ImageFont.FreeTypeFont:
    """The font at a size."""
    return ImageFont.truetype(path(), pixels, layout_engine=ImageFont.Layout.BASIC)


def drawable(text: str) -> str:
    """The text in characters that the font has; a question mark only where nobody knows how to spell one."""
    return "".join(char if has(char) else _spelled(char) for char in unicodedata.normalize("NFC", text))


@cache
def has(char: str) -> bool:
    """Whether a character can be drawn by itself."""
    if char.isspace():
        return True
    if unicodedata.category(char)[0] in "CM" or ord(char) in _SHAPED:
        return False
    return bytes(font().getmask(char)) != bytes(font().getmask(_UNDRAWN))


def _spelled(char: str) -> str:
    spelled = _SPELLED.get(char) or anyascii(char)
    if not spelled.isprintable():
        return ""
    return spelled or ("" if unicodedata.category(char)[0] in "CM" else "?")
