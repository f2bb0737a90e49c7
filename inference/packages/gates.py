"""Refuses a series that a model was not made for, from headers and geometry alone, with a coded reason.

The checks run in the order in which a person would ask: what is it, how was it made, of what, is it all there, is it
fine enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset

from inference.imaging.geometry import PROJECTION, Geometry
from inference.imaging.header import number, texts
from inference.imaging.irregular import (
    COVERAGE_INCOMPLETE,
    INCOMPLETE,
    INCORRECTLY_FORMATTED,
    INSUFFICIENT_QUALITY,
    NOT_SUPPORTED,
)
from inference.packages.accepts import Accepts, Fact
from inference.packages.evidence import anatomy_words, has_agent, is_known, kernel, matching, sequence_words
from inference.packages.manifest import Manifest
from storage.facts.figures import exact, figure, percent
from storage.facts.prediction import Code, Reason

Refusals = Iterator[tuple[Code, str]]


def refuse(manifest: Manifest, header: Dataset, geometry: Geometry | None) -> Reason | None:
    """Why this model must not be run on this series, or None where it may.

    Without a geometry only the header is judged: that tells a wrong kind of object from one without geometry.
    """
    for group in _groups(manifest.accepts, header, geometry):
        refusals = list(group)
        if refusals:
            text = " ".join(text for _, text in refusals)
            return Reason(code=refusals[0][0], text=f"{text} ({manifest.id} {manifest.version})")
    return None


def _groups(accepts: Accepts, header: Dataset, geometry: Geometry | None) -> Iterator[Refusals]:
    """Checks that belong together: all that one of them finds is said, and then no more."""
    checks: tuple[Callable[[Accepts, Dataset], Refusals], ...] = (_kind, _making, _sequence, _agent, _anatomy)
    for check in checks:
        yield check(accepts, header)
    if geometry is not None:
        yield _quality(accepts, header, geometry)


def _quality(accepts: Accepts, header: Dataset, geometry: Geometry) -> Refusals:
    yield from _completeness(accepts, geometry)
    yield from _fineness(accepts, geometry)
    if accepts.lossy == "refuse" and "01" in texts(header, "LossyImageCompression"):
        yield INSUFFICIENT_QUALITY, "The images were compressed with loss; this model takes images without."


def _kind(accepts: Accepts, header: Dataset) -> Refusals:
    modality = next(iter(texts(header, "Modality")), "not stated")
    if modality not in accepts.modality:
        yield NOT_SUPPORTED, f"Modality is {modality}; this model takes {', '.join(accepts.modality)}."
    image_type = [value.upper() for value in texts(header, "ImageType")]
    excluded = matching(image_type, accepts.image_type_excludes)
    if excluded:
        yield NOT_SUPPORTED, f"ImageType says {excluded}; this model does not take such images."
    stated = next((text.upper() for text in texts(header, "RescaleType")), None)
    if stated and accepts.rescale_types and stated not in accepts.rescale_types:
        yield NOT_SUPPORTED, f"Pixel values are in {stated}; this model takes {', '.join(accepts.rescale_types)}."


def _making(accepts: Accepts, header: Dataset) -> Refusals:
    rule, name = accepts.kernel, kernel(header)
    if rule is None:
        return
    if name is None:
        yield from _silence(accepts, "kernel", "the reconstruction kernel (ConvolutionKernel)")
    elif matching([name], rule.refuse):
        yield NOT_SUPPORTED, f"Reconstruction kernel {name} is too sharp for this model: send a standard or soft one."
    elif not matching([name], rule.accept) and rule.unknown == "refuse":
        yield (
            NOT_SUPPORTED,
            f"Reconstruction kernel {name} is not known to be standard or soft; if it is, add it to the package.",
        )


def _sequence(accepts: Accepts, header: Dataset) -> Refusals:
    rule = accepts.sequence
    if rule is None:
        return
    against = matching(sequence_words(header), rule.refuse)
    if against:
        yield NOT_SUPPORTED, f'The series calls itself "{against}"; this model takes {rule.name} images.'
        return
    echo = number(header, "EchoTime")
    if echo is not None and rule.max_echo_time is not None and echo > rule.max_echo_time:
        yield (
            NOT_SUPPORTED,
            f"Echo time is {exact(echo)} ms; {rule.name} images have at most {exact(rule.max_echo_time)} ms.",
        )
    if not is_known(header, rule):
        yield from _silence(accepts, "sequence", f"that the images are {rule.name}, by description or timing")


def _agent(accepts: Accepts, header: Dataset) -> Refusals:
    if accepts.contrast == "any":
        return
    given = has_agent(header)
    if given:
        yield NOT_SUPPORTED, "A contrast agent was given; this model takes images without."
    elif given is None:
        yield from _silence(accepts, "contrast", "whether a contrast agent was given")


def _anatomy(accepts: Accepts, header: Dataset) -> Refusals:
    rule = accepts.anatomy
    if rule is None:
        return
    words = anatomy_words(header)
    if matching(words, rule.accept):
        return
    against = matching(words, rule.refuse)
    if against:
        yield NOT_SUPPORTED, f'The header names "{against}", another body region than this model takes.'
        return
    yield from _silence(accepts, "anatomy", "the body region that this model takes")


def _completeness(accepts: Accepts, geometry: Geometry) -> Refusals:
    if accepts.orientation and geometry.orientation not in accepts.orientation:
        yield (
            NOT_SUPPORTED,
            f"The slices are {geometry.orientation}; this model takes {', '.join(accepts.orientation)} ones.",
        )
    if geometry.tilt > accepts.max_tilt:
        tilt = figure(geometry.tilt, 1, accepts.max_tilt)
        yield (
            NOT_SUPPORTED,
            f"The gantry was tilted by {tilt} degrees; this model takes {exact(accepts.max_tilt)} at most.",
        )
    if geometry.irregularity > accepts.max_irregularity:
        yield (
            INCOMPLETE,
            f"Slices are missing or unevenly spaced: the largest gap is {geometry.largest_gap:.2f} mm where most are "
            f"{geometry.spacing:.2f} mm; this model takes a deviation of {percent(accepts.max_irregularity)}% at most.",
        )
    if geometry.frames < accepts.min_slices and geometry.orientation != PROJECTION:
        yield INCOMPLETE, f"The series has {geometry.frames} slices; this model needs {accepts.min_slices} at least."


def _fineness(accepts: Accepts, geometry: Geometry) -> Refusals:
    if geometry.thickness is None:
        yield from _silence(accepts, "slice_thickness", "the slice thickness")
    rules = (
        ("Slice thickness", accepts.slice_thickness, geometry.thickness, INSUFFICIENT_QUALITY),
        ("The step between slices", accepts.spacing, geometry.spacing, INSUFFICIENT_QUALITY),
        ("Pixel spacing", accepts.pixel_spacing, max(geometry.pixel_spacing), INSUFFICIENT_QUALITY),
        ("The extent of the stack", accepts.coverage, geometry.coverage, COVERAGE_INCOMPLETE),
    )
    for name, allowed, value, code in rules:
        if allowed is not None and value is not None and not allowed.holds(value):
            yield code, f"{name} is {allowed.figure(value)} mm; this model takes {allowed.text('mm')}."


def _silence(accepts: Accepts, fact: Fact, what: str) -> Refusals:
    if fact in accepts.require:
        yield INCORRECTLY_FORMATTED, f"The header does not state {what}; this model needs to know."
