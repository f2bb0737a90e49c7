"""Coded concepts and names, as the tables of ``model.toml`` write them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from storage.facts.prediction import Code
from storage.settings import Settings

#: What an algorithm calls one of its outputs.
Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]


class Coded(Settings):
    """A coded concept (PS3.3 Table 8.8-1)."""

    value: str = Field(min_length=1, max_length=16)
    scheme: str = Field(min_length=1, max_length=16)
    meaning: str = Field(min_length=1, max_length=64)

    def code(self) -> Code:
        """The concept in the shared vocabulary."""
        return Code(value=self.value, scheme=self.scheme, meaning=self.meaning)
