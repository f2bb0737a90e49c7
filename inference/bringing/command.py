"""``python -m inference models``: what the node's ``models`` commands have done where torch is. Prints for people, and
writes what the ledger is to know as JSON into ``--result``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.bringing.limits import confine, run_apart
from inference.config import WorkerConfig, load
from storage.exits import CONFIGURATION, TEMPORARY
from storage.facts.errors import NodeError, Transient

if TYPE_CHECKING:
    from inference.packages.package import Package
    from inference.runtime import Runtime

Work = Callable[[argparse.Namespace, WorkerConfig], Mapping[str, Any]]


def main(arguments: Sequence[str]) -> int:
    """Do one command; returns the exit code."""
    given = _parser().parse_args(arguments)
    if given.command == "prove":
        confine(given.seconds)
    logging.basicConfig(level="WARNING", stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its messages quote element values
    work: Work = given.work
    try:
        document = work(given, load(given.config))
    except Transient as error:
        print(error, file=sys.stderr)
        return TEMPORARY
    except NodeError as error:
        print(error, file=sys.stderr)
        return CONFIGURATION
    if given.result is not None:
        given.result.write_text(json.dumps(document), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m inference models", description="The life of model packages.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, work: Work, about: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=about)
        made.add_argument("-c", "--config", type=Path, required=True, help="worker.toml")
        made.add_argument("--result", type=Path, help="file for the outcome as JSON")
        made.set_defaults(work=work)
        return made

    add = command("add", _add, "bring a package into the models folder")
    add.add_argument("source", type=Path)
    prove = command("prove", _prove, "prove the package in a folder, within limits")
    prove.add_argument("folder", type=Path)
    prove.add_argument("--seconds", type=float, default=600.0)
    again = command("prove-again", _prove_again, "prove a package of the models folder, within limits")
    again.add_argument("package")
    again.add_argument("version")
    judged = command("validate", _validate, "run a package on studies whose truth is known")
    timed = command("benchmark", _benchmark, "measure a package's time and memory")
    for made in (judged, timed):
        made.add_argument("package")
        made.add_argument("version")
        made.add_argument("--proven", action="append", default=[], metavar="KIND=VARIANTS")
    judged.add_argument("folder", type=Path)
    judged.add_argument("truth", type=Path)
    timed.add_argument("--series", type=Path)
    timed.add_argument("--rounds", type=int, default=5)
    foreign = command("import", _import, "make a package of a MONAI bundle or an nnU-Net v2 folder")
    foreign.add_argument("source", type=Path)
    foreign.add_argument("target", type=Path)
    for name in ("id", "version", "modality", "licence", "orientation"):
        foreign.add_argument(f"--{name}", default="", dest="identifier" if name == "id" else name)
    foreign.add_argument("--fold", action="append", default=[])
    command("verify", _verify, "read all packages of the models folder again")
    sign = command("sign", _sign, "sign a package")
    sign.add_argument("folder", type=Path)
    sign.add_argument("--key", type=Path, required=True)
    return parser


# What follows imports only when called: a command that signs need not wait for torch.


def _add(given: argparse.Namespace, config: WorkerConfig) -> Mapping[str, Any]:
    from inference.bringing.add import Trust, bring

    def prove(folder: Path) -> Mapping[str, Any]:
        return _proved_apart(given, folder)

    trust = Trust(keys=config.trusted_keys, required=config.require_signature)
    return bring(given.source, config.models, trust, prove, _say).document()


def _proved_apart(given: argparse.Namespace, folder: Path) -> Mapping[str, Any]:
    from inference.packages.manifest import load_manifest
    from inference.packages.package import MANIFEST

    seconds = load_manifest(folder / MANIFEST).deadline_seconds
    with tempfile.TemporaryDirectory(prefix="proof-") as place:
        arguments = ["prove", "-c", str(given.config), str(folder), "--seconds", str(seconds)]
        return run_apart(arguments, Path(place, "proof.json"), seconds)


def _prove_again(given: argparse.Namespace, config: WorkerConfig) -> Mapping[str, Any]:
    from inference.packages.store import store_of

    package = store_of(config).get(given.package, given.version)
    return _proved_apart(given, package.folder)


def _prove(given: argparse.Namespace, config: WorkerConfig) -> Mapping[str, Any]:
    from inference.bringing.proving import proof_of

    return proof_of(given.folder, config)


def _validate(given: argparse.Namespace, config: WorkerConfig) -> Mapping[str, Any]:
    from inference.bringing.validation.report import validate

    package, runtime = _opened(given, config)
    return validate(package, given.folder, given.truth, runtime, _say)


def _benchmark(given: argparse.Namespace, config: WorkerConfig) -> Mapping[str, Any]:
    from inference.bringing.benchmark import benchmark

    package, runtime = _opened(given, config)
    return benchmark(package, given.series, runtime, given.rounds, _say)


def _opened(given: argparse.Namespace, config: WorkerConfig) -> tuple[Package, Runtime]:
    """A package of the models folder, and a runtime as a slot of this worker has it."""
    from inference.packages.store import store_of
    from inference.runtime import Kept, Runtime

    package = store_of(config).get(given.package, given.version)
    variant: tuple[str, ...] = ()
    if package.manifest.weights:
        import torch

        from inference.networks.device import device_of

        if config.threads:
            torch.set_num_threads(config.threads)
        proven = dict(one.partition("=")[::2] for one in given.proven)
        variant = tuple(filter(None, proven.get(device_of(config.device).type, "").split(",")))
    return package, Runtime(device=config.device, models=Kept(), variant=variant)


def _import(given: argparse.Namespace, _config: WorkerConfig) -> Mapping[str, Any]:
    from inference.bringing.foreign import Wishes, import_model

    wishes = Wishes(
        identifier=given.identifier,
        version=given.version,
        modality=given.modality,
        licence=given.licence,
        orientation=given.orientation,
        folds=tuple(given.fold),
    )
    manifest = import_model(given.source, given.target, wishes)
    return {"package": manifest.id, "version": manifest.version, "folder": str(given.target)}


def _verify(_given: argparse.Namespace, config: WorkerConfig) -> Mapping[str, Any]:
    from inference.packages.store import store_of

    store = store_of(config)
    found = [{"package": p.manifest.id, "version": p.manifest.version, "digest": p.digest} for p in store.packages]
    return {"packages": found, "faults": list(store.faults)}


def _sign(given: argparse.Namespace, _config: WorkerConfig) -> Mapping[str, Any]:
    from inference.packages.package import open_package
    from inference.packages.signature import sign

    package = open_package(given.folder)  # what is wrong should not be vouched for
    path = sign(given.folder, given.key)
    _say(f"signed: {package.manifest.id}@{package.manifest.version}, in {path}")
    return {}


def _say(text: str) -> None:
    print(text, flush=True)
