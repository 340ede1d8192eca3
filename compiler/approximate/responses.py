"""How the loss responds to an error at each place, from one backward pass for each sample.

`Seen.x` is what enters a place, `Seen.g` the gradient at its output. A form whose output is off by e raises the loss by
factor · Σ (g·e)², summed over what the loss judges one by one: positions, where it has a term for each (a language
model's tokens), else whole examples (errors at the positions of one picture add up before they reach the loss).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..errors import TamagoError
from ..facts import Array, Floats
from ..torch_program import torch_program
from .calibration import Sample, blamed_on
from .losses import LossModel
from .places import Place
from .taps import arguments, taps

if TYPE_CHECKING:
    import torch

ENOUGH_EXAMPLES = 128  # whose mean change says something
FEWEST_EXAMPLES = 8  # whose changes' variance does
MOST_BYTES = 1 << 30  # of activations and gradients kept at once
_NOTHING = np.zeros(0, np.float32)
MOST_POSITIONS = 4096  # of a place that are looked at, over all samples


@dataclass(frozen=True)
class Seen:
    """One place on one sample; `slope` is the gradient of the sample's own loss, None where it has none.

    `by_position`: whether the loss has a term for each position of the place's output.
    """

    x: Array
    g: Array
    factor: float
    by_position: bool
    slope: Array | None = None


class Response:
    """A model as torch runs it, with its places tapped.

    Args:
        model: the program.
        places: where to look.
        name: what a value of theirs is called in this program.
        ends: names of the program's outputs that are looked at as well.

    Raises:
        TamagoError: B010, torch cannot express the model.
    """

    def __init__(
        self, model: ir.Model, places: Sequence[Place], name: Callable[[str], str] = str, ends: Sequence[str] = ()
    ) -> None:
        self._program = torch_program(model)
        self.places = places
        self._ends = ends
        self._named = [(p, name(p.x.name or ""), name(p.y.name or "")) for p in places]

    def outputs(self, feeds: Mapping[str, Array]) -> list[torch.Tensor]:
        """The model's outputs, no gradients."""
        import torch

        with torch.no_grad():
            return list(self._program(*arguments(self._program, feeds)))

    def shapes(self, feeds: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
        """The shape of what enters each place, by the name of the place's output."""
        import torch

        wanted = {x for _, x, _ in self._named}
        shapes: dict[str, tuple[int, ...]] = {n: np.shape(a) for n, a in feeds.items() if n in wanted}
        with torch.no_grad():
            tapped = taps(self._program, wanted, set())
            tapped.run(*arguments(self._program, feeds))
        shapes.update({name: tuple(v.shape) for name, v in tapped.seen.items()})
        return {p.y.name or "": shapes[x] for p, x, _ in self._named if x in shapes}

    def see(
        self,
        sample: Sample,
        loss: LossModel,
        generator: torch.Generator,
        turn: AbstractContextManager[None] | None = None,
    ) -> tuple[dict[str, Seen], dict[str, Seen]]:
        """Input and gradient of each place on one sample, by the name of the place's output; and of the ends.

        Args:
            sample: what is run.
            loss: whose gradient it is.
            generator: of labels; samples that are looked at side by side draw from it one after the other.
            turn: when this one may.
        """
        import torch

        wanted = {y for _, _, y in self._named} | set(self._ends)
        tapped = taps(self._program, {x for _, x, _ in self._named}, wanted)
        with torch.enable_grad():
            outputs = list(tapped.run(*arguments(self._program, sample.feeds)))
            with blamed_on(sample), turn or nullcontext():
                curvature = loss.curvature(outputs, sample.target, generator)
            if not curvature.scalar.requires_grad:
                raise TamagoError(
                    "U046",
                    "the loss does not depend on the model's outputs",
                    todo="compute it from them in torch, without detaching; or give what has no gradient as a metric",
                )
            points = list(tapped.taps.values())
            again = curvature.loss is not None and curvature.loss.requires_grad
            own: Sequence[torch.Tensor | None] = [None] * len(points)
            try:
                found = torch.autograd.grad(curvature.scalar, points, allow_unused=True, retain_graph=again)
                if curvature.loss is not None and again:
                    own = torch.autograd.grad(curvature.loss, points, allow_unused=True)
            except RuntimeError as error:  # an owner's function may overwrite what its gradient needs
                raise TamagoError("U046", "the loss has no gradient", why=str(error)) from error
        gradients, slopes = dict(zip(tapped.taps, found, strict=True)), dict(zip(tapped.taps, own, strict=True))
        inputs = {n: t.detach().numpy() for n, t in tapped.seen.items()} | dict(sample.feeds)

        def seen(x: Array, y: str, *, channels_second: bool = False) -> Seen | None:
            g, slope = gradients.get(y), slopes.get(y)
            if g is None:
                return None
            positions = int(np.prod(g.shape[2:])) * len(g) if channels_second else int(np.prod(g.shape[:-1]))
            own_slope = None if slope is None else np.atleast_1d(slope.numpy())
            return Seen(x, np.atleast_1d(g.numpy()), curvature.factor, 2 * curvature.terms >= positions, own_slope)

        of_places = {
            p.y.name or "": seen(inputs[x], y, channels_second=p.kind == "convolution")
            for p, x, y in self._named
            if x in inputs
        }
        for name in self._ends:  # an output that this sample's loss does not use has a gradient of zeros
            if name in tapped.taps and gradients.get(name) is None:
                gradients[name] = torch.zeros_like(tapped.taps[name])
        of_ends = {name: seen(_NOTHING, name) for name in self._ends}
        return _without_none(of_places), _without_none(of_ends)


def _without_none(found: Mapping[str, Seen | None]) -> dict[str, Seen]:
    return {name: seen for name, seen in found.items() if seen is not None}


def samples_to_see(samples: Sequence[Sample], response: Response) -> list[Sample]:
    """As many of the samples as the memory for activations and the positions worth looking at allow."""
    shapes = response.shapes(samples[0].feeds)
    positions, size = 1, 0
    for place in response.places:  # the same file
        shape = shapes.get(place.y.name or "")
        if shape is None:
            continue
        rows = int(np.prod(shape[:-1])) if place.kind == "linear" else int(shape[0] if shape else 1)
        positions = max(positions, rows)
        size += 4 * (int(np.prod(shape)) + _outputs(place, shape))
    count = min(MOST_BYTES // max(size, 1), max(MOST_POSITIONS // positions, 1))
    return list(samples[: max(1, min(len(samples), count))])


def _outputs(place: Place, shape: tuple[int, ...]) -> int:
    match place.kind:
        case "linear":
            return int(np.prod(shape[:-1])) * place.shape[1]
        case "embedding":
            return int(np.prod(shape)) * place.shape[1]
        case _:
            return int(np.prod(shape)) // max(shape[1], 1) * place.shape[0]


@dataclass(frozen=True)
class Predicted:
    """What a form is predicted to do: the mean rise of the loss over the samples, and how that scatters.

    `scatter` is the variance, over examples, of what it changes their loss by: the proof has to see past it. To first
    order an example's loss changes by slope·e, most of which cancels in the mean. 0 where there are too few examples to
    tell.
    """

    rise: float = 0.0
    scatter: float = 0.0

    def __add__(self, other: Predicted) -> Predicted:
        return Predicted(self.rise + other.rise, self.scatter + other.scatter)


def predicted(seen: Sequence[Seen], errors: Sequence[Array]) -> Predicted:
    """From each sample's error at the place's output."""
    total = 0.0
    for s, e in zip(seen, errors, strict=True):
        each = _products(s.g, e) if s.by_position else _by_example(s.g, e)
        total += s.factor * float(np.sum(np.square(each)))
    changes = _changes(seen, errors)
    scatter = float(np.var(changes, ddof=1)) if len(changes) >= FEWEST_EXAMPLES else 0.0
    return Predicted(max(total / max(len(seen), 1) + _first_order(changes), 0.0), scatter)


def _first_order(changes: Floats) -> float:
    """The mean of slope·e over the samples, shrunk towards zero by its own noise (James & Stein's positive part).

    A model that is as sure as it is right has none: the mean gradient at the true labels vanishes.
    """
    if len(changes) < ENOUGH_EXAMPLES:
        return 0.0  # of few examples it is mostly noise, and the choice would pick the forms whose noise flatters them
    mean, noise = float(np.mean(changes)), float(np.std(changes)) / np.sqrt(len(changes))
    return mean * max(0.0, 1 - (noise / mean) ** 2) if mean else 0.0


def _changes(seen: Sequence[Seen], errors: Sequence[Array]) -> Floats:
    """What each example's own loss changes by, to first order; empty where samples have no loss of their own.

    The slope is of a sample's mean over its examples. Positions of one example are not independent.
    """
    products = [
        len(s.slope) * _by_example(s.slope, e) for s, e in zip(seen, errors, strict=True) if s.slope is not None
    ]
    return np.concatenate(products) if products and len(products) == len(seen) else np.zeros(0)


def _by_example(factor: Array, error: Array) -> Floats:
    """The products summed over all but the first axis."""
    products = _products(factor, error) if error.ndim > 1 else np.multiply(factor, error, dtype=np.float64)
    return np.asarray(products.reshape(len(products), -1).sum(axis=1), np.float64)


def _products(factor: Array, error: Array) -> Floats:
    """Summed over features, or channels: in double past those only, for nothing here takes as long."""
    axis = -1 if error.ndim < 4 else 1
    pair: tuple[Any, Any] = np.moveaxis(factor, axis, -1), np.moveaxis(error, axis, -1)
    return np.asarray(np.einsum("...i,...i->...", *pair), np.float64)
