"""A condition from a few plain wishes, for those who do not want to write the language."""

from __future__ import annotations

from dataclasses import dataclass

from storage.facts.errors import Misconfigured


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a series must be. Empty and None: it does not matter. Lengths in mm."""

    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    sequence: tuple[str, ...] = ()  #: of MR
    kernel: tuple[str, ...] = ()  #: class of the CT kernel
    orientation: str | None = None
    contrast: str | None = None
    max_thickness: float | None = None
    max_spacing: float | None = None
    min_coverage: float | None = None
    min_images: int | None = None
    min_age: float | None = None  #: years
    description: str | None = None  #: part of the SeriesDescription, in whatever case
    sender: tuple[str, ...] = ()  #: calling AE titles


def condition(wish: Wish) -> str:
    """The condition that says it; one clause a line. Raises Misconfigured for a wish that says nothing."""
    clauses = [
        _one_of("Modality", wish.modality, upper=True),
        _one_of("BodyPartExamined", wish.body_part, upper=True),
        _one_of("mr_sequence", wish.sequence, upper=True),
        _one_of("kernel_class", wish.kernel),
        _one_of("orientation", (wish.orientation,) if wish.orientation else (), upper=True),
        _one_of("contrast", (wish.contrast,) if wish.contrast else ()),
        _limit("SliceThickness", "<=", wish.max_thickness),
        _limit("slice_spacing_mm", "<=", wish.max_spacing),
        _limit("coverage_mm", ">=", wish.min_coverage),
        _limit("number_of_frames", ">=", wish.min_images),
        _limit("patient_age_years", ">=", wish.min_age),
        _says("SeriesDescription", wish.description),
        _one_of("calling_ae", wish.sender),
    ]
    said = [clause for clause in clauses if clause]
    if not said:
        raise Misconfigured(
            "say when the rule matches: --when 'CONDITION', or options such as --modality CT --body-part CHEST "
            "--max-thickness 1.5"
        )
    return "\n&& ".join(said)


def _one_of(name: str, values: tuple[str, ...], *, upper: bool = False) -> str:
    quoted = [_quoted(value.upper() if upper else value) for value in dict.fromkeys(values)]
    if len(quoted) > 1:
        return f"{name} in [{', '.join(quoted)}]"
    return f"{name} == {quoted[0]}" if quoted else ""


def _limit(name: str, relation: str, value: float | None) -> str:
    return "" if value is None else f"{name} {relation} {value:g}"


def _says(name: str, part: str | None) -> str:
    if part is None:
        return ""
    # A character class is the one escape that regular expressions and both kinds of quotation agree on.
    escaped = "".join(c if c.isalnum() or c in " _-" else f"[{c}]" if c not in "\\^]" else "." for c in part)
    return f"{name}.matches({_quoted(f'(?i){escaped}')})"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
