"""Makes a package of a MONAI bundle without evaluating anything that it says.

A bundle's configuration is a program: every text that begins with ``$`` is Python, and ``_target_`` names any function.
Here it is read as data. What is usual (transforms of loading, orientation, spacing and intensity, a sliding window, one
network of MONAI with plain arguments) is recognised and said in our declarative form; a reference ``@name`` is followed
to a plain value. All else is refused with its place, and what to do about it. Nothing of a bundle runs here or later:
weights are read as tensors, and the configuration is not needed any more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from inference.bringing.bundle_reading import ADVICE, Config, Unread
from inference.bringing.bundle_steps import output_of, prepared, windows_of
from inference.bringing.checkpoint import read_checkpoint, tensors_of, write_safetensors
from inference.bringing.draft import Draft, identifier_of, write_draft
from inference.packages.manifest import Manifest
from storage.facts.errors import Misconfigured

_CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
_WEIGHTS = ("model.pt", "model.pth", "model.ts")
_INSIDE = ("model", "state_dict", "network", "net")  #: where a checkpoint may keep its state dict


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the bundle does not say, or says in a way that is not read."""

    identifier: str = ""
    version: str = ""
    modality: str = ""
    licence: str = ""


def is_bundle(folder: Path) -> bool:
    """Whether this is a MONAI bundle."""
    return (folder / "configs" / "metadata.json").is_file()


