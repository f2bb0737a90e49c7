"""What the doctor says of models: packages, the slots that they run in, and the versions that rules name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence

from dicom_node.commands.model_child import settings_of
from dicom_node.config import NodeConfig
from dicom_node.doctor import Check, Verdict
from storage.facts.errors import NodeError
from storage.facts.release import WAIVED, PackageVersion, Release
from storage.facts.routing import Rule
from storage.ledger import Ledger

_SECONDS = 120
_LISTED = 5  #: rules that a line names


def examine_models(config: NodeConfig) -> Iterator[Check]:
    """All checks, each as soon as it is done."""
    there: set[str] = set()
    for check in _worker(config):
        if check.what == "model" and check.verdict is Verdict.OK:
            there.add(check.found.split()[0])
        yield check
    yield from _crowded(config)
    yield from examine_rules(config, there)


def examine_rules(config: NodeConfig, there: Collection[str] = ()) -> Iterator[Check]:
    """Whether each rule that is on gets a version that is registered and proven, and is ``there`` if that is known."""
    if config.node.database is None and not (config.node.data / "ledger.db").exists():
        return
    try:
        ledger = Ledger(config.node.data, config.database_url())
        try:
            yield from _named(ledger, there)
        finally:
            ledger.close()
    except (OSError, NodeError):
        return  # another check says so


def _worker(config: NodeConfig) -> Iterator[Check]:
    """Asks a worker process: this one must not load what models need."""
    try:
        with settings_of(config) as (settings, _):
            command = [sys.executable, "-m", "inference", "check", "-c", str(settings)]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL, check=False
            )
    except subprocess.TimeoutExpired:
        found = f"the packages could not be verified within {_SECONDS} s"
        yield Check(
            what="models", verdict=Verdict.FAULT, found=found,
            todo=f"is a device hanging, or {config.workers.models} on a disk that does not answer?",
        )  # fmt: skip
        return
    except OSError as error:
        found = f"the worker cannot be asked: {error.strerror or type(error).__name__}"
        yield Check(what="models", verdict=Verdict.FAULT, found=found, todo=f"see the folder {config.node.data}")
        return
    except NodeError as error:
        found = f"the worker cannot be asked: {error}"
        yield Check(what="models", verdict=Verdict.FAULT, found=found, todo="see [node] and [workers]")
        return
    said = [line.partition(" ")[::2] for line in done.stdout.splitlines()]
    for kind, text in said:
        if kind == "ok":
            yield Check(what="model", verdict=Verdict.OK, found=" ".join(text.split()))
        elif kind == "wrong":
            yield Check(what="model", verdict=Verdict.WARNING, found=text, todo=f"see {config.workers.models}")
        elif kind == "slot" and config.workers.count:
            yield Check(what="slot", verdict=Verdict.OK, found=" ".join(text.split()))
        elif kind == "fault" and config.workers.count:
            yield Check(what="slots", verdict=Verdict.FAULT, found=text, todo="see [slots] and workers.device")
    if done.returncode not in (0, 1) or not said:
        last = done.stderr.strip().splitlines()[-1:] or ["it printed nothing"]
        yield Check(
            what="models", verdict=Verdict.FAULT, found=f"the worker cannot start: {last[0]}",
            todo="install the worker's dependencies: pip install 'dicom-node[worker]'",
        )  # fmt: skip


def _crowded(config: NodeConfig) -> Iterator[Check]:
    """More slots than cores only slow each other down."""
    workers, cores = config.workers.count, os.cpu_count() or 1
    slots = config.slots.devices.count("cpu") if config.slots.devices else config.slots.number
    if workers * slots > cores:
        yield Check(
            what="slots", verdict=Verdict.WARNING,
            found=f"{workers} workers with {slots} slots on the processor share its {cores} cores",
            todo="one worker serves all slots of a machine: lower workers.count or slots.number",
        )  # fmt: skip


def _named(ledger: Ledger, there: Collection[str]) -> Iterator[Check]:
    with ledger.begin_reading() as tx:
        rules = [rule for rule in tx.catalogue.rules() if rule.enabled]
        versions = tx.catalogue.package_versions()
        releases = {v.package: tx.catalogue.releases(v.package) for v in versions}
    wanted: dict[str, list[Rule]] = {}
    for rule in rules:
        wanted.setdefault(rule.package, []).append(rule)
    for reference, asking in sorted(wanted.items()):
        package = reference.partition("@")[0]
        own = [version for version in versions if version.package == package]
        used = _meant(reference, own)
        for check in _wanted(reference, asking, used, own, releases.get(package, ())):
            yield _gone(check, used, there) or check


def _meant(reference: str, own: Sequence[PackageVersion]) -> PackageVersion | None:
    """The version of its package that a rule gets; None where there is none."""
    number = reference.partition("@")[2]
    return next((v for v in own if (v.version == number if number else v.stable)), None)


def _wanted(
    reference: str, rules: Sequence[Rule], found: PackageVersion | None, own: Sequence[PackageVersion],
    releases: Sequence[Release],
) -> Iterator[Check]:  # fmt: skip
    package, _, number = reference.partition("@")
    names = ", ".join(rule.name for rule in rules[:_LISTED]) + (" …" if len(rules) > _LISTED else "")
    what = f"rule{'s' if len(rules) > 1 else ''} {names}"
    there = ", ".join(v.version for v in own if v.retired_at is None)
    if found is None:
        missing = "is not registered" if number or not own else "has no version in use"
        todo = f"`dicom-node models promote {package}@VERSION`" if own and not number else "`dicom-node models add`"
        text = f"{reference} {missing}{f' (there: {there})' if there else ''}: its runs fail"
        yield Check(what=what, verdict=Verdict.WARNING, found=text, todo=f"{todo}, or change the rule")
    elif found.retired_at is not None:
        text = f"{found.reference} is retired ({found.retired_reason}): its runs fail"
        yield Check(
            what=what, verdict=Verdict.WARNING, found=text, todo=f"name another version (there: {there or 'none'})"
        )
    elif found.doubt and not _is_waived(found, releases):
        todo = f"`dicom-node models prove {found.reference}`" if found.has_self_test else (
            "bring a version with a self-test (docs/models.md), or answer for one: "
            "`dicom-node models promote --without-self-test REASON`"
        )  # fmt: skip
        yield Check(
            what=what, verdict=Verdict.WARNING, found=f"{found.reference} is unproven: {found.doubt}", todo=todo
        )
    else:
        yield Check(what=what, verdict=Verdict.OK, found=f"{found.reference}{'' if number else _waiting(found, own)}")


def _waiting(used: PackageVersion, own: Sequence[PackageVersion]) -> str:
    """Versions that came later, as with an update of the product, and that nobody has decided about."""
    later = [v.version for v in own if v.registered_at > used.registered_at and v.retired_at is None]
    return f" ({', '.join(later)} waits: `dicom-node models prove`, then `models promote`)" if later else ""


def _gone(check: Check, used: PackageVersion | None, there: Collection[str]) -> Check | None:
    """That the version is registered, but not in a folder any more, as after the product was updated."""
    if not there or used is None or used.retired_at is not None or used.reference in there:
        return None
    others = sorted(one for one in there if one.partition("@")[0] == used.package)
    missing = f"{used.reference} is registered, but not there any more"
    found = f"{missing} (there: {', '.join(others)})" if others else missing
    todo = f"`dicom-node models prove`, then `dicom-node models promote {others[-1]}`; or put" if others else "put"
    return Check(
        what=check.what, verdict=Verdict.FAULT, found=f"{found}: its runs fail", todo=f"{todo} its folder back"
    )


def _is_waived(version: PackageVersion, releases: Sequence[Release]) -> bool:
    """Whether somebody answered for it when it was brought into use."""
    return any(release.version == version.version and WAIVED in release.evidence for release in releases)
