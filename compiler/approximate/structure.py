"""How a method that changes a whole program is written down: slicing, pruning, whatever couples many weights.

    @structure(paper="Ashkboos et al., SliceGPT, ICLR 2024, arXiv:2401.15024")
    def slicegpt(observed):
        "y = x·W, W ← QᵀW, … the residual stream keeps the directions that …"
        yield Variant("10 %", narrower)

The function is called once, with the program that exact rewriting left and what calibration shows of it. It yields
whole programs, from the least changed to the most: a variant's rise is measured, and what comes after the first one
that is over the budget is not asked for. Forms of places (`method.py`) are then chosen on the variant as on any
program: what the variant has already used of the budget is missing from theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir

from ..beside import Turns, each
from ..facts import Array
from ..rule import family_of, statement_of
from .calibration import Sample
from .losses import LossModel
from .taps import arguments, samples_at_once, taps

T = TypeVar("T")


@dataclass(frozen=True)
class Variant:
    """A program that stands for the model, approximately.

    Args:
        setting: what of the method's choices this is, in a few words.
        model: computes the model's outputs under their names, from the same inputs.
        mended: the same with more work spent on its weights; asked for where that may bring it within the budget.
    """

    setting: str
    model: ir.Model
    mended: Callable[[], ir.Model] | None = None


class Observed:
    """A program, and what it computes on samples.

    Args:
        model: the program; a method changes copies of it.
        samples: those that choose.
        loss: whose gradients `gradients` gives.
    """

    def __init__(self, model: ir.Model, samples: Sequence[Sample], loss: LossModel) -> None:
        self.model = model
        self.samples = samples
        self._loss = loss
        self._made: dict[object, Any] = {}

    def once(self, make: Callable[[Observed], T]) -> T:
        """What a function makes of this, made when first asked for: structures share what they look at."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]

    def values(self, names: Sequence[str], model: ir.Model | None = None) -> Iterator[dict[str, Array]]:
        """The named values on one sample after the other; of another model where one is given.

        Raises:
            TamagoError: B010, torch cannot express the model.
        """
        import torch

        from ..torch_program import torch_program

        program = torch_program(self.model if model is None else model)

        def look(sample: Sample) -> dict[str, Array]:
            tapped = taps(program, set(names), set())
            with torch.no_grad():
                tapped.run(*arguments(program, sample.feeds))
            found = {n: a for n, a in sample.feeds.items() if n in names}
            return found | {name: v.numpy() for name, v in tapped.seen.items()}

        count = samples_at_once(self.model)
        yield from each(look, self.samples, count, waiting=count)

    def gradients(self, names: Sequence[str]) -> Iterator[dict[str, tuple[Array, Array]]]:
        """The named values and the loss's gradient at each, on one sample after the other.

        Scaled so that an error e of the value raises the sample's loss by Σ (g·e)², summed over what the loss judges
        one by one (`responses.py`): the labels of a likelihood are drawn from the model.

        Raises:
            TamagoError: B010, torch cannot express the model.
        """
        import torch

        from ..torch_program import torch_program

        program = torch_program(self.model)
        generator, turns = torch.Generator().manual_seed(0), Turns()

        def look(number: int) -> dict[str, tuple[Array, Array]]:
            try:
                return gradients_of(number, self.samples[number])
            finally:
                turns.end(number)

        def gradients_of(number: int, sample: Sample) -> dict[str, tuple[Array, Array]]:
            tapped = taps(program, set(names), set(names))
            with torch.enable_grad():
                outputs = list(tapped.run(*arguments(program, sample.feeds)))
                with turns.take(number):
                    curvature = self._loss.curvature(outputs, sample.target, generator)
                points = list(tapped.taps.values())
                found = torch.autograd.grad(curvature.scalar, points, allow_unused=True, materialize_grads=True)
            scale = float(np.sqrt(curvature.factor))
            return {
                name: (tapped.seen[name].detach().numpy(), g.numpy() * scale)
                for name, g in zip(tapped.taps, found, strict=True)
            }

        count = samples_at_once(self.model)
        yield from each(look, range(len(self.samples)), count, waiting=count)


@dataclass(frozen=True)
class Structure:
    """One published way to make a whole program narrower."""

    name: str
    family: str
    paper: str
    statement: str
    function: Callable[[Observed], Iterator[Variant]]


def structure(*, paper: str) -> Callable[[Callable[[Observed], Iterator[Variant]]], Structure]:
    """Declare a structural method; its docstring's first paragraph is its statement."""

    def declare(function: Callable[[Observed], Iterator[Variant]]) -> Structure:
        return Structure(function.__name__, family_of(function), paper, statement_of(function), function)

    return declare
