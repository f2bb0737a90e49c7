"""Codes and colours for the structures that networks are most often trained to mark, by the names they get.

Codes are SNOMED CT, as CID 7166 and its relatives (PS3.16) list them. A name that is not here gets a local code, which
says no more than the name: whoever declares the package replaces it.
"""

from __future__ import annotations

import colorsys
import re
from typing import Any

_ANATOMY = {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"}
_LESION = {"value": "49755003", "scheme": "SCT", "meaning": "Morphologically Abnormal Structure"}
_STRUCTURES = {
    "spleen": ("78961009", "Spleen"),
    "liver": ("10200004", "Liver"),
    "kidney": ("64033007", "Kidney"),
    "right kidney": ("9846003", "Right kidney"),
    "left kidney": ("18639004", "Left kidney"),
    "pancreas": ("15776009", "Pancreas"),
    "stomach": ("69695003", "Stomach"),
    "gallbladder": ("28231008", "Gallbladder"),
    "esophagus": ("32849002", "Esophagus"),
    "aorta": ("15825003", "Aorta"),
    "urinary bladder": ("89837001", "Urinary bladder"),
    "bladder": ("89837001", "Urinary bladder"),
    "prostate": ("41216001", "Prostate"),
    "heart": ("80891009", "Heart"),
    "lung": ("39607008", "Lung"),
    "right lung": ("3341006", "Right lung"),
    "left lung": ("44029006", "Left lung"),
    "brain": ("12738006", "Brain"),
    "hippocampus": ("5366008", "Hippocampus"),
    "thyroid": ("69748006", "Thyroid gland"),
    "trachea": ("44567001", "Trachea"),
    "duodenum": ("38848004", "Duodenum"),
    "colon": ("71854001", "Colon"),
    "spinal cord": ("2748008", "Spinal cord"),
}
_LESIONS = {
    "tumor": ("108369006", "Neoplasm"),
    "tumour": ("108369006", "Neoplasm"),
    "lesion": ("52988006", "Lesion"),
    "nodule": ("27925004", "Nodule"),
    "cyst": ("441457006", "Cyst"),
    "edema": ("79654002", "Edema"),
    "hemorrhage": ("50960005", "Hemorrhage"),
}


def segment_entry(number: int, name: str) -> dict[str, Any]:
    """A ``[[segments]]`` entry of the manifest for a structure of that name."""
    plain = " ".join(re.split(r"[^a-z0-9]+", name.lower())).strip()
    words = plain.split()
    if words and words[-1] in ("left", "right"):  # as in kidney_left
        plain = " ".join([words[-1], *words[:-1]])
    lesion = next((code for word, code in _LESIONS.items() if word in words), None)
    found = _STRUCTURES.get(plain)
    if lesion is None and found is not None:
        category, kind = _ANATOMY, {"value": found[0], "scheme": "SCT", "meaning": found[1]}
    elif lesion is not None:
        category, kind = _LESION, {"value": lesion[0], "scheme": "SCT", "meaning": lesion[1]}
    else:
        category, kind = _ANATOMY, {"value": f"SEGMENT-{number}", "scheme": "99LOCAL", "meaning": name[:64]}
    return {"number": number, "label": name[:64], "category": category, "type": kind, "colour": _colour(number)}


def _colour(number: int) -> list[int]:
    """Colours that neighbours tell apart: steps of the golden angle around the colour circle."""
    red, green, blue = colorsys.hsv_to_rgb((number * 0.61803398875) % 1.0, 0.65, 0.9)
    return [round(255 * part) for part in (red, green, blue)]
