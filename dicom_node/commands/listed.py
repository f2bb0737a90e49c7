"""A group of commands that lists them without loading them: ``--help`` and completion answer at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import ClassVar

import click


class ListedGroup(click.Group):
    """A subclass gives ``descriptions`` and loads one command by its name: :meth:`click.Group.get_command`."""

    #: One line on each command that is shown, by name, in the order of the list.
    descriptions: ClassVar[Mapping[str, str]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click.Group."""
        del ctx
        return list(self.descriptions)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click.Group; names the nearest command where there is none of that name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.descriptions, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", error.ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click.Group."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(self.descriptions.items()))
