"""The ``[network]`` table of ``model.toml``: a trained network, and what is done before, around and after it.

Everything is data: a package can bring weights and numbers, never code. Axes are those of the array that the network
sees; until a step turns it, that is (frame, row, column) of the series.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from inference.packages.saliency import Saliency
from inference.packages.steps import Crop, Fit, Orient, Pad, Present, Resample, Resize, Step
from storage.settings import Settings

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Variant = Literal["channels-last", "bf16", "fp16", "tf32", "compiled", "int8"]


class Architecture(Settings):
    """A network that is built by name; its weights come from a state dict."""

    name: str
    """From the list of networks that may be built, e.g. ``MeshNet`` or ``monai.UNet`` (see docs/models.md)."""
    arguments: dict[str, JsonValue] = {}
    """Keyword arguments. A text such as ``torch.nn.Conv3d`` stands for a class where that class may be named."""


class Model(Settings):
    """One set of weights, and how they become a function."""

    weights: Name
    """Name of a ``[[weights]]`` entry."""
    format: Literal["export", "torchscript", "state-dict", "safetensors", "onnx"]
    """``export`` (torch.export, .pt2) is the project's own: exact, fast, and it carries its architecture."""
    architecture: Architecture | None = None
    """Of a state dict or safetensors, which carry none."""
    prefix: str = ""
    """Of the state dict's keys, taken off, e.g. ``module.``."""
    int8: Name | None = None
    """Name of a ``[[weights]]`` entry with the same network in 8 bits (ONNX), as its maker quantised it on data of his
    own: what the variant int8 runs."""
    inside: str = ""
    """Key under which a checkpoint keeps its state dict. Default: it is one."""
    select: int = Field(default=0, ge=0)
    """Which output is meant where the network gives several. Default: the first."""

    @model_validator(mode="after")
    def _has_architecture(self) -> Self:
        bare = self.format in ("state-dict", "safetensors")
        if bare != (self.architecture is not None):
            raise ValueError(f"format {self.format} {'needs an' if bare else 'carries its own'} architecture")
        return self


class Channel(Settings):
    """One input channel of the network."""

    role: Name | None = None
    """Role of a further input series, on the grid of the first. Default: the series that the run is of."""


class Windows(Settings):
    """How a volume is cut for the network and put together again."""

    dimensions: Literal[2, 3] = 3
    """2: the network sees one plane at a time; planes follow each other along the first axis."""
    neighbours: int = Field(default=0, ge=0, le=16)
    """2-D only: planes on either side that are given as further channels, the outermost repeated (2.5-D)."""
    size: tuple[int, ...] | None = None
    """Voxels along each axis, three numbers, for planes two. Default: the whole volume, or the whole plane."""
    least: tuple[int, ...] | None = None
    """Size that windows may shrink to where memory does not suffice, if the network was validated with it too.
    Default: never; the run is then refused for want of memory."""
    multiple: int = Field(default=1, ge=1)
    """What is seen whole is padded so that its size can be divided by this."""
    overlap: float = Field(default=0.5, ge=0, lt=1)
    """Least part of a window that it shares with the next one."""
    steps: Literal["regular", "even"] = "regular"
    """Windows at equal steps of which the last is moved back (as MONAI does), or spread evenly (as nnU-Net does)."""
    blending: Literal["gaussian", "constant"] = "gaussian"
    """Weight of a voxel by its place in the window."""
    sigma: float = Field(default=0.125, gt=0)
    """Of the Gaussian, as a part of the window."""
    floor: float = Field(default=1e-3, ge=0, lt=1)
    """Least weight, so that the rim of a volume keeps its digits. 0: the least weight that is not zero."""
    batch: int = Field(default=1, ge=1, le=64)
    """Windows per forward pass."""
    fill: float = 0.0
    """Value around a volume that is smaller than a window."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.neighbours and self.dimensions == 3:
            raise ValueError("neighbours are for networks of 2 dimensions")
        if self.size is not None and (len(self.size) != self.dimensions or min(self.size) < 1):
            raise ValueError(f"size needs {self.dimensions} numbers from 1")
        if self.least is not None and (
            self.size is None
            or len(self.least) != len(self.size)
            or not all(1 <= small <= large for small, large in zip(self.least, self.size, strict=True))
        ):
            raise ValueError("least needs a size, and is no larger than that along any axis")
        if self.size is not None and self.multiple > 1:
            raise ValueError("multiple is for networks that see the whole; a window has its size")
        return self


class Clean(Settings):
    """What is done to one segment of the mask after the network; steps run in order."""

    do: Literal["largest", "at-least", "fill-holes"]
    """Keep the largest connected part, drop parts smaller than ``ml``, or fill holes (26 neighbours; holes: 6)."""
    segments: tuple[int, ...] = Field(min_length=1)
    """Numbers of the segments, each cleaned by itself."""
    ml: float | None = Field(default=None, gt=0)
    """Of ``at-least``."""
    together: bool = False
    """Clean the union of the segments as one."""

    @model_validator(mode="after")
    def _sized(self) -> Self:
        if (self.do == "at-least") != (self.ml is not None):
            raise ValueError("ml belongs to at-least, and to it alone")
        return self


class Measure(Settings):
    """A measurement that is counted in the mask."""

    key: Name
    """Key of a ``[[measurements]]`` entry."""
    segments: tuple[int, ...] = Field(min_length=1)
    """It is taken over the union of these."""
    quantity: Literal["volume", "area", "mean", "maximum", "minimum"] = "volume"
    """Volume in mL, of a radiograph the area in mm2, or a statistic of the series' own values (HU)."""


