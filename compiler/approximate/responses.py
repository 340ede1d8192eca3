"""How the loss responds to an error at each place, from one backward pass for each sample, or a few.

`Seen.x` is what enters a place, `Seen.draws` gradients at its output. A form whose output is off by e raises the loss
by factor · Σ (g·e)² in the mean of the draws, summed over what the loss judges one by one: positions, where it has a
term for each (a language model's tokens), else whole examples (errors at the positions of one picture add up before
they reach the loss).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ..errors import TamagoError
from ..facts import Array
from ..torch_program import torch_program
from .calibration import Sample, blamed_on
from .losses import Curvature, LossModel
from .places import Place
from .taps import arguments, taps

if TYPE_CHECKING:
    import torch

MOST_BYTES = 1 << 30  # of activations and gradients kept at once
_NOTHING = np.zeros(0, np.float32)
_MANY = 1 << 62
MOST_POSITIONS = 4096  # of a place that are looked at, over all samples
ENOUGH_SQUARES = 512  # whose mean is known to 6 % where they are alike: fewer terms of the loss are drawn for again
MOST_DRAWS = 4


@dataclass(frozen=True)
class Seen:
    """One place on one sample; `slope` is the gradient of the sample's own loss, None where it has none.

    `by_position`: whether the loss has a term for each position of the place's output. `examples` are those of the
    sample, 0 where nothing tells; `number` is the sample's among all that were looked at.
    """

    x: Array
    draws: tuple[Array, ...]
    factor: float
    by_position: bool
    slope: Array | None = None
    examples: int = 0
    number: int = 0


@dataclass(frozen=True)
class Draws:
    """How often directions are drawn on one sample: until all give enough squares, and memory holds the gradients.

    Args:
        wanted: squares that a sample should give.
        most: draws.
    """

    wanted: int = 1
    most: int = 1

    def of(self, curvature: Curvature, examples: int) -> int:
        """For this sample of so many examples, whose loss has as many terms or more."""
        terms = curvature.terms or max(examples, 1)
        return min(self.most, -(-self.wanted // terms)) if curvature.drawn else 1


ONE = Draws()


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
        draws: Draws = ONE,
    ) -> tuple[dict[str, Seen], dict[str, Seen]]:
        """Input and gradients of each place on one sample, by the name of the place's output; and of the ends.

        Args:
            sample: what is run.
            loss: whose gradient it is.
            generator: of directions; samples that are looked at side by side draw from it one after the other.
            turn: when this one may.
            draws: how often it draws.
        """
        import torch

        wanted = {y for _, _, y in self._named} | set(self._ends)
        if not wanted:
            return {}, {}
        tapped = taps(self._program, {x for _, x, _ in self._named}, wanted)
        with torch.enable_grad():
            outputs = list(tapped.run(*arguments(self._program, sample.feeds)))
            with blamed_on(sample), turn or nullcontext():
                first = loss.curvature(outputs, sample.target, generator)
                examples = min([first.terms or _MANY, *(len(o) for o in outputs[:1] if o.dim())])
                examples = examples if examples < _MANY else 0
                count = draws.of(first, examples)
                every = [first, *(loss.curvature(outputs, sample.target, generator) for _ in range(1, count))]
            if not first.scalar.requires_grad:
                raise TamagoError(
                    "U046",
                    "the loss does not depend on the model's outputs",
                    todo="compute it from them in torch, without detaching; or give what has no gradient as a metric",
                )
            points = list(tapped.taps.values())
            scalars = [c.scalar for c in every]
            again = first.loss is not None and first.loss.requires_grad
            scalars += [first.loss] if first.loss is not None and again else []
            try:
                found = [
                    torch.autograd.grad(scalar, points, allow_unused=True, retain_graph=number < len(scalars))
                    for number, scalar in enumerate(scalars, 1)
                ]
            except RuntimeError as error:  # an owner's function may overwrite what its gradient needs
                raise TamagoError("U046", "the loss has no gradient", why=str(error)) from error
        own: Sequence[torch.Tensor | None] = found.pop() if again else [None] * len(points)
        gradients = dict(zip(tapped.taps, zip(*found, strict=True), strict=True))
        slopes = dict(zip(tapped.taps, own, strict=True))
        inputs = {n: t.detach().numpy() for n, t in tapped.seen.items()} | dict(sample.feeds)

        def seen(x: Array, y: str, *, channels_second: bool = False) -> Seen | None:
            drawn, slope = [g for g in gradients.get(y, ()) if g is not None], slopes.get(y)
            if not drawn:
                return None
            shape = drawn[0].shape
            positions = int(np.prod(shape[2:])) * len(drawn[0]) if channels_second else int(np.prod(shape[:-1]))
            return Seen(
                x,
                tuple(np.atleast_1d(g.numpy()) for g in drawn),
                first.factor,
                2 * first.terms >= positions,
                None if slope is None else np.atleast_1d(slope.numpy()),
                examples,
            )

        of_places = {
            p.y.name or "": seen(inputs[x], y, channels_second=p.kind == "convolution")
            for p, x, y in self._named
            if x in inputs
        }
        for name in self._ends:  # an output that this sample's loss does not use has a gradient of zeros
            if name in tapped.taps and gradients[name][0] is None:
                gradients[name] = (torch.zeros_like(tapped.taps[name]),)
        of_ends = {name: seen(_NOTHING, name) for name in self._ends}
        return _without_none(of_places), _without_none(of_ends)


def _without_none(found: Mapping[str, Seen | None]) -> dict[str, Seen]:
    return {name: seen for name, seen in found.items() if seen is not None}


def samples_to_see(samples: Sequence[Sample], response: Response) -> tuple[list[Sample], Draws]:
    """As many of the samples as the memory for activations and the positions worth looking at allow.

    And how often directions are drawn on each of the half of them that predicts.
    """
    shapes = response.shapes(samples[0].feeds)
    positions, size = 1, 0
    for place in response.places:  # the same file
        shape = shapes.get(place.y.name or "")
        if shape is None:
            continue
        rows = int(np.prod(shape[:-1])) if place.kind == "linear" else int(shape[0] if shape else 1)
        positions = max(positions, rows)
        size += 4 * (int(np.prod(shape)) + _outputs(place, shape))
    held = MOST_BYTES // max(size, 1)
    count = max(1, min(len(samples), held, max(MOST_POSITIONS // positions, 1)))
    return list(samples[:count]), Draws(2 * ENOUGH_SQUARES // count, max(1, min(MOST_DRAWS, held // count)))


def _outputs(place: Place, shape: tuple[int, ...]) -> int:
    match place.kind:
        case "linear":
            return int(np.prod(shape[:-1])) * place.shape[1]
        case "embedding":
            return int(np.prod(shape)) * place.shape[1]
        case _:
            return int(np.prod(shape)) // max(shape[1], 1) * place.shape[0]
