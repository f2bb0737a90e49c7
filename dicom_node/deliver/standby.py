"""Chooses what goes to a destination that does not take everything: for each kind of object itself, or what stands
for it.

A destination gets one of them. What it has got already stays the choice, so that no result lives there twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from storage.facts.result import ResultObject

#: Makes objects of a kind, of a prediction for a destination, and keeps them; none where there is nothing to make.
Make = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What a task of delivery asks for; its payload says it."""

    kinds: tuple[str, ...]
    instead: Mapping[str, Sequence[str]] = field(default_factory=dict)  #: what stands for a kind, the best first
    expendable: Collection[str] = ()  #: kinds that may be missing there

    @classmethod
    def of(cls, payload: Mapping[str, Any], made: Sequence[ResultObject]) -> Errand:
        """What a payload says; all that was made where it names no kinds."""
        kinds = payload.get("kinds")
        return cls(
            kinds=tuple(dict.fromkeys(one.kind for one in made) if kinds is None else kinds),
            instead={} if kinds is None else payload.get("instead", {}),
            expendable=payload.get("expendable", ()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a destination gets."""

    objects: tuple[ResultObject, ...]
    kinds: tuple[str, ...]  #: those of the objects, and those of which there is nothing to send
    instead: Mapping[str, str | None]  #: where a kind is refused: what stands for it; None: nothing may
    lost: tuple[str, ...]  #: kinds that cannot be said there in any form


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """The objects that there are of a prediction, and how to get more."""

    objects: Callable[[str], Sequence[ResultObject]]  #: of a kind
    make: Callable[[str], None]  #: a kind
    delivered: Collection[str]  #: SOP Instance UIDs that the destination has


Refused = Callable[[ResultObject], bool]


def choose(errand: Errand, stock: Stock, refused: Sequence[Refused]) -> Choice:
    """What to send. ``refused`` are judgements, the next of which is asked where nothing is left under the first:
    what is only remembered must not end in a dead letter.
    """
    chosen = {kind: _one(kind, errand, stock, refused) for kind in errand.kinds}
    lost = [kind for kind, by in chosen.items() if by is None and kind not in errand.expendable]
    kinds = tuple(dict.fromkeys(by for by in chosen.values() if by is not None))
    return Choice(
        objects=tuple(one for kind in kinds for one in stock.objects(kind)),
        kinds=kinds,
        instead={kind: by for kind, by in chosen.items() if by != kind},
        lost=tuple(lost),
    )


def _one(kind: str, errand: Errand, stock: Stock, refused: Sequence[Refused]) -> str | None:
    own = stock.objects(kind)
    if not own or _there(own, stock):
        return kind
    others = errand.instead.get(kind, ())
    for other in others:  # one that is wanted for itself says nothing of this kind
        if other not in errand.kinds and _there(stock.objects(other), stock):
            return other
    for judgement in refused[:1] if kind in errand.expendable else refused:
        for candidate in (kind, *others):
            found = stock.objects(candidate) or _made(candidate, stock)
            if found and not any(judgement(one) for one in found):
                return candidate
    return None


def _there(objects: Sequence[ResultObject], stock: Stock) -> bool:
    return bool(objects) and all(one.sop_instance_uid in stock.delivered for one in objects)


def _made(kind: str, stock: Stock) -> Sequence[ResultObject]:
    stock.make(kind)
    return stock.objects(kind)