class Segmentation(Settings):
    """The network gives one map per class, which become a mask on the grid of the series."""

    kind: Literal["segmentation"]
    activation: Literal["softmax", "sigmoid", "none"]
    """Softmax: classes exclude each other; sigmoid: each class by itself; none: the network has done it already."""
    exclusive: bool = True
    """Only of ``none``: whether the greatest class wins, or each one counts by itself as with sigmoid."""
    segments: tuple[int, ...] = Field(min_length=1)
    """Number of the segment that each channel stands for; 0 is background. Of overlapping ones the later one wins."""
    overlapping: bool = False
    """Only of classes that count by themselves: a voxel is in each segment whose channel says so, and none wins."""
    threshold: float = 0.5
    """From which a class by itself counts."""
    back: Literal["probabilities", "logits", "labels"] = "probabilities"
    """What is brought back to the grid of the series before the class is chosen: probabilities (linear), which keeps
    thin structures and volumes; logits (linear), as nnU-Net does; or the chosen labels (nearest)."""
    clean: tuple[Clean, ...] = ()
    measures: tuple[Measure, ...] = ()

    @property
    def competing(self) -> bool:
        """Whether the class with the greatest value wins."""
        return self.activation == "softmax" or (self.activation == "none" and self.exclusive)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if max(self.segments) > 65535 or min(self.segments) < 0:
            raise ValueError("a mask has numbers from 0 to 65535")
        if self.competing and len(self.segments) < 2:
            raise ValueError("classes that exclude each other are two at least: background and one segment")
        if not self.competing and (0 in self.segments or len(self.segments) > 62):
            raise ValueError("classes that count by themselves have no background, and are 62 at most")
        if self.overlapping and (self.competing or len(set(self.segments)) < len(self.segments)):
            raise ValueError("overlapping is for classes that count by themselves, each a segment of its own")
        if self.overlapping and any(step.together for step in self.clean):
            raise ValueError("overlapping segments are cleaned each by itself, not together")
        return self


class Regression(Settings):
    """The network gives one vector; its elements are measurements."""

    kind: Literal["regression"]
    keys: tuple[Name, ...] = Field(min_length=1)
    """Measurement of each element."""
    scale: tuple[float, ...] = ()
    """What each element is multiplied by. Default: 1."""
    offset: tuple[float, ...] = ()
    """What is then added. Default: 0."""

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if any(len(numbers) not in (0, len(self.keys)) for numbers in (self.scale, self.offset)):
            raise ValueError("scale and offset need one number for each key")
        return self


