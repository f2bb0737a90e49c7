"""Maps of what moved an answer, and ensembles that disagree, as packages declare them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import JsonValue, ValidationError

from inference.algorithms.network import run
from inference.algorithms.raw import Raw
from inference.explain.saliency import attention_rollout
from inference.networks.architectures import build
from inference.packages.network import Architecture
from inference.packages.saliency import Saliency
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured
from tests.inference.networks.making import package, volume_of
from tests.inference.networks.test_segment import scripted

Tensor = torch.Tensor
METRICS = '{ data = "tests", cases = 10 }'
GRADE = f"""
[[grades]]
key = "kind"
question = {{ value = "111025", scheme = "DCM", meaning = "Density" }}
classes = [
    {{ value = "1", scheme = "99T", meaning = "One" }}, {{ value = "2", scheme = "99T", meaning = "Two" }},
]
at_least = 0.1
source = "tests"
metrics = {METRICS}
"""
SIZE = (8, 8, 8)
VIT: dict[str, JsonValue] = {
    "in_channels": 1, "img_size": [8, 8, 8], "patch_size": [4, 4, 4], "hidden_size": 12, "mlp_dim": 16,
    "num_layers": 2, "num_heads": 2, "classification": True, "num_classes": 2, "post_activation": "",
}  # fmt: skip
VIT_TOML = ", ".join(f"{key} = {str(value).lower()}" for key, value in VIT.items() if value != "")


class Weighing(torch.nn.Module):
    """Two classes: the sum of the voxels that count for each, and a part that is the same for every image."""

    weights: Tensor
    lean: Tensor

    def __init__(self, place: tuple[int, int, int] = (2, 5, 1), lean: float = 0.0) -> None:
        super().__init__()
        weights = torch.zeros(2, *SIZE)
        weights[0][place] = 1.0
        weights[1, 7, 7, 7] = 1.0
        self.register_buffer("weights", weights)
        self.register_buffer("lean", torch.tensor([lean, -lean]))

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = (image * self.weights[None]).sum(dim=[2, 3, 4]) + self.lean
        return answer


def classified(folder: Path, output: str, models: str, weights: dict[str, bytes]) -> Raw:
    toml = f'[network]\n{models}\n[network.output]\nkind = "classification"\nactivation = "softmax"\n{output}\n{GRADE}'
    made = package(folder, toml, weights)
    voxels = np.random.default_rng(2).uniform(0.5, 1, SIZE).astype(np.float32)
    voxels[2, 5, 1] = 3
    return run(volume_of(voxels), made, Runtime(device="cpu"))


def scripts(*modules: torch.nn.Module) -> tuple[str, dict[str, bytes]]:
    weights = {f"net{n}": scripted(module, *SIZE) for n, module in enumerate(modules)}
    return "".join(f'[[network.models]]\nweights = "{name}"\nformat = "torchscript"\n' for name in weights), weights


def test_integrated_gradients_show_the_voxel_that_counts_without_a_layer(tmp_path: Path) -> None:
    raw = classified(tmp_path, 'grade = "kind"\nsaliency = { method = "integrated-gradients" }', *scripts(Weighing()))

    [shown] = raw.maps
    assert "Sundararajan" in shown.method
    assert np.argwhere(shown.voxels > 0.01).tolist() == [[2, 5, 1]]
    assert shown.voxels[2, 5, 1] == pytest.approx(1.0)


def test_attention_is_rolled_out_to_the_grid_of_the_series(tmp_path: Path) -> None:
    pytest.importorskip("einops")
    torch.manual_seed(4)
    net = build(Architecture(name="monai.ViT", arguments={**VIT})).eval()
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    models = (
        '[[network.models]]\nweights = "net"\nformat = "state-dict"\n'
        f'architecture = {{ name = "monai.ViT", arguments = {{ {VIT_TOML}, post_activation = "" }} }}\n'
    )
    saliency = '{ method = "attention-rollout", layer = "blocks.*.attn.drop_weights", patch = [4, 4, 4] }'

    raw = classified(tmp_path, f'grade = "kind"\nsaliency = {saliency}', models, {"net": buffer.getvalue()})

    attentions: list[Tensor] = []
    for number in range(2):
        layer = net.get_submodule(f"blocks.{number}.attn.drop_weights")
        layer.register_forward_hook(lambda _module, _inputs, output: attentions.append(output[0]))
    voxels = np.random.default_rng(2).uniform(0.5, 1, SIZE).astype(np.float32)
    voxels[2, 5, 1] = 3
    with torch.no_grad():
        net(torch.from_numpy(voxels)[None, None])
    cells = attention_rollout(attentions)[0, 1:].reshape(2, 2, 2)
    [shown] = raw.maps
    assert "Abnar" in shown.method
    corners = shown.voxels[::7, ::7, ::7]  # beyond the centres of the outermost cells nothing is interpolated
    np.testing.assert_allclose(corners, cells / cells.max(), rtol=1e-4)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('{ method = "attention-rollout", layer = "blocks.*.attn.drop_weights", patch = [2, 4, 4] }', "9 tokens, but"),
        ('{ method = "attention-rollout", layer = "blocks.*.mlp.drop1", patch = [4, 4, 4] }', "no attention"),
        ('{ method = "attention-rollout", layer = "nothing.*", patch = [4, 4, 4] }', "has a layer 'nothing"),
    ],
)
def test_what_gives_no_attention_for_the_image_is_a_wrong_package(tmp_path: Path, table: str, words: str) -> None:
    pytest.importorskip("einops")
    buffer = io.BytesIO()
    torch.save(build(Architecture(name="monai.ViT", arguments={**VIT})).state_dict(), buffer)
    models = (
        '[[network.models]]\nweights = "net"\nformat = "state-dict"\n'
        f'architecture = {{ name = "monai.ViT", arguments = {{ {VIT_TOML}, post_activation = "" }} }}\n'
    )
    with pytest.raises(Misconfigured, match=words):
        classified(tmp_path, f'grade = "kind"\nsaliency = {table}', models, {"net": buffer.getvalue()})


@pytest.mark.parametrize(
    "table",
    [{"layer": ""}, {"method": "integrated-gradients", "layer": "x"}, {"method": "attention-rollout", "layer": "x"}],
)
def test_a_method_is_given_what_it_needs_and_no_more(table: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Saliency.model_validate(table)


@pytest.mark.parametrize(("lean", "warned"), [(0.0, False), (4.0, True)])
def test_models_that_disagree_are_averaged_and_the_reader_is_warned(tmp_path: Path, lean: float, warned: bool) -> None:
    output = 'grade = "kind"\ndisagreement = 0.2'

    raw = classified(tmp_path, output, *scripts(Weighing(lean=lean), Weighing(lean=-lean)))

    assert sum(raw.classes["kind"]) == pytest.approx(1.0)
    assert bool(raw.warnings) is warned
    assert all("2 answers for kind disagree by" in text and "ensemble" in text for text in raw.warnings)


def test_models_that_disagree_are_not_spoken_of_unless_the_package_asks(tmp_path: Path) -> None:
    raw = classified(tmp_path, 'grade = "kind"', *scripts(Weighing(lean=4.0), Weighing(lean=-4.0)))

    assert raw.warnings == ()
