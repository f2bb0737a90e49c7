"""Every format gives the same answer, and none of them can run code."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.algorithms.network import run
from inference.networks.architectures import build
from inference.networks.exported import sift
from inference.networks.meshnet import MeshNet
from inference.packages.network import Architecture
from inference.packages.package import Package
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured
from tests.inference.networks.making import package, volume_of
from tests.inference.networks.test_segment import scripted

MODEL = '[network]\n[[network.models]]\nweights = "net"\nformat = "{}"\n{}\n'
OUTPUT = '[network.output]\nkind = "segmentation"\nactivation = "softmax"\nsegments = [0, 1, 2]\n'
MESHNET = 'architecture = { name = "MeshNet", arguments = { width = 3, classes = 3, dilations = [1, 2] } }'


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch.manual_seed(5)
    return MeshNet(width=3, classes=3, dilations=(1, 2)).eval()


def exported(module: torch.nn.Module) -> bytes:
    size = torch.export.Dim("size", min=4, max=512)
    buffer = io.BytesIO()
    program = torch.export.export(module, (torch.zeros(1, 1, 6, 6, 6),), dynamic_shapes=[{2: size}])
    torch.export.save(program, buffer)
    return buffer.getvalue()


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def tensors(module: torch.nn.Module) -> bytes:
    safetensors = pytest.importorskip("safetensors.torch")
    content: bytes = safetensors.save(module.state_dict())
    return content


def onnx(module: torch.nn.Module) -> bytes:
    """Three nodes by hand: the exporter needs more than the runtime does."""
    helper = pytest.importorskip("onnx.helper")
    pytest.importorskip("onnxruntime")
    numpy_helper = pytest.importorskip("onnx.numpy_helper")
    nodes, values, last = [], [], "image"
    for number, layer in enumerate(module.children()):
        name = f"x{number}"
        if isinstance(layer, torch.nn.Conv3d):
            for kind in ("weight", "bias"):
                values.append(numpy_helper.from_array(getattr(layer, kind).detach().numpy(), f"{kind}{number}"))
            nodes.append(
                helper.make_node(
                    "Conv",
                    [last, f"weight{number}", f"bias{number}"],
                    [name],
                    pads=[int(layer.padding[0])] * 6,
                    dilations=list(layer.dilation),
                )
            )
        else:
            nodes.append(helper.make_node("Elu", [last], [name]))
        last = name
    shape = ["n", 1, "d", "h", "w"]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", 1, shape)],
        [helper.make_tensor_value_info(last, 1, None)],
        values,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = made.SerializeToString()
    return content


FORMATS: dict[str, tuple[str, Callable[[torch.nn.Module], bytes]]] = {
    "export": ("", exported),
    "torchscript": ("", lambda module: scripted(module, 6, 6, 6)),
    "state-dict": (MESHNET, lambda module: saved(module.state_dict())),
    "state-dict inside": (
        MESHNET + '\ninside = "net/state"\nprefix = "module."',
        lambda module: saved(
            {"net": {"state": {f"module.{k}": v for k, v in module.state_dict().items()}}, "epoch": 3}
        ),
    ),
    "safetensors": (MESHNET, tensors),
    "onnx": ("", onnx),
}


def made(folder: Path, kind: str, more: str, content: bytes, output: str = OUTPUT) -> Package:
    return package(folder, MODEL.format(kind.partition(" ")[0], more) + output, {"net": content}, segments=2)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_labels(kind: str, net: torch.nn.Module, tmp_path: Path) -> None:
    more, make = FORMATS[kind]
    voxels = np.random.default_rng(8).normal(size=(9, 6, 6)).astype(np.float32)

    raw = run(volume_of(voxels), made(tmp_path, kind, more, make(net)), Runtime(device="cpu"))

    with torch.inference_mode():
        expected = net(torch.from_numpy(voxels)[None, None])[0].argmax(0).numpy()
    assert raw.mask is not None
    assert set(np.unique(expected)) >= {1, 2}
    assert np.mean(raw.mask == expected) > 0.999


Change = Callable[[str, bytes], bytes | None]


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("kind", ["export", "torchscript", "state-dict", "safetensors", "onnx"])
@pytest.mark.parametrize("how", ["saved", "pickled"])
def test_a_pickle_in_place_of_weights_is_refused_unread(kind: str, how: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    canary = tmp_path / "canary"
    content = saved({"a": Bomb(canary)}) if how == "saved" else pickle.dumps(Bomb(canary))
    more = MESHNET if kind in ("state-dict", "safetensors") else ""

    with pytest.raises(Misconfigured, match="weights net"):
        run(volume_of(np.zeros((6, 6, 6), np.int16)), made(tmp_path / "p", kind, more, content), Runtime(device="cpu"))

    assert not canary.exists()


def changed(content: bytes, change: Change, more: dict[str, bytes] | None = None) -> bytes:
    """An archive with other entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for entry in old.namelist():
            found = change(entry, old.read(entry))
            if found is not None:
                new.writestr(entry, found)
        for entry, found in (more or {}).items():
            new.writestr(f"{root}/{entry}", found)
    return buffer.getvalue()