class Classification(Settings):
    """The network gives one vector; its elements are classes of a grade, or conditions."""

    kind: Literal["classification"]
    activation: Literal["softmax", "sigmoid", "cumulative"]
    """Softmax: elements exclude each other; sigmoid: each by itself; cumulative: steps of a scale, where element k is
    the log-odds that the truth lies above class k, so that there is one element less than classes (CORN, CORAL)."""
    grade: Name | None = None
    """Key of a ``[[grades]]`` entry of the series, whose classes are the elements in their order."""
    conditions: tuple[Name | Literal[""], ...] = ()
    """Instead: key of the ``[[conditions]]`` entry that each element stands for; an empty one is said of nothing,
    like the first of normal and abnormal."""
    passes: int = Field(default=1, ge=1, le=64)
    """Above 1: Monte Carlo dropout. Passes with dropout at work, whose answers are averaged; for state dicts."""
    disagreement: float | None = Field(default=None, gt=0, lt=1)
    """Of an ensemble, or of passes: how far they may disagree (mutual information over its maximum, 0 to 1) before the
    reader is warned. Default: never."""
    saliency: Saliency | None = None

    @model_validator(mode="after")
    def _one_meaning(self) -> Self:
        if (self.grade is None) == (not any(self.conditions)):
            raise ValueError("name a grade, or conditions")
        if (self.activation == "sigmoid" and self.grade) or (self.activation == "cumulative" and self.conditions):
            raise ValueError("sigmoid is for conditions, cumulative for a grade")
        named = [key for key in self.conditions if key]
        if len(set(named)) < len(named):
            raise ValueError("a condition can be named once")
        return self


class Detecting(Settings):
    """The network gives one map per kind of object, whose connected parts become boxes, or boxes themselves."""

    kind: Literal["detection"]
    form: Literal["maps", "boxes"] = "maps"
    """Boxes: the network gives (windows, candidates, corners and a value for each kind)."""
    activation: Literal["softmax", "sigmoid", "none"]
    keys: tuple[Name | Literal[""], ...] = Field(min_length=1)
    """Key of the ``[[detections]]`` entry that each channel stands for; an empty one is background."""
    at_least: float = Field(default=0.1, gt=0, lt=1)
    """Pixels from this probability on that touch each other are one candidate; its score is their greatest one. Of
    boxes, those from this probability on are candidates."""
    smallest: int = Field(default=1, ge=1)
    """Candidates of fewer pixels of the network's grid are dropped; of boxes, those of a smaller area or volume."""
    corners: Literal["ends", "centre"] = "ends"
    """Of boxes: lowest then highest corner, or centre then size; in voxels from the outer edge of the window."""
    axes: Literal["array", "reversed"] = "array"
    """Order of a corner's numbers: that of the array (depth, height, width), or width first as torchvision has it."""
    suppress: float | None = Field(default=None, gt=0, lt=1)
    """Of candidates of one kind, also of neighbouring windows, that overlap by more (intersection over union), the most
    probable stays. Default: 0.5 of boxes; the parts of a map stay."""
    fuse: float | None = Field(default=None, gt=0, lt=1)
    """Above this overlap, boxes that the models of an ensemble and the mirrors find each by itself are fused, weighted
    by their probability; what only some see becomes less probable. Default: 0.5 of boxes; maps are averaged first."""
    extent: Name | None = None
    """Key of the measurement that the longest edge of each box in mm becomes. Default: none."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        named = [key for key in self.keys if key]
        if not named or len(set(named)) < len(named):
            raise ValueError("keys must name at least one detection, each once")
        return self


class Enhancing(Settings):
    """The network gives an image as large as its input, in the unit of what it saw: denoised, or in other ways better.

    Steps on values are undone for it; what the network did not see stays as it is.
    """

    kind: Literal["enhancement"]
    image: Name
    """Key of the ``[[images]]`` entry that it becomes."""
    channel: int = Field(default=0, ge=0)
    """Of the network's output."""
    residual: bool = False
    """The network gives what is to be taken off, such as the noise."""


class Bare(Settings):
    """The network's output is read by an algorithm of its own (classification, detection, images)."""

    kind: Literal["bare"]
    activation: Literal["softmax", "sigmoid", "none"] = "none"
    """Applied along the class axis, before averaging if that is of probabilities."""


Output = Annotated[
    Segmentation | Regression | Classification | Detecting | Enhancing | Bare, Field(discriminator="kind")
]


