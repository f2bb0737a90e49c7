"""Radiographs: their grey scale and nominal place, and declared networks of two dimensions from end to end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydicom.dataset import Dataset
from pydicom.uid import UID
from safetensors.torch import save

from inference.imaging.irregular import Irregular
from inference.imaging.projection import presented
from inference.imaging.volume import Volume, load
from inference.pipeline import Outcome, Request, predict
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured
from storage.facts.prediction import Presence, Status
from tests import builders
from tests.inference import manifests
from tests.inference.networks.making import package, segment
from tests.inference.series import write

CR, MG = builders.CR, builders.MG


def bright_square(ds: Dataset, rows: slice = slice(10, 30), columns: slice = slice(5, 25)) -> Dataset:
    """A radiograph with a bright part of known place."""
    values = np.full((ds.Rows, ds.Columns), 500, np.int16)
    values[rows, columns] = 3500
    ds.PixelData = values.tobytes()
    return ds


def radiograph(**changes: Any) -> Dataset:
    ds = bright_square(builders.radiograph())
    for keyword, value in changes.items():
        builders.put(ds, keyword, value)
    return ds


def volume_of(folder: Path, *sources: Dataset) -> Volume:
    return load(write(folder, list(sources)))


def test_a_radiograph_is_one_frame_with_nominal_directions(tmp_path: Path) -> None:
    volume = volume_of(tmp_path, radiograph())

    assert volume.voxels.shape == (1, 60, 50)
    assert volume.projection
    assert volume.spacing == pytest.approx((1.0, 0.2, 0.2))
    np.testing.assert_allclose(volume.affine[:3, 1], [0, 0, -0.2])  # rows run to the feet
    np.testing.assert_allclose(volume.affine[:3, 2], [0.2, 0, 0])  # columns run to the patient's left
    np.testing.assert_allclose(volume.affine[:3, 0], [0, 1, 0])  # of 1 mm, as no depth is known


def test_breasts_of_either_side_are_told_by_their_direction(tmp_path: Path) -> None:
    left = builders.radiograph(sop_class=MG)
    right = builders.radiograph(sop_class=MG)
    right.PatientOrientation, right.ImageLaterality = ["P", "FL"], "R"

    columns = [volume_of(tmp_path / side, ds).affine[:3, 2] for side, ds in (("l", left), ("r", right))]

    np.testing.assert_allclose(columns[0], -columns[1])


@pytest.mark.parametrize(
    ("stated", "spacing"),
    [
        ({"PixelSpacing": [0.15, 0.1]}, (0.15, 0.1)),
        ({"EstimatedRadiographicMagnificationFactor": 1.25}, (0.16, 0.16)),
    ],
)
def test_spacing_is_that_of_the_patient_where_it_is_known(
    tmp_path: Path, stated: dict[str, Any], spacing: tuple[float, float]
) -> None:
    assert volume_of(tmp_path, radiograph(**stated)).spacing[1:] == pytest.approx(spacing)


def test_without_any_spacing_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Irregular, match="states no pixel spacing"):
        volume_of(tmp_path, radiograph(ImagerPixelSpacing=None))


def test_several_views_in_a_series_are_refused(tmp_path: Path) -> None:
    second = radiograph()
    second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = UID(f"{builders.ROOT}.9.9")

    with pytest.raises(Irregular, match="2 radiographs"):
        volume_of(tmp_path, radiograph(), second)


def inverted() -> Dataset:
    """The same picture, stored the other way round."""
    ds = radiograph(PhotometricInterpretation="MONOCHROME1")
    values = np.frombuffer(ds.PixelData, np.int16)
    ds.PixelData = (-1 - values).astype(np.int16).tobytes()
    return ds


def test_both_photometric_interpretations_give_the_same_brightness(tmp_path: Path) -> None:
    plain, turned = volume_of(tmp_path / "2", radiograph()), volume_of(tmp_path / "1", inverted())

    np.testing.assert_array_equal(plain.voxels, turned.voxels)


def test_a_window_is_applied_before_the_picture_is_turned_over(tmp_path: Path) -> None:
    plain = radiograph(WindowCenter="2000.5", WindowWidth="2001", VOILUTFunction="LINEAR")
    turned = inverted()
    turned.WindowCenter, turned.WindowWidth = "-2000.5", "2001"
    shown = []
    for name, ds in (("2", plain), ("1", turned)):
        volume = volume_of(tmp_path / name, ds)
        shown.append(presented(volume.header, volume.voxels))

    assert set(np.unique(shown[0])) == {0.0, 1.0}
    np.testing.assert_allclose(shown[0], shown[1], atol=1e-3)


def test_a_voi_table_is_applied(tmp_path: Path) -> None:
    table = Dataset()
    table.add_new("LUTDescriptor", "SS", [4096, 0, 12])
    table.add_new("LUTData", "OW", (np.arange(4096) // 2).astype("<u2").tobytes())
    ds = radiograph()
    ds.VOILUTSequence = [table]
    volume = volume_of(tmp_path, ds)

    shown = presented(volume.header, volume.voxels)

    np.testing.assert_allclose(np.unique(shown), [250 / 4095, 1750 / 4095], rtol=1e-6)


def test_a_modality_table_is_applied(tmp_path: Path) -> None:
    table = Dataset()
    table.add_new("LUTDescriptor", "SS", [4096, 0, 16])
    table.add_new("LUTData", "OW", (np.arange(4096) * 2).astype("<u2").tobytes())
    table.ModalityLUTType = "US"
    ds = radiograph()
    ds.ModalityLUTSequence = [table]

    assert set(np.unique(volume_of(tmp_path, ds).voxels)) == {1000.0, 7000.0}


PREPARE = """
[[network.models]]
weights = "net"
format = "safetensors"
[network.models.architecture]
name = "monai.{name}"
arguments = {arguments}
[[network.prepare]]
do = "orient"
to = "ALI"
[[network.prepare]]
do = "range"
low = 0
high = 4000
[network.windows]
dimensions = 2
{windows}
"""
METRICS = '{ data = "tests", cases = 10, sensitivity = { value = 0.9, low = 0.8, high = 1.0 } }'
DENSENET = (
    "{ spatial_dims = 2, in_channels = 1, out_channels = 3, init_features = 4, growth_rate = 2, "
    "block_config = [1, 1], dropout_prob = %s }"
)
PLATT = 'calibration = { method = "platt", slope = 2.0, offset = 1.0, source = "tests" }'
DENSITIES = (("1", "99T", "Low"), ("2", "99T", "Middle"), ("3", "99T", "High"))


def density(*, ordinal: bool = False, classes: Sequence[manifests.Code] = DENSITIES, more: str = "") -> str:
    """A grade that says always something."""
    question = ("129793001", "SCT", "Density")
    more = f"at_least = 0.0\nordinal = {str(ordinal).lower()}\n{more}"
    return manifests.grade("density", question, classes, metrics=METRICS, more=more)


def dense(dropout: float = 0.0) -> torch.nn.Module:
    from monai.networks.nets.densenet import DenseNet

    torch.manual_seed(4)
    made: torch.nn.Module = DenseNet(
        spatial_dims=2, in_channels=1, out_channels=3, init_features=4, growth_rate=2, block_config=(1, 1),
        dropout_prob=dropout,
    )  # fmt: skip
    return made.eval()


def run(folder: Path, head: str, more: str, net: torch.nn.Module, table: str, source: Dataset | None = None) -> Outcome:
    """A package of that head, on a radiograph."""
    weights = {"net": save(net.state_dict())}
    made = package(folder / "p", table + head, weights, modalities=("CR", "DX"), more=more)
    paths = tuple(write(folder / "s", [source or radiograph()]))
    request = Request(key="k", study_uid="1.2", series_uid="1.2.3", revision=1, paths=paths)
    return predict(request, made, Runtime(device="cpu"))


def head(**lines: str) -> str:
    return "[network.output]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


def logits(net: torch.nn.Module) -> npt.NDArray[np.float64]:
    """What the network says of the picture as it lies: rows to the feet, columns to the left."""
    image = np.full((60, 50), 500 / 4000, np.float32)
    image[10:30, 5:25] = 3500 / 4000
    turned = torch.from_numpy(np.ascontiguousarray(image.T))  # orient: left first, then down
    with torch.inference_mode():
        found: npt.NDArray[np.float64] = net(turned[None, None])[0].double().numpy()
    return found


TABLE = PREPARE.format(name="DenseNet", arguments=DENSENET % 0.0, windows="")


def test_conditions_get_their_chances_calibrated(tmp_path: Path) -> None:
    net = dense()
    more = "".join(
        manifests.condition(key, (value, "SCT", meaning), absent_below=0.3, metrics=METRICS, more=extra)
        for key, value, meaning, extra in (
            ("one", "36118008", "Pneumothorax", ""),
            ("two", "60046008", "Pleural effusion", PLATT),
            ("three", "95436008", "Pulmonary consolidation", ""),
        )
    )  # fmt: skip

    outcome = run(
        tmp_path, head(kind='"classification"', activation='"sigmoid"', conditions='["one", "two", "three"]'), more,
        net, TABLE,
    )  # fmt: skip

    assert outcome.prediction.status is Status.SUCCEEDED, outcome.prediction.reason
    x = logits(net) * [1, 2, 1] + [0, 1, 0]
    expected = 1 / (1 + np.exp(-x))
    assert [f.probability for f in outcome.prediction.findings] == pytest.approx(list(expected), abs=2e-3)


@pytest.mark.parametrize("activation", ["softmax", "cumulative"])
def test_a_grade_is_given_from_classes_or_steps_of_a_scale(tmp_path: Path, activation: str) -> None:
    net = dense()
    is_scale = activation == "cumulative"
    more = density(ordinal=is_scale, classes=(*DENSITIES, ("4", "99T", "Highest")) if is_scale else DENSITIES)

    outcome = run(
        tmp_path, head(kind='"classification"', activation=f'"{activation}"', grade='"density"'), more, net, TABLE
    )

    assert outcome.prediction.status is Status.SUCCEEDED, outcome.prediction.reason
    (grade,) = outcome.prediction.grades
    x = logits(net)
    if activation == "softmax":
        expected = np.exp(x) / np.exp(x).sum()
    else:
        above = np.minimum.accumulate(1 / (1 + np.exp(-x)))
        expected = np.r_[1, above] - np.r_[above, 0]
    assert [p.probability for p in grade.probabilities] == pytest.approx(list(expected), abs=2e-3)
    assert grade.answer is not None


def test_a_grade_far_from_the_training_data_is_not_given(tmp_path: Path) -> None:
    abstain = 'abstain = { by = "energy", above = -1000.0, coverage = 0.9, source = "t" }'
    more = density(more=abstain)
    table = TABLE.replace("[[network.models]]", '[network]\naverage = "logits"\n[[network.models]]', 1)

    outcome = run(
        tmp_path, head(kind='"classification"', activation='"softmax"', grade='"density"'), more, dense(), table
    )

    (grade,) = outcome.prediction.grades
    assert grade.answer is None
    assert "energy" in grade.text


def test_dropout_passes_are_averaged_and_the_same_in_every_run(tmp_path: Path) -> None:
    more = density()
    net, table = dense(0.5), PREPARE.format(name="DenseNet", arguments=DENSENET % 0.5, windows="")
    said = head(kind='"classification"', activation='"softmax"', grade='"density"', passes="8")

    first, second = (run(tmp_path / name, said, more, net, table) for name in ("a", "b"))

    chances = [[p.probability for p in o.prediction.grades[0].probabilities] for o in (first, second)]
    assert chances[0] == chances[1]
    x = logits(net)
    assert chances[0] != pytest.approx(list(np.exp(x) / np.exp(x).sum()), abs=1e-4)


def test_passes_without_dropout_are_refused(tmp_path: Path) -> None:
    more = density()

    with pytest.raises(Misconfigured, match="passes needs dropout"):
        run(
            tmp_path, head(kind='"classification"', activation='"softmax"', grade='"density"', passes="4"), more,
            dense(), TABLE,
        )  # fmt: skip


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++", "score-cam"])
def test_what_moved_the_answer_is_shown_on_the_radiograph(tmp_path: Path, method: str) -> None:
    more = density()
    said = head(
        kind='"classification"', activation='"softmax"', grade='"density"',
        saliency=f'{{ layer = "features.norm5", method = "{method}" }}',
    )  # fmt: skip

    outcome = run(tmp_path, said, more, dense(), TABLE)

    assert outcome.prediction.status is Status.SUCCEEDED, outcome.prediction.reason
    assert len(outcome.prediction.heatmaps) == 1
    (values,) = outcome.arrays
    assert values.shape == (1, 60, 50)
    assert float(values.max()) > 0


UNET = PREPARE.format(
    name="BasicUNet",
    arguments="{ spatial_dims = 2, in_channels = 1, out_channels = 2, features = [2, 2, 2, 2, 2, 2], norm = 'batch' }",
    windows="multiple = 16",
)


def marking() -> torch.nn.Module:
    """A UNet whose skip connection alone is heard: the second class where the picture is bright."""
    from monai.networks.nets.basic_unet import BasicUNet

    net: torch.nn.Module = BasicUNet(
        spatial_dims=2, in_channels=1, out_channels=2, features=(2, 2, 2, 2, 2, 2), norm="batch"
    ).eval()
    state = net.state_dict()
    for key, value in state.items():
        value.zero_() if "running_var" not in key else value.fill_(1.0)
    for name in ("conv_0.conv_0", "conv_0.conv_1", "upcat_1.convs.conv_0", "upcat_1.convs.conv_1"):
        state[f"{name}.conv.weight"][0, 0, 1, 1] = 1.0  # the first channel passes through
        state[f"{name}.adn.N.weight"].fill_(1.0)
    state["final_conv.weight"][:, 0, 0, 0] = torch.tensor([-40.0, 40.0])
    state["final_conv.bias"].copy_(torch.tensor([20.0, -20.0]))
    net.load_state_dict(state)
    return net


def test_a_part_of_a_radiograph_is_marked_and_its_area_measured(tmp_path: Path) -> None:
    area = """
