"""What the usual parts of a MONAI bundle mean in our declarative form (MONAI 1.6: transforms, inferers)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from inference.bringing.bundle_reading import ADVICE, Config, Unread

_PREPROCESSING = ("preprocessing", "pre_transforms", "transforms_infer", "preprocessing_transforms")
_POSTPROCESSING = ("postprocessing", "post_transforms", "postprocessing_transforms")
#: Of no meaning here: they read, convert or move, and change no value that the network sees.
_NEUTRAL = frozenset(
    {"LoadImaged", "EnsureChannelFirstd", "EnsureTyped", "ToTensord", "CastToTyped", "ToDeviced", "Identityd",
     "SaveImaged", "DeleteItemsd", "CopyItemsd", "SqueezeDimd"}
)  # fmt: skip
_LINEAR, _NEAREST = ("bilinear", "trilinear", "linear"), ("nearest", "nearest-exact")
_DEFAULT = {"keys", "allow_missing_keys", "meta_keys", "meta_key_postfix", "dtype", "lazy", "image_only"}

Arguments = Mapping[str, Any]
Steps = list[dict[str, Any]]


class _Taken:
    """Arguments of one transform, taken one by one: what is left over is not understood."""

    def __init__(self, config: Config, place: str, name: str, arguments: Arguments) -> None:
        self._config, self.place, self.name = config, place, name
        self._left = {key: value for key, value in arguments.items() if key not in _DEFAULT}

    def take(self, key: str, default: Any = None) -> Any:
        """The plain value of an argument."""
        return self._config.value(self._left.pop(key), f"{self.place}#{key}") if key in self._left else default

    def drop(self, *keys: str) -> None:
        """These do not matter."""
        for key in keys:
            self._left.pop(key, None)

    def expect(self, key: str, *allowed: Any) -> None:
        """Raises Unread when the argument is there and is none of these."""
        value = self.take(key, allowed[0])
        if isinstance(value, list) and len(set(map(str, value))) == 1:
            value = value[0]
        if value not in allowed:
            raise self.unread(f"{key} = {value!r}", f"only {' or '.join(map(repr, allowed))} is known here")

    def done(self) -> None:
        """Raises Unread when an argument was not asked for."""
        for key, value in self._left.items():
            if value is not None:
                raise self.unread(f"{key} = {value!r}", "this argument is not known here")

    def note(self, text: str) -> None:
        """What the reader of the draft should know."""
        self._config.notes.append(f"{self.place}: {text}")

    def unread(self, what: str, why: str) -> Unread:
        return Unread([f"{self._config.name}, {self.place} ({self.name}): {what[:120]}: {why}: {ADVICE}"])


def prepared(config: Config) -> Steps:
    """The ``prepare`` steps. Raises Unread with every transform that is not understood."""
    steps: Steps = []
    faults: list[str] = []
    for place, name, arguments in config.transforms(*_PREPROCESSING):
        if name in _NEUTRAL:
            continue
        taken = _Taken(config, place, name, arguments)
        make = _STEPS.get(name)
        try:
            if make is None:
                raise taken.unread(f"_target_ {name}", "this transform is not known here")
            steps += make(taken)
            taken.done()
        except Unread as error:
            faults += error.faults
    if not faults and not any(step["do"] == "orient" for step in steps):
        faults.append(
            f"{config.name}: without Orientationd the network sees each image as its file stores it, which no "
            f"package can promise: {ADVICE}"
        )
    if faults:
        raise Unread(faults)
    return steps


def _orientation(taken: _Taken) -> Steps:
    taken.drop("labels")
    letters = str(taken.take("axcodes", "")).upper()
    if len(letters) != 3:
        raise taken.unread(f"axcodes = {letters!r}", "three letters such as RAS are wanted")
    taken.expect("as_closest_canonical", False)
    return [{"do": "orient", "to": letters}]


def _spacing(taken: _Taken) -> Steps:
    lengths = [max(float(length), 0.0) for length in taken.take("pixdim", [])]
    if len(lengths) != 3:
        raise taken.unread(f"pixdim = {lengths}", "three lengths are wanted")
    mode = _first(taken.take("mode", "bilinear"))
    if mode not in (*_LINEAR, *_NEAREST):
        raise taken.unread(f"mode = {mode!r}", "only bilinear and nearest are known here")
    taken.expect("diagonal", False)
    taken.expect("padding_mode", "border")
    taken.expect("align_corners", False, True)  # the same for a grid of the same first voxel
    taken.expect("scale_extent", False)
    taken.drop("recompute_affine", "ensure_same_shape")
    interpolation = "nearest" if mode in _NEAREST else "linear"
    return [{"do": "resample", "spacing": lengths, "interpolation": interpolation, "extent": "centres"}]


def _range(taken: _Taken) -> Steps:
    low, high = float(taken.take("a_min")), float(taken.take("a_max"))
    to = [float(taken.take("b_min", 0.0)), float(taken.take("b_max", 1.0))]
    return [{"do": "range", "low": low, "high": high, "to": to, "clip": bool(taken.take("clip", False))}]


def _percentiles(taken: _Taken) -> Steps:
    low, high = float(taken.take("lower")) / 100, float(taken.take("upper")) / 100
    to = [float(taken.take("b_min", 0.0)), float(taken.take("b_max", 1.0))]
    taken.expect("relative", False)
    taken.drop("channel_wise")
    return [{"do": "range", "quantiles": [low, high], "to": to, "clip": bool(taken.take("clip", False))}]


def _min_max(taken: _Taken) -> Steps:
    to = [float(taken.take("minv", 0.0)), float(taken.take("maxv", 1.0))]
    taken.drop("channel_wise")
    return [{"do": "range", "to": to}]


def _z_score(taken: _Taken) -> Steps:
    over = "nonzero" if taken.take("nonzero", False) else "all"
    mean, deviation = taken.take("subtrahend"), taken.take("divisor")
    taken.drop("channel_wise")
    fixed = (
        {} if mean is None and deviation is None else {"mean": float(mean or 0.0), "deviation": float(deviation or 1.0)}
    )
    return [{"do": "z-score", "over": over, **fixed}]


def _foreground(taken: _Taken) -> Steps:
    taken.drop("source_key", "start_coord_key", "end_coord_key", "allow_smaller", "channel_indices", "return_coords")
    taken.expect("k_divisible", 1)
    margin = taken.take("margin", 0)
    if not isinstance(margin, int):
        raise taken.unread(f"margin = {margin!r}", "one number is wanted")
    return [{"do": "crop", "above": 0.0, "margin": margin}]


def _resized(taken: _Taken) -> Steps:
    mode = _first(taken.take("mode", "area"))
    taken.expect("align_corners", False, None)
    taken.expect("size_mode", "all")
    taken.expect("anti_aliasing", False)
    if mode not in (*_LINEAR, *_NEAREST):
        raise taken.unread(f"mode = {mode!r}", "only trilinear and nearest are known here")
    return [
        {
            "do": "resize",
            "size": _three(taken, "spatial_size"),
            "interpolation": "nearest" if mode in _NEAREST else "linear",
        }
    ]


def _padded(taken: _Taken) -> Steps:
    taken.expect("method", "symmetric")
    taken.expect("mode", "constant")
    return [{"do": "pad", "size": _three(taken, "spatial_size"), "fill": float(taken.take("value", 0.0))}]


def _fitted(taken: _Taken) -> Steps:
    taken.expect("method", "symmetric")
    taken.expect("mode", "constant")
    return [{"do": "fit", "size": _three(taken, "spatial_size")}]


_STEPS: Mapping[str, Callable[[_Taken], Steps]] = {
    "Orientationd": _orientation,
    "Spacingd": _spacing,
    "ScaleIntensityRanged": _range,
    "ScaleIntensityRangePercentilesd": _percentiles,
    "ScaleIntensityd": _min_max,
    "NormalizeIntensityd": _z_score,
    "CropForegroundd": _foreground,
    "Resized": _resized,
    "SpatialPadd": _padded,
    "ResizeWithPadOrCropd": _fitted,
}


def windows_of(config: Config) -> dict[str, Any]:
    """The ``windows`` table, by the inferer. Raises Unread when that is not known."""
    place, found = config.part("inferer")
    name, arguments = config.target(found, place)
    taken = _Taken(config, place, name, arguments)
    if name == "SimpleInferer":
        taken.done()
        return {"windows": {}}
    if name != "SlidingWindowInferer":
        raise taken.unread(f"_target_ {name}", "only SlidingWindowInferer and SimpleInferer are known here")
    mode = taken.take("mode", "constant")
    if mode not in ("constant", "gaussian"):
        raise taken.unread(f"mode = {mode!r}", "constant or gaussian is wanted")
    windows = {
        "size": _three(taken, "roi_size"),
        "overlap": float(_first(taken.take("overlap", 0.25))),
        "blending": mode,
        "sigma": float(_first(taken.take("sigma_scale", 0.125))),
        "batch": int(taken.take("sw_batch_size", 1)),
        "fill": float(taken.take("cval", 0.0)),
    }
    taken.expect("padding_mode", "constant")
    taken.drop("sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh", "buffer_steps", "buffer_dim")
    taken.drop("with_coord")
    taken.done()
    return {"windows": windows}


def output_of(config: Config) -> dict[str, Any]:
    """The ``output`` table but for its segments; what the activation and the discretising say must go together."""
    output: dict[str, Any] = {"kind": "segmentation", "activation": "none"}
    faults: list[str] = []
    seen: list[str] = []
    for place, name, arguments in config.transforms(*_POSTPROCESSING):
        if name in _NEUTRAL:
            continue
        taken = _Taken(config, place, name, arguments)
        try:
            output |= dict(_said(taken, name, tuple(seen), output))
            taken.done()
        except Unread as error:
            faults += error.faults
        seen.append(name)
    if not faults and "back" not in output:
        output["back"] = "labels"
        config.notes.append("the bundle does not bring its answer back to the grid of the series: here it is (nearest)")
    if not faults and "AsDiscreted" not in seen:
        faults.append(f"{config.name}: without AsDiscreted its answer is no mask: {ADVICE}")
    if faults:
        raise Unread(faults)
    return output


def _said(taken: _Taken, name: str, seen: tuple[str, ...], output: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    match name:
        case "Activationsd":
            soft, sigmoid = taken.take("softmax", False), taken.take("sigmoid", False)
            soft, sigmoid = _first(soft), _first(sigmoid)
            if bool(soft) == bool(sigmoid) or seen:
                raise taken.unread("softmax, sigmoid", "one of both, before everything else, is known here")
            taken.expect("other", None)
            yield "activation", "softmax" if soft else "sigmoid"
        case "Invertd":
            yield "back", _back(taken, seen)
        case "AsDiscreted":
            argmax, threshold = _first(taken.take("argmax", False)), _first(taken.take("threshold"))
            taken.expect("to_onehot", None)
            taken.expect("rounding", None)
            is_sigmoid = output["activation"] == "sigmoid"
            if bool(argmax) == is_sigmoid or (threshold is not None) != is_sigmoid:
                raise taken.unread("argmax, threshold", "argmax after softmax, threshold after sigmoid, is known here")
            if is_sigmoid:
                if not isinstance(threshold, float) or not 0 < threshold < 1:
                    raise taken.unread(f"threshold = {threshold!r}", "one probability for all channels is wanted")
                yield "threshold", float(threshold)
            elif output["activation"] == "none":
                yield "activation", "softmax"  # the greatest logit has the greatest probability
        case "KeepLargestConnectedComponentd" | "FillHolesd":
            if "AsDiscreted" not in seen:
                raise taken.unread("its place", "it is known after AsDiscreted alone")
            labels = taken.take("applied_labels")
            do = "largest" if name.startswith("Keep") else "fill-holes"
            if do == "largest":
                taken.expect("connectivity", None, 3)
            else:
                _note_holes(taken)
            taken.expect("num_components", 1)
            taken.expect("is_onehot", *((None, True) if output["activation"] == "sigmoid" else (None, False)))
            taken.expect("independent", True)
            if labels is None:
                raise taken.unread("applied_labels", "it must say which labels it is for")
            clean = {"do": do, "segments": [labels] if isinstance(labels, int) else list(labels)}
            yield "clean", [*output.get("clean", ()), clean]
        case _:
            raise taken.unread(f"_target_ {name}", "this transform is not known here")


def _note_holes(taken: _Taken) -> None:
    """MONAI's own default lets a hole run out between voxels that only touch at an edge; here it stays a hole."""
    if taken.take("connectivity") != 1:
        taken.note("FillHoles with MONAI's default connectivity fills fewer holes than fill-holes does here")


def _back(taken: _Taken, seen: tuple[str, ...]) -> str:
    """What is brought back: what there is when the transforms are inverted."""
    taken.drop("transform", "orig_keys", "orig_meta_keys", "orig_meta_key_postfix", "to_tensor", "device", "post_func")
    is_nearest = bool(_first(taken.take("nearest_interp", True)))
    if "AsDiscreted" in seen or is_nearest:
        return "labels"
    return "probabilities" if "Activationsd" in seen else "logits"


def _three(taken: _Taken, key: str) -> list[int]:
    given = taken.take(key)
    sizes = [given] * 3 if isinstance(given, int) else given
    if not isinstance(sizes, list) or len(sizes) != 3 or not all(isinstance(n, int) and n > 0 for n in sizes):
        raise taken.unread(f"{key} = {given!r}", "three sizes above zero are wanted")
    return sizes


def _first(value: Any) -> Any:
    """A setting that is given for each key, where there is one key."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
