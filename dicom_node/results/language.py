"""The languages that results are written in: each is a table of sentences and of meanings of codes.

Names that viewers look for by their English text (Measurement Group, Tracking Identifier) stay English; a code means
the same in every language.
"""

from __future__ import annotations

import dataclasses
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from storage.facts.errors import Misconfigured
from storage.facts.figures import chance, exact, figure, percent
from storage.facts.prediction import Code, Segment

T = TypeVar("T")

_HERE = Path(__file__).parent
SHIPPED = ("en", "de")
_NAMED = {"name", "tag", "decimal", "sentences", "meanings"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """What is said, in one language."""

    tag: str  #: RFC 5646, e.g. ``de-DE``
    name: str  #: in English, for the code that states it
    decimal: str  #: between whole and fraction
    sentences: Mapping[str, str]  #: templates by key
    meanings: Mapping[str, str]  #: by scheme and value, e.g. ``SCT 39607008``

    def say(self, key: str, **given: object) -> str:
        """The sentence of that key with its blanks filled."""
        return self.sentences[key].format(**given)

    def number(self, value: float, digits: int | None = None) -> str:
        """A number as people write it; with as many decimals as it needs where ``digits`` is None, or where it would
        seem to be 0.
        """
        return self._written(exact(value) if digits is None else figure(value, digits))

    def chance(self, value: float, *limits: float) -> str:
        """A probability: two decimals, or as many as put it on its side of each limit and keep it from 0 and 1."""
        return self._written(chance(value, 2, *limits))

    def percent(self, share: float) -> str:
        """A share of 1 in percent."""
        return self._written(percent(share))

    def _written(self, number: str) -> str:
        return number.replace(".", self.decimal)

    def code(self, given: Code) -> Code:
        """The code with its meaning in this language, or as it was where the table lacks it."""
        meaning = self.meanings.get(f"{given.scheme} {given.value}")
        return given if meaning is None else dataclasses.replace(given, meaning=meaning)

    def translated(self, fact: T) -> T:
        """A fact with the meanings of all its codes in this language."""
        made: Any = self._translated(fact) if self.meanings else fact
        return made  # type: ignore[no-any-return]

    def _translated(self, fact: Any) -> Any:
        if isinstance(fact, Code):
            return self.code(fact)
        if isinstance(fact, tuple):
            return tuple(self._translated(each) for each in fact)
        if not dataclasses.is_dataclass(fact) or isinstance(fact, type):
            return fact
        changed = {f.name: self._translated(getattr(fact, f.name)) for f in dataclasses.fields(fact)}
        if isinstance(fact, Segment) and fact.label.casefold() == fact.type.meaning.casefold():
            changed["label"] = changed["type"].meaning
        return dataclasses.replace(fact, **changed)


@cache
def language(name: str = "en") -> Language:
    """A shipped language by its name, any other by the path of its table. Raises Misconfigured for a faulty table."""
    return _read(_HERE / f"language_{name}.toml" if name in SHIPPED else Path(name))


def _read(path: Path) -> Language:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        shipped = ", ".join(SHIPPED)
        raise Misconfigured(
            f"node.language: {path} is no readable table of a language ({type(error).__name__}); shipped: {shipped}"
        ) from error
    missing = _NAMED - table.keys()
    if missing:
        raise Misconfigured(f"node.language: {path} lacks {', '.join(sorted(missing))}")
    made = Language(**{key: table[key] for key in _NAMED})
    if path != _HERE / "language_en.toml":
        _require_same_sentences(made, path)
    return made


def _require_same_sentences(made: Language, path: Path) -> None:
    """Every sentence is there, with the blanks of the English one: what is not said must not be by accident."""
    english = language("en").sentences
    wrong = [key for key in english if _blanks(made.sentences.get(key)) != _blanks(english[key])]
    wrong += [key for key in made.sentences if key not in english]
    if wrong:
        raise Misconfigured(
            f"node.language: {path}: these sentences are missing, unknown, or have other blanks than in English: "
            + ", ".join(wrong)
        )


def _blanks(template: object) -> set[str] | None:
    if not isinstance(template, str) or not template.strip():
        return None
    try:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError:
        return None