def import_bundle(folder: Path, target: Path, asked: Asked) -> Manifest:
    """Write the package into ``target``, an empty folder.

    Raises Misconfigured with every place of the bundle that cannot be said in our form.
    """
    metadata = _read(folder / "configs" / "metadata.json")
    path = next((folder / "configs" / name for name in _CONFIGS if (folder / "configs" / name).is_file()), None)
    if path is None:
        raise Misconfigured(f"{folder.name}: there is none of {', '.join(_CONFIGS)} in configs")
    config = Config(_read(path), f"configs/{path.name}")
    weights = next((folder / "models" / name for name in _WEIGHTS if (folder / "models" / name).is_file()), None)
    if weights is None:
        raise Misconfigured(f"{folder.name}: there is none of {', '.join(_WEIGHTS)} in models")
    form = _Form.of(metadata, asked)
    network = _network(config)
    competing = network["output"]["activation"] != "sigmoid"
    labels = form.labels(competing=competing)
    network["output"] |= _segments(network["output"], len(labels), competing=competing)
    network["models"] = [_model(config, weights, target)]
    draft = Draft(
        identifier=asked.identifier or identifier_of(str(metadata.get("name") or folder.name)),
        version=asked.version or _version(metadata),
        title=str(metadata.get("name") or folder.name),
        manufacturer=str(metadata.get("authors") or "unknown"),
        modality=form.modality,
        licence=asked.licence
        or str(metadata.get("license") or metadata.get("copyright") or "not stated: ask its maker"),
        intended_use=str(metadata.get("intended_use") or metadata.get("description") or "For research."),
        labels=labels,
        network=network,
        parameters={
            "Imported from": f"MONAI bundle {folder.name} {metadata.get('version', '')}".strip(),
            **_cited(metadata),
        },
        weights={"network": next(target.glob("network.*"))},
        notes=tuple(config.notes),
    )
    return write_draft(draft, target, f"MONAI bundle {folder.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """What metadata.json says of input and output."""

    modality: str
    names: Mapping[int, str]  #: of the output's channels
    count: int

    @classmethod
    def of(cls, metadata: Mapping[str, Any], asked: Asked) -> _Form:
        form = metadata.get("network_data_format", {})
        inputs, outputs = form.get("inputs", {}), form.get("outputs", {})
        if len(inputs) != 1 or len(outputs) != 1:
            raise Misconfigured(
                f"metadata.json: {len(inputs)} inputs and {len(outputs)} outputs: only networks with one of each are "
                f"imported: {ADVICE}"
            )
        (given,), (answer,) = inputs.values(), outputs.values()
        if int(given.get("num_channels", 1)) != 1:
            raise Misconfigured(
                f"metadata.json: {given['num_channels']} input channels: which series is which is not said in a form "
                f"that is read: {ADVICE}"
            )
        names = {int(number): str(name) for number, name in answer.get("channel_def", {}).items()}
        count = int(answer.get("num_channels", len(names)))
        return cls(modality=_modality(asked.modality or str(given.get("modality", ""))), names=names, count=count)

    def labels(self, *, competing: bool) -> tuple[str, ...]:
        """The segments 1, 2, 3 …: all channels, but for the background where classes exclude each other."""
        has_background = "background" in self.names.get(0, "").lower()
        if competing != has_background:
            raise Misconfigured(
                "metadata.json: channel_def of the output must call channel 0 background where one class wins, "
                "and no channel where each counts by itself"
            )
        first = 1 if competing else 0
        return tuple(self.names.get(number, f"class {number}") for number in range(first, self.count))


def _modality(given: str) -> str:
    found = {"CT": "CT", "MR": "MR", "MRI": "MR"}.get(given.upper())
    if found is None:
        raise Misconfigured(f"metadata.json: the modality is {given or 'not given'}: give that of DICOM by --modality")
    return found


def _read(path: Path) -> dict[str, Any]:
    """JSON or YAML as plain data; YAML by its safe loader, which makes no objects."""
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError, RecursionError) as error:
        raise Misconfigured(f"{path.name} cannot be read as plain data ({type(error).__name__})") from error
    if not isinstance(found, dict):
        raise Misconfigured(f"{path.name} holds no table")
    return found


def _network(config: Config) -> dict[str, Any]:
    """Everything but the weights; all that is not understood is said at once."""
    faults: list[str] = []
    parts: dict[str, Any] = {}
    for make in (
        lambda: {"prepare": prepared(config)},
        lambda: windows_of(config),
        lambda: {"output": output_of(config)},
    ):
        try:
            parts |= make()
        except Unread as error:
            faults += error.faults
    if faults:
        raise Misconfigured("\n  ".join(["the bundle is not imported; nothing of it was run:", *faults]))
    return {**parts, "average": "logits"}


def _segments(output: Mapping[str, Any], count: int, *, competing: bool) -> dict[str, Any]:
    """What the channels become: one of them wins, or each counts by itself and may lie over the others."""
    if competing:
        return {"segments": list(range(count + 1))}
    if count == 1:
        return {"segments": [1]}
    cleaned = [(step, _cleaned(step)) for step in output.get("clean", ())]
    return {
        "segments": list(range(1, count + 1)),
        "overlapping": True,
        "clean": [{**step, "segments": segments} for step, segments in cleaned if segments],
    }


def _cleaned(step: Mapping[str, Any]) -> list[int]:
    """MONAI counts several channels from 0, and takes the first one for background where it fills holes."""
    return [number + 1 for number in step["segments"] if number or step["do"] != "fill-holes"]


def _model(config: Config, weights: Path, target: Path) -> dict[str, Any]:
    """TorchScript as it is; a state dict as safetensors, with its network by name."""
    if weights.suffix == ".ts":
        (target / "network.ts").write_bytes(weights.read_bytes())
        return {"weights": "network", "format": "torchscript"}
    try:
        architecture = config.network()
    except Unread as error:
        raise Misconfigured(
            "\n  ".join(["the bundle is not imported; nothing of it was run:", *error.faults])
        ) from None
    write_safetensors(tensors_of(_inner(read_checkpoint(weights)), weights.name), target / "network.safetensors")
    return {"weights": "network", "format": "safetensors", "architecture": architecture}


def _inner(found: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in _INSIDE:
        if isinstance(found.get(key), Mapping):
            inner: Mapping[str, Any] = found[key]
            return inner
    return found


def _version(metadata: Mapping[str, Any]) -> str:
    parts = str(metadata.get("version", "1.0.0")).split(".")[:3]
    if not all(part.isdigit() for part in parts):
        raise Misconfigured(
            f"metadata.json: version {metadata.get('version')} is not of the form 1.2.3: give --version"
        )
    return ".".join([*parts, "0", "0"][:3])


def _cited(metadata: Mapping[str, Any]) -> dict[str, str]:
    references: Sequence[Any] = metadata.get("references") or ()
    return {"Reference": str(references[0])[:200]} if references else {}
