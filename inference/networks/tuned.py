"""A runtime that also says which faster way of computing was proven on its device."""

from __future__ import annotations

from dataclasses import dataclass, fields

from inference.packages.network import Variant
from inference.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned(Runtime):
    """Given where a proof has chosen variants; a plain Runtime computes in eager float32."""

    variant: tuple[Variant, ...] = ()


def tuned(runtime: Runtime, variant: tuple[Variant, ...]) -> Tuned:
    """The same runtime, computing in that way."""
    known = {field.name: getattr(runtime, field.name) for field in fields(Runtime)}
    return Tuned(**known, variant=variant)


def variant_of(runtime: Runtime) -> tuple[Variant, ...]:
    """How a runtime computes."""
    return runtime.variant if isinstance(runtime, Tuned) else ()