[[measurements]]
key = "area"
name = { value = "42798000", scheme = "SCT", meaning = "Area" }
unit = { value = "mm2", scheme = "UCUM", meaning = "square millimeter" }
method = "counted"
plausible = [0, 1e6]
plausible_source = "tests"
"""
    said = head(
        kind='"segmentation"', activation='"softmax"', segments="[0, 1]",
        measures='[{ key = "area", segments = [1], quantity = "area" }]',
    )  # fmt: skip

    outcome = run(tmp_path, said, segment(1) + area, marking(), UNET)

    assert outcome.prediction.status is Status.SUCCEEDED, outcome.prediction.reason
    assert outcome.mask is not None
    expected = np.zeros((1, 60, 50), np.uint8)
    expected[0, 10:30, 5:25] = 1
    np.testing.assert_array_equal(outcome.mask, expected)
    assert outcome.prediction.measurements[0].value == pytest.approx(400 * 0.04)


def test_a_bright_thing_is_detected_at_its_place(tmp_path: Path) -> None:
    entry = manifests.detection("mass", "Mass", manifests.MASS, metrics=METRICS)
    length = """
[[measurements]]
key = "length"
detection = "mass"
name = { value = "103339001", scheme = "SCT", meaning = "Long axis" }
unit = { value = "mm", scheme = "UCUM", meaning = "millimeter" }
method = "box"
plausible = [0, 1e6]
plausible_source = "tests"
"""
    said = head(kind='"detection"', activation='"softmax"', keys='["", "mass"]', extent='"length"')
    flipped = bright_square(builders.radiograph(), slice(20, 30), slice(30, 45))
    flipped.PatientOrientation = ["R", "F"]  # another way round than the network wants it

    outcome = run(tmp_path, said, entry + length, marking(), UNET, flipped)

    assert outcome.prediction.status is Status.SUCCEEDED, outcome.prediction.reason
    (found,) = outcome.prediction.detections
    assert found.location.low == pytest.approx((0, 19.5, 29.5))
    assert found.location.high == pytest.approx((0, 29.5, 44.5))
    assert found.measurements[0].value == pytest.approx(15 * 0.2)
    assert outcome.prediction.findings[0].presence is Presence.PRESENT
