"""The commands that ask what rules make of series: one, many, or a week of them. What they do is in ``rule_trial``.

Only the options stand here: the language and the DICOM dictionary are loaded when a question is asked.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from dicom_node.commands.options import config_option
from dicom_node.commands.rule_completion import keywords, rule_names
from storage.facts.errors import Misconfigured

_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


class _Age(click.ParamType[float]):
    """``90m``, ``24h``, ``7d``, ``2w`` as seconds."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", str(value))
        if match is None:
            self.fail(f"{value!r} is no time span: write 90m, 24h, 7d or 2w", param, ctx)
        return float(match[1]) * _SECONDS[match[2]]


AGE = _Age()
json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def _rule_or_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [*rule_names(ctx, param, incomplete), CompletionItem(incomplete, type="file")]


@click.command(short_help="Try rules on files or stored series.")
@config_option
@click.argument("asked", nargs=-1, required=True, metavar="[RULE] FILE|DIR|STUDY|SERIES", shell_complete=_rule_or_file)
@click.option("--rule", "name", shell_complete=rule_names, help="Only this rule.")
@click.option("--when", "expression", shell_complete=keywords, help="Try this condition instead of the rules.")
@click.option("--from", "sender", default="", metavar="AE", help="Calling AE title that files shall seem to come from.")
@click.option("--live", is_flag=True, help="The rules in force, even where there is a draft.")
@json_option
def test(path: Path, asked: tuple[str, ...], name: str | None, expression: str | None, **given: Any) -> None:
    """Say what the rules make of files or of stored series, and why. Nothing is run.

    The draft's rules are asked if there is one. Exit code 1 when none matches.
    """
    from dicom_node.commands import rule_trial  # the language is not loaded to list rules

    if len(asked) > 2 or (len(asked) == 2 and name is not None):
        raise Misconfigured("give one rule at most, then one file, folder, study or series")
    trial = rule_trial.Trial(name=asked[0] if len(asked) == 2 else name, expression=expression, **given)
    sys.exit(0 if rule_trial.test(path, asked[-1], trial) else 1)


@click.command(short_help="Why a study or series went where it went.")
@config_option
@click.argument("uid", metavar="STUDY|SERIES")
@click.option("--now", is_flag=True, help="What the rules in force would say now, not what was decided.")
@json_option
def explain(path: Path, uid: str, now: bool, as_json: bool) -> None:
    """Say what was decided about a study or series, under which version of the rules, clause by clause."""
    from dicom_node.commands import rule_trial  # the language is not loaded to list rules

    rule_trial.explain(path, uid, now, as_json)


@click.command(short_help="Rehearse the draft on recorded traffic.")
@config_option
@click.option("--since", type=AGE, default="7d", show_default=True, help="How far back: 90m, 24h, 7d, 2w.")
@click.option("--rules", "file", type=click.Path(path_type=Path, dir_okay=False), help="A sheet instead of the draft.")
@json_option
def simulate(path: Path, since: float, file: Path | None, as_json: bool) -> None:
    """Rehearse the draft, or a sheet, on recorded traffic: what it would gain, lose, cost and raise. Nothing is run."""
    from dicom_node.commands import rule_simulation  # the language is not loaded to list rules

    rule_simulation.simulate(path, since, file, as_json)


@click.command(short_help="What reached no model, in groups.")
@config_option
@click.option("--since", type=AGE, default="1d", show_default=True, help="How far back: 90m, 24h, 7d, 2w.")
@json_option
def unmatched(path: Path, since: float, as_json: bool) -> None:
    """What reached no model, in groups, the largest first."""
    from dicom_node.commands import rule_trial  # the language is not loaded to list rules

    rule_trial.unmatched(path, since, as_json)


@click.command(short_help="Look for rules that cannot work or work twice.")
@config_option
@click.option("--live", is_flag=True, help="The rules in force, even where there is a draft.")
@json_option
def lint(path: Path, live: bool, as_json: bool) -> None:
    """Look for rules that cannot work, work twice, or never get their turn. Exit code 1 when there is an error."""
    from dicom_node.commands import rule_trial  # the language is not loaded to list rules

    sys.exit(0 if rule_trial.lint(path, live, as_json) else 1)


COMMANDS = (test, explain, simulate, unmatched, lint)