class Limits(Settings):
    """What a faster way of computing must keep of eager float32 on the self-test, or it is not used."""

    agreement: float = Field(default=0.999, gt=0, le=1)
    """Least part of voxels with the same label, counted where either marks something."""
    difference: float = Field(default=0.01, ge=0)
    """Greatest difference of a measurement and of new images, as a part of them; of a probability, as it is."""


class Network(Settings):
    """A trained network, run by the project's own code."""

    models: tuple[Model, ...] = Field(min_length=1)
    """One, or an ensemble (folds) whose answers are averaged."""
    channels: tuple[Channel, ...] = Field(default=(Channel(),), min_length=1)
    """Input channels in their order."""
    prepare: tuple[Step, ...] = ()
    """What is done to the voxels, in order; steps that move voxels are undone on the way back."""
    windows: Windows = Windows()
    mirror: tuple[Literal[0, 1, 2], ...] = ()
    """Test-time augmentation: axes along which the input is mirrored, in every combination; answers are averaged."""
    average: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged over windows, mirrors and models. MONAI and nnU-Net average what the network gives (logits)."""
    output: Output
    variants: tuple[Variant, ...] = ()
    """Faster ways to compute that may be used where they keep the limits. Default: eager float32 alone."""
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.windows.dimensions == 2 and 0 in self.mirror:
            raise ValueError("a network of planes cannot be mirrored along axis 0, which runs through the planes")
        if "int8" in self.variants and any(model.int8 is None for model in self.models):
            raise ValueError("the variant int8 needs int8 weights of every model")
        if len(set(self.mirror)) < len(self.mirror):
            raise ValueError("an axis can be mirrored once")
        moves = [step for step in self.prepare if isinstance(step, Orient | Crop | Resample | Resize | Fit | Pad)]
        if any(isinstance(step, Orient) for step in moves[1:]):
            raise ValueError("orient comes once, before the steps that crop, resample or pad")
        if any(
            max(c, default=0) >= len(self.channels) for c in (getattr(s, "channels", None) or () for s in self.prepare)
        ):
            raise ValueError(f"a step names a channel that is not there: channels are 0 to {len(self.channels) - 1}")
        if isinstance(self.output, Enhancing) and any(
            isinstance(step, Present) or getattr(step, "over", "all") != "all" for step in self.prepare
        ):
            raise ValueError(
                "an enhancement needs steps that can be undone: neither present nor over part of the voxels"
            )
        if isinstance(self.output, Regression | Classification) and self.windows.size is not None:
            raise ValueError(f"a {self.output.kind} is made of the whole volume: leave size out of windows")
        return self

    def faults(
        self,
        *,
        weights: Collection[str],
        segments: Collection[int],
        measurements: Collection[str],
        outputs: Collection[str],
    ) -> Iterator[str]:
        """What this table names and the rest of the manifest does not have."""
        for model in self.models:
            for name in (model.weights, model.int8):
                if name is not None and name not in weights:
                    yield f"there are no weights {name}"
        if isinstance(self.output, Bare):
            return
        if isinstance(self.output, Classification):
            said = (self.output.grade,) if self.output.grade else self.output.conditions
            yield from (f"there is no grade or condition {key}" for key in said if key and key not in outputs)
            return
        if isinstance(self.output, Enhancing):
            if self.output.image not in outputs:
                yield f"there is no image {self.output.image}"
            return
        if isinstance(self.output, Detecting):
            yield from (f"there is no detection {key}" for key in self.output.keys if key and key not in outputs)
            if self.output.extent and self.output.extent not in measurements:
                yield f"there is no measurement {self.output.extent}"
            return
        if isinstance(self.output, Regression):
            yield from (f"there is no measurement {key}" for key in self.output.keys if key not in measurements)
            return
        named = {*self.output.segments} - {0}
        named |= {number for step in self.output.clean for number in step.segments}
        named |= {number for measure in self.output.measures for number in measure.segments}
        yield from (f"there is no segment {number}" for number in sorted(named - {*segments}))
        yield from (f"there is no measurement {m.key}" for m in self.output.measures if m.key not in measurements)