def in_graph(pattern: bytes, replacement: bytes) -> Callable[[str, bytes], bytes]:
    def change(entry: str, content: bytes) -> bytes:
        if "/models/" not in entry:
            return content
        found = re.sub(pattern, replacement, content, count=1)
        assert found != content
        return found

    return change


def in_config(entry: str, content: bytes) -> bytes:
    if not entry.endswith("_weights_config.json"):
        return content
    config = json.loads(content)
    next(iter(config["config"].values()))["use_pickle"] = True
    return json.dumps(config).encode()


SIZE = rb'"expr_str": "[^"]*"'
HOSTILE: dict[str, tuple[Change, dict[str, bytes] | None, str]] = {
    "pickled weights": (in_config, None, "stored as a pickle"),
    "legacy weights": (lambda _, c: c, {"data/weights/model.pt": b"x"}, "does not need"),
    "opaque constants": (lambda _, c: c, {"data/constants/model.pt": b"x"}, "does not need"),
    "compiled kernels": (lambda _, c: c, {"data/aotinductor/model/x.so": b"x"}, "does not need"),
    "an operator of torch": (in_graph(rb"torch\.ops\.aten\.conv3d\.default", b"torch.hub.load"), None, "it calls"),
    "a file as a tensor": (
        in_graph(rb"torch\.ops\.aten\.conv3d\.default", b"torch.ops.aten.from_file.default"),
        None,
        "it calls",
    ),
    "code as a size": (in_graph(SIZE, b'"expr_str": "exec(chr(97))"'), None, "sizes something"),
    "hidden code as a size": (in_graph(SIZE, b'"expr_str": "Max.__class__"'), None, "sizes something"),
    "code as a symbol": (in_graph(SIZE, b'"expr_str": "Symbol(\'s0\', positive=exec(1))"'), None, "sizes something"),
    "sample inputs that call": (
        lambda e, c: saved((Bomb(Path("canary")),)) if "/sample_inputs/" in e else c,
        None,
        "no plain tensors",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_exported_archive_that_could_run_code_is_refused(kind: str, net: torch.nn.Module) -> None:
    change, more, said = HOSTILE[kind]
    content = exported(net)
    sift(content, "net")

    with pytest.raises(Misconfigured, match=said):
        sift(changed(content, change, more), "net")


def test_stored_guards_are_not_executed(net: torch.nn.Module, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    guard = f'"guards_code": ["open({str(canary)!r}, \'w\')"]'.encode()
    content = changed(exported(net), in_graph(rb'"guards_code": \[[^\]]*\]', guard))

    run(volume_of(np.zeros((9, 6, 6), np.int16)), made(tmp_path / "p", "export", "", content), Runtime(device="cpu"))

    assert not canary.exists()


def test_only_networks_on_the_list_can_be_named() -> None:
    with pytest.raises(Misconfigured, match="not on the list"):
        build(Architecture(name="os.system", arguments={"command": "true"}))
    with pytest.raises(Misconfigured, match="refuses its arguments"):
        build(Architecture(name="MeshNet", arguments={"wide": 3}))


def test_a_network_of_monai_is_built_by_name() -> None:
    pytest.importorskip("monai.networks.nets")
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
    net = build(Architecture(name="monai.UNet", arguments=arguments))
    assert net(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)


def test_weights_of_another_network_are_named(net: torch.nn.Module, tmp_path: Path) -> None:
    other = MESHNET.replace("width = 3", "width = 4")
    made_wrong = made(tmp_path, "state-dict", other, saved(net.state_dict()))
    with pytest.raises(Misconfigured, match="do not fit MeshNet"):
        run(volume_of(np.zeros((6, 6, 6), np.int16)), made_wrong, Runtime(device="cpu"))
