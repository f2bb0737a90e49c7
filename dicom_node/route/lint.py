"""Faults of a rule set that compiling does not find: what can never match, works twice, or goes nowhere.

It looks at the clauses that are joined by && at the top of a condition. What it says of them is certain for attributes
with one value; others are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dicom_node.route.demand import Demand, Demands, demands
from dicom_node.route.expression import Constant
from dicom_node.route.language import RuleError, compile_rule
from dicom_node.route.lint_choice import faults_of_choice
from dicom_node.route.rules import STABLE, split_reference
from dicom_node.route.texts import closest
from storage.facts.errors import Misconfigured
from storage.facts.routing import Match, RegisteredPackage, Rule, RuleSet

_BARS = frozenset({"is_derived", "is_localizer", "is_mosaic", "is_image"})


class Severity(StrEnum):
    """How bad a fault is."""

    ERROR = "error"  #: the rule does not do what it says
    WARNING = "warning"  #: it may be meant, but rarely is


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong."""

    rule: str
    severity: Severity
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the configuration says of where results go and where series come from."""

    destinations: frozenset[str]
    own: frozenset[str]  #: destinations that are this node itself
    titles: Mapping[str, str]  #: destination to its AE title
    peers: frozenset[str]  #: AE titles that may send to this node


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A rule that compiles, with what it demands."""

    rule: Rule
    demands: Demands
    opened: frozenset[str]  #: the bars of the floor that it names
    everything: bool


def lint(rules: RuleSet, packages: Sequence[RegisteredPackage], around: Surroundings) -> list[Fault]:
    """Everything that is wrong with a set, in the order of its rules."""
    found: list[Fault] = []
    earlier: list[_Read] = []
    for rule in rules.rules:
        found += _of_references(rule, packages, around)
        try:
            read = _read(rule)
        except RuleError as error:
            found.append(_error(rule, f"it does not compile: {error.fault}"))
            continue
        found += _of_condition(read)
        found += [
            Fault(rule=rule.name, severity=Severity.ERROR if bad else Severity.WARNING, text=text)
            for bad, text in faults_of_choice(rule, packages)
        ]
        if read.demands.problem:
            continue
        found += _of_loop(read, around)
        if rule.enabled:
            found += _of_earlier(read, earlier, rules.match)
            earlier.append(read)
    return found


def _error(rule: Rule, text: str) -> Fault:
    return Fault(rule=rule.name, severity=Severity.ERROR, text=text)


def _warning(rule: Rule, text: str) -> Fault:
    return Fault(rule=rule.name, severity=Severity.WARNING, text=text)


def _read(rule: Rule) -> _Read:
    compiled = compile_rule(rule.expression)
    everything = all(isinstance(clause, Constant) and clause.value for clause in compiled.clauses)
    return _Read(rule=rule, demands=demands(compiled), opened=compiled.names & _BARS, everything=everything)


def _of_references(rule: Rule, packages: Sequence[RegisteredPackage], around: Surroundings) -> Iterator[Fault]:
    for name in rule.destinations:
        if name not in around.destinations:
            close = closest(name, around.destinations)
            hint = f"did you mean {close}?" if close else f"known: {', '.join(sorted(around.destinations)) or 'none'}"
            yield _error(rule, f"no destination is named {name!r}: {hint}")
    if not rule.destinations and not rule.shadow and rule.enabled:
        yield _warning(rule, "it has no destination: results stay in the node")
    try:
        package, version = split_reference(rule.package)
    except Misconfigured as error:
        yield _error(rule, str(error))
        return
    known = [p.version for p in packages if p.package == package]
    if not known:
        close = closest(package, [p.package for p in packages])
        hint = f": did you mean {close}?" if close else ""
        yield _error(rule, f"no worker has registered the package {package}{hint}")
    elif version not in (STABLE, *known):
        yield _error(rule, f"{package} is not registered in version {version}; there are {', '.join(known)}")


def _of_condition(read: _Read) -> Iterator[Fault]:
    known = read.demands.of
    if read.demands.problem:
        yield _error(read.rule, f"it can never match: {read.demands.problem}")
    elif known.get("is_from_this_node", Demand()).is_only(True):
        yield _error(read.rule, "it can never match: results of this node reach no model")
    elif known.get("is_image", Demand()).is_only(False):
        yield _error(read.rule, "it can never match: what is no image reaches no model")
    elif read.everything and read.rule.enabled:
        yield _warning(read.rule, "it takes every series, whatever its modality")


def _of_loop(read: _Read, around: Surroundings) -> Iterator[Fault]:
    derived = "is_derived" in read.opened and not read.demands.of.get("is_derived", Demand()).is_only(False)
    for name in read.rule.destinations:
        if name in around.own:
            yield _error(read.rule, f"destination {name} is this node itself: its results would come straight back")
        elif derived and around.titles.get(name) in around.peers:
            yield _warning(
                read.rule,
                f"it takes derived images, and destination {name} also sends to this node: what other systems derive "
                "there may come back and be analysed again",
            )


def _of_earlier(read: _Read, earlier: Sequence[_Read], match: Match) -> Iterator[Fault]:
    """What an earlier rule leaves to this one: at most one fault."""
    rule = read.rule
    for other in earlier:
        # Where the floor lets the later rule have more, the earlier one does not take it all.
        if not read.demands.imply(other.demands) or not read.opened <= other.opened:
            continue
        same = other.rule.package == rule.package and other.rule.shadow == rule.shadow
        if same and (other.rule.prefer, other.rule.inputs) != (rule.prefer, rule.inputs) and match is Match.ALL:
            yield _warning(
                rule, f"a series may be analysed twice: rule {other.rule.name} takes the same ones in another way"
            )
            return
        if match is Match.FIRST and not other.rule.shadow:
            yield _error(rule, f"it never gets its turn: rule {other.rule.name} comes first and takes all its series")
            return
        if same and other.demands.imply(read.demands) and other.opened == read.opened:
            yield _warning(rule, f"it says the same as rule {other.rule.name}, for the same model")
            return
        if same and set(rule.destinations) <= set(other.rule.destinations) and rule.urgency <= other.rule.urgency:
            yield _warning(rule, f"it adds nothing: rule {other.rule.name} takes all of its series, for the same model")
            return
