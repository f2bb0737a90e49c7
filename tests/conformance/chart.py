"""Draws ARCHITECTURE.md's charts from the code. ``python -m tests.conformance.chart`` writes them into the document."""

from __future__ import annotations

import re
from pathlib import Path

from storage.facts.task import SUCCESSORS, TRANSITIONS, Kind, State

DOCUMENT = Path(__file__).resolve().parents[2] / "ARCHITECTURE.md"


def states() -> str:
    """The states of a task and what moves it, as mermaid."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> waiting: enqueue"]
    lines += [f"    {state} --> {after}: {event}" for (state, event), after in TRANSITIONS.items()]
    lines += [f"    {state} --> [*]" for state in (State.DONE, State.CANCELLED)]
    return "\n".join([*lines, "```"])


def kinds() -> str:
    """What may follow what, as mermaid."""
    lines = ["```mermaid", "flowchart LR"]
    lines += [f"    {kind} --> {after}" for kind in Kind for after in sorted(SUCCESSORS[kind])]
    alone = [kind for kind in Kind if not SUCCESSORS[kind] and not any(kind in after for after in SUCCESSORS.values())]
    lines += [f"    clock([clock]) --> {kind}" for kind in alone]
    return "\n".join([*lines, "```"])


def written_into(text: str) -> str:
    """The document with both charts as the code has them."""
    for name, chart in (("states", states()), ("kinds", kinds())):
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        text, found = pattern.subn(lambda m, chart=chart: m[1] + chart + m[2], text)
        assert found == 1, f"ARCHITECTURE.md has no place for the chart {name!r}"
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(written_into(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
