"""How units are written for people, where their UCUM code is for machines."""

from __future__ import annotations

_SPELLED = {
    "1": "",
    "{ratio}": "",
    "[hnsf'U]": "HU",
    "ml": "mL",
    "cm3": "cm³",
    "mm2": "mm²",
    "mm3": "mm³",
    "[ppth]": "‰",
    "Cel": "°C",
}


def spelled(code: str) -> str:
    """A UCUM unit as a reader expects it behind a number; empty for a number without one."""
    return _SPELLED.get(code, code)


def behind(code: str) -> str:
    """The same with the space that parts it from its number."""
    unit = spelled(code)
    return f" {unit}" if unit else ""
