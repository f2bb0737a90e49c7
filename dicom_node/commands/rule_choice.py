"""The options by which a rule takes one series of a study. Light: the language is loaded where a rule is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from dicom_node.commands.rule_completion import keywords
from storage.facts.errors import Misconfigured
from storage.facts.routing import SETTLE, WAIT, Origin, Role, span_of, span_text


class _Span(click.ParamType[float]):
    """``30s``, ``10m``, ``2h`` as seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType."""
        if isinstance(value, float):
            return value
        try:
            return span_of(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _orders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of orders, their words, and what the language offers."""
    from dicom_node.route.preference import NAMED, WORDS  # the dictionary is not loaded to list rules

    named = [CompletionItem(name, help=line) for name, line in NAMED.items() if name.startswith(incomplete)]
    words = [CompletionItem(f"{word} ", help=f"{word} NAME") for word in WORDS if word.startswith(incomplete)]
    return [*named, *words, *keywords(ctx, param, incomplete)]


def _input(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return keywords(ctx, param, incomplete) if "=" in incomplete else []


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--prefer", multiple=True, metavar="ORDER", shell_complete=_orders,
        help="Take one series of a study: the thinnest, soft …, 'least SliceThickness', or one for which a condition "
        "is true; may repeat, the most important first.",
    ),
    click.option(
        "--input", "with_inputs", multiple=True, metavar="ROLE=CONDITION", shell_complete=_input,
        help="A further series of the study for the model, e.g. 'flair=mr_sequence == \"FLAIR\"'.",
    ),
    click.option(
        "--prior", "with_priors", multiple=True, metavar="ROLE=CONDITION", shell_complete=_input,
        help="A further series from an earlier study of the patient.",
    ),
    click.option("--wait", type=_Span(), help=f"Longest wait for better series and inputs. [{span_text(WAIT)}]"),
    click.option(
        "--settle", type=_Span(), help=f"Time without a new object that ends a study. [{span_text(SETTLE)}]"
    ),
)  # fmt: skip


def choice_options(command: Any) -> Any:
    """The options of every command that can make a rule choose."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def choice_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The choice that was asked for, as fields of a rule; what was not given is left out. Raises Misconfigured."""
    roles = [*_roles(given["with_inputs"], Origin.STUDY), *_roles(given["with_priors"], Origin.PRIOR)]
    found = {"prefer": tuple(given["prefer"]), "inputs": tuple(roles), "wait": given["wait"], "settle": given["settle"]}
    return {key: value for key, value in found.items() if value not in (None, ())}


def without_choice(given: Mapping[str, Any]) -> dict[str, Any]:
    """What else was given."""
    names = ("prefer", "with_inputs", "with_priors", "wait", "settle")
    return {key: value for key, value in given.items() if key not in names}


def _roles(given: Sequence[str], origin: Origin) -> list[Role]:
    found = []
    for text in given:
        name, equals, condition = text.partition("=")
        if not equals or condition.startswith("=") or not name.strip().isidentifier():
            raise Misconfigured(
                f"{text!r} names no role: write ROLE=CONDITION, such as 'flair=mr_sequence == \"FLAIR\"'"
            )
        found.append(Role(name=name.strip(), expression=condition.strip(), origin=origin))
    return found
