"""A package's network on a volume: the forward pass and all that belongs to it, for every algorithm that runs one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from inference.imaging.irregular import NOT_SUPPORTED, Irregular
from inference.imaging.volume import Volume
from inference.networks.device import device_of, memory
from inference.networks.formats import Net, load
from inference.networks.intensity import Scaling
from inference.networks.prepare import prepare, to_size
from inference.networks.way import Way
from inference.networks.windows import Slab, slabs
from inference.packages.network import Network, Windows
from inference.packages.package import Package
from inference.runtime import OutOfMemory, Runtime
from storage.facts.errors import Misconfigured

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nets:
    """The networks of one package on one device, in one way of computing."""

    members: tuple[Net, ...]
    device: torch.device
    variant: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """Everything that a forward pass needs, for algorithms that make their own."""

    network: Network
    nets: Nets
    image: Tensor  #: float32 (channels, and the network's grid) on the device
    way: Way  #: from the grid of the series to the network's, and back
    scaling: Scaling = field(default_factory=Scaling)  #: of the values of the first channel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Maps:
    """What a network says of every voxel, averaged over windows, mirrors and models."""

    values: npt.NDArray[np.float32]  #: (classes, and the network's grid)
    way: Way
    device: str = "cpu"  #: where it ran

    def on_source(self) -> npt.NDArray[np.float32]:
        """(classes, frames, rows, columns), linear."""
        return self.way.back(self.values)


def open_network(volume: Volume, package: Package, runtime: Runtime) -> Opened:
    """Prepare a volume for the package's network, and load that unless it is warm.

    Raises Misconfigured when the package has no network or its weights are wrong, Irregular when the volume leaves
    nothing to see, Transient when memory ends.
    """
    network = package.manifest.network
    if network is None:
        raise Misconfigured(f"{package.manifest.id}: it has no [network]: declare one, or name another algorithm")
    if runtime.tile_scale < 1:
        windows = _smaller(network.windows, runtime.tile_scale, package.manifest.id)
        network = network.model_copy(update={"windows": windows})
    device = device_of(runtime.device)
    chosen = runtime.variant
    runtime.checkpoint()
    with memory(f"the network of {package.manifest.id}"):
        nets = runtime.models.get((package.digest, str(device), chosen), lambda: load_nets(package, device, chosen))
        prepared = prepare(volume, network, device)
        image, way = to_size(
            prepared.image, prepared.way, _least(prepared.image, network.windows), network.windows.fill
        )
    return Opened(network=network, nets=nets, image=image, way=way, scaling=prepared.scaling)


def load_nets(package: Package, device: torch.device, variant: tuple[str, ...] = ()) -> Nets:
    """Every network of the package. Raises Misconfigured where one is not what its entry says."""
    network = package.manifest.network
    assert network is not None
    members = [load(package, model, device, variant) for model in network.models]
    return Nets(members=tuple(_varied(net, variant) for net in members), device=device, variant=variant)


def vector(volume: Volume, package: Package, runtime: Runtime) -> npt.NDArray[np.float32]:
    """(elements,): what a network says of the whole volume, activated, averaged over mirrors and models."""
    opened = open_network(volume, package, runtime)
    found: npt.NDArray[np.float32] = activated(opened.network, answer_of(opened, runtime.checkpoint), 0).cpu().numpy()
    return found


def answer_of(opened: Opened, checkpoint: Callable[[], None]) -> Tensor:
    """(elements,): the answer for the whole, averaged over mirrors and models; logits unless probabilities are.

    Raises Misconfigured where the network gives something else than one vector.
    """
    checkpoint()
    with memory("the answer of the network"), torch.inference_mode():
        answer = runner(opened)(whole(opened))
    if answer.ndim != 2 or len(answer) != 1:
        raise Misconfigured(f"the network gives {tuple(answer.shape)} instead of one vector")
    return answer[0]


def whole(opened: Opened) -> Tensor:
    """The image as a batch of one: (1, channels, depth, height, width), or without the depth for planes.

    Raises Irregular when a network of one plane is given several.
    """
    if opened.network.windows.dimensions == 3:
        return opened.image[None]
    if opened.image.shape[1] != 1:
        raise Irregular(NOT_SUPPORTED, f"This model answers for one image; the series has {opened.image.shape[1]}.")
    return opened.image[:, 0][None]


def maps(volume: Volume, package: Package, runtime: Runtime) -> Maps:
    """Values of every class and voxel, activated; for answers that are read as a whole. Segmentation streams instead.

    The network must give as many voxels as it gets.
    """
    opened = open_network(volume, package, runtime)
    return Maps(values=maps_of(opened, runtime.checkpoint), way=opened.way, device=str(opened.nets.device))


def maps_of(opened: Opened, checkpoint: Callable[[], None]) -> npt.NDArray[np.float32]:
    """The same of what is opened: (classes, and the network's grid)."""
    found = None
    with memory("the maps of the network"), torch.inference_mode():
        for slab in stream(opened, checkpoint, averaged=True):
            values = activated(opened.network, slab.values, 0).cpu().numpy()
            if found is None:
                found = np.empty((len(values), *opened.image.shape[1:]), np.float32)
            found[:, slab.first : slab.first + values.shape[1]] = values
    assert found is not None
    return found


def views(opened: Opened) -> Iterator[tuple[Opened, tuple[int, ...]]]:
    """Each model of the ensemble by itself, on the image and on each of its mirror images, with the mirrored axes."""
    network = opened.network.model_copy(update={"mirror": ()})
    for net in opened.nets.members:
        nets = replace(opened.nets, members=(net,))
        for axes in mirrored(opened.network):
            image = opened.image.flip([axis + 1 for axis in axes]) if axes else opened.image
            yield replace(opened, network=network, nets=nets, image=image), axes


def mirrored(network: Network) -> list[tuple[int, ...]]:
    """The axes that are mirrored at a time, none first."""
    return [axes for count in range(len(network.mirror) + 1) for axes in itertools.combinations(network.mirror, count)]


def stream(opened: Opened, checkpoint: Callable[[], None], *, averaged: bool) -> Iterator[Slab]:
    """The answer, slab after slab along the network's first axis. Logits, unless the package averages probabilities."""
    run = runner(opened)
    planes = opened.network.windows.dimensions == 2

    def checked(image: Tensor) -> Tensor:
        answer = run(image)
        if answer.shape[0] != image.shape[0] or answer.shape[2:] != image.shape[2:]:
            raise Misconfigured(
                f"the network gives {tuple(answer.shape)} for {tuple(image.shape)}: it must give as many "
                f"{'pixels' if planes else 'voxels'} as it gets"
            )
        return answer

    yield from slabs(opened.image, checked, opened.network.windows, checkpoint, averaged=averaged)


def activated(network: Network, values: Tensor, axis: int) -> Tensor:
    """Probabilities of an averaged answer."""
    return values if network.average == "probabilities" else _activate(network, values, axis)


def runner(opened: Opened) -> Callable[[Tensor], Tensor]:
    """A function of a batch: the mean over mirrors and models, of probabilities or of logits, in float32."""
    network, nets = opened.network, opened.nets
    early = network.average == "probabilities"
    shift = 2 if network.windows.dimensions == 3 else 1
    flips = [[axis + shift for axis in axes] for axes in mirrored(network)]

    def one(net: Net, image: Tensor, axes: list[int]) -> Tensor:
        answer = net(image.flip(axes) if axes else image).float()
        if early:
            answer = _activate(network, answer, 1)
        return answer.flip(axes) if axes and answer.ndim == image.ndim else answer

    def run(image: Tensor) -> Tensor:
        with computing(nets):
            answers = (one(net, image, axes) for net in nets.members for axes in flips)
            total = next(answers)
            if len(nets.members) * len(flips) == 1:
                return total
            total = total.clone()
            for answer in answers:
                total += answer
            return total.div_(len(nets.members) * len(flips))

    return run


def activate(activation: str, values: Tensor, axis: int) -> Tensor:
    """Probabilities from what a network gives, as its output declares it, along the axis of classes."""
    match activation:
        case "softmax":
            return torch.softmax(values, axis)
        case "sigmoid":
            return torch.sigmoid(values)
        case "cumulative":
            return _steps(torch.sigmoid(values), axis)
        case _:
            return values


def _activate(network: Network, values: Tensor, axis: int) -> Tensor:
    return activate(getattr(network.output, "activation", "none"), values, axis)


def _steps(above: Tensor, axis: int) -> Tensor:
    """Classes of a scale from the probabilities that the truth is above each step, which must not rise."""
    above = torch.cummin(above, axis).values
    ends = torch.ones_like(above.narrow(axis, 0, 1))
    return torch.cat([ends, above], axis) - torch.cat([above, torch.zeros_like(ends)], axis)


def _smaller(windows: Windows, scale: float, name: str) -> Windows:
    """Fewer windows a pass, then the smallest ones that the package allows.

    Raises OutOfMemory where nothing can be made smaller: a window that nobody validated is not an answer.
    """
    batch = max(1, int(windows.batch * scale))
    if windows.batch * scale >= 1 and batch < windows.batch:
        return windows.model_copy(update={"batch": batch})
    if windows.least is None:
        raise OutOfMemory(f"{name} cannot be run in smaller parts: its [network.windows] declares no least size")
    return windows.model_copy(update={"batch": 1, "size": windows.least})


def _least(image: Tensor, windows: Windows) -> tuple[int, int, int]:
    """The size that the image needs at least for one window, or the multiple of which it is seen whole."""
    size = list(image.shape[1:])
    first = 0 if windows.dimensions == 3 else 1
    for axis in range(first, 3):
        if windows.size is not None:
            size[axis] = max(size[axis], windows.size[axis - first])
        else:
            size[axis] = -(-size[axis] // windows.multiple) * windows.multiple
    return size[0], size[1], size[2]


def _varied(net: Net, variant: tuple[str, ...]) -> Net:
    """The network in another memory format, or compiled."""
    module = net.module
    if module is None:
        return net
    if "channels-last" in variant:
        lasting = _channels_last(module)
        net = replace(net, call=lasting, module=module)
    if "compiled" in variant:
        net = replace(net, call=torch.compile(net.call))
    return net


def _channels_last(module: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    for parameter in (*module.parameters(), *module.buffers()):
        if parameter.ndim in (4, 5):
            form = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
            parameter.data = parameter.data.to(memory_format=form)

    def call(image: Tensor) -> Tensor:
        form = torch.channels_last if image.ndim == 4 else torch.channels_last_3d
        answer: Tensor = module(image.to(memory_format=form))
        return answer

    return call


def computing(nets: Nets) -> AbstractContextManager[object]:
    """Precision of the pass."""
    kind = nets.device.type
    stack = ExitStack()
    if "bf16" in nets.variant or "fp16" in nets.variant:
        dtype = torch.bfloat16 if "bf16" in nets.variant else torch.float16
        stack.enter_context(torch.autocast(kind, dtype))
    if "tf32" in nets.variant and kind == "cuda":
        stack.enter_context(torch.backends.cudnn.flags(allow_tf32=True))
    return stack if nets.variant else nullcontext()
