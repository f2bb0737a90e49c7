"""The names in a rule: looked up in the standard's dictionary and in the derived facts, or refused with a reason."""

from __future__ import annotations

import re
from typing import Any

from dicom_node.route.expression import Attribute, Step
from dicom_node.route.source import Source
from dicom_node.route.vocabulary import (
    DERIVED,
    UNQUOTED_VR,
    Type,
    keyword_of,
    names_a_person,
    nearest,
    type_of_vr,
    vr_of,
)

MAX_STEPS = 5  #: stages of one path; a stored header is no deeper


class Paths:
    """Turns the nodes of a path into an Attribute, and remembers every name that the rule mentions."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.names: set[str] = set()

    def attribute(self, node: Any) -> Attribute:
        """``Name``, ``Name[0]``, ``Sequence.Name``, ``tag("gggg,eeee", "creator")`` and their combinations."""
        base, suffixes = self._unwind(node)
        steps = [self._first(base)]
        for suffix in suffixes:
            if suffix.data == "item":
                self._put_index(steps, suffix)
            else:
                steps.append(self._inner(steps[-1], suffix.children[1]))
        span = self._source.span(node)
        last = steps[-1].key
        self.names.update(step.key for step in steps)
        return Attribute(
            steps=tuple(steps),
            type=_type_of(last),
            label=_label(steps),
            quotable=last in DERIVED or not (vr_of(last) is None or vr_of(last) in UNQUOTED_VR),
            span=span,
        )

    def _unwind(self, node: Any) -> tuple[Any, list[Any]]:
        suffixes: list[Any] = []
        while node.data in ("member", "item"):
            suffixes.append(node)
            node = node.children[0]
            if len(suffixes) > 2 * MAX_STEPS:
                raise self._source.fault(node, f"the path has more than {MAX_STEPS} names")
        return node, suffixes[::-1]

    def _first(self, node: Any) -> Step:
        if node.data == "call" and str(node.children[0]) == "tag":
            return self._tag(node)
        if node.data != "name":
            raise self._source.fault(node, "the name of an attribute is wanted here")
        name = str(node.children[0])
        return Step(key=name) if name in DERIVED else self._known(node, name)

    def _inner(self, outer: Step, token: Any) -> Step:
        if _type_of(outer.key) not in (Type.SEQUENCE, Type.ANY):
            raise self._source.fault(token, f"{outer.key} is no sequence: it has nothing inside")
        return self._known(token, str(token))

    def _known(self, node: Any, name: str) -> Step:
        if vr_of(name) is None:
            close = nearest(name)
            hint = f" Did you mean {close}?" if close else " Names are DICOM keywords or derived facts."
            raise self._source.fault(node, f"unknown name {name!r}.{hint}")
        if names_a_person(name):
            raise self._source.fault(node, f"{name} identifies a person: rules may not ask for it")
        return Step(key=name)

    def _put_index(self, steps: list[Step], node: Any) -> None:
        last = steps[-1]
        if last.index is not None:
            raise self._source.fault(node, "one index is enough")
        if last.key in DERIVED:
            raise self._source.fault(node, f"{last.key} has one value: leave the index out")
        steps[-1] = Step(key=last.key, index=self._source.index(node.children[1]), creator=last.creator)

    def _tag(self, node: Any) -> Step:
        first, *rest = self._source.arguments(node, 1, 2)
        written = self._source.literal_text(first)
        match = re.fullmatch(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?", written)
        if match is None:
            raise self._source.fault(first, 'a tag is written tag("0019,100A")')
        group, element = int(match[1], 16), int(match[2], 16)
        if group % 2 == 0:
            keyword = keyword_of(group, element)
            if not keyword:
                raise self._source.fault(first, f"the standard has no attribute ({group:04X},{element:04X})")
            return self._known(first, keyword)
        if element < 0x1000:
            raise self._source.fault(first, "private attributes have elements from 1000 on")
        creator = self._source.literal_text(rest[0]).strip() if rest else ""
        return Step(key=f"{group:04X}{element:04X}", creator=creator)


def _type_of(key: str) -> Type:
    if key in DERIVED:
        return DERIVED[key].type
    vr = vr_of(key)
    return Type.ANY if vr is None else type_of_vr(vr)


def _label(steps: list[Step]) -> str:
    """The one way to write a path: equal labels are equal paths."""
    return ".".join(_written(step) + ("" if step.index is None else f"[{step.index}]") for step in steps)


def _written(step: Step) -> str:
    if vr_of(step.key) is not None or step.key in DERIVED:
        return step.key
    creator = f', "{step.creator}"' if step.creator else ""
    return f'tag("{step.key[:4]},{step.key[4:]}"{creator})'
