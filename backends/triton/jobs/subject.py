"""What candidates are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

BESIDES_CACHE = 200e6  # bytes that the copies of the weights hold together
MOST_COPIES = 64
Result = Tensor | tuple[Tensor, ...]


class Subject(Protocol):
    """Random operands of a job, in as many copies as no cache holds, and its result or results in double precision."""

    copies: int

    @property
    def wanted(self) -> Result:
        """The result in double precision."""
        ...

    def launch(self, copy: int, candidate: Sequence[int]) -> Result:
        """The kernel on one copy of the operands."""
        ...


def relative_error(found: Result, wanted: Result) -> float:
    """‖y − y₀‖/‖y₀‖, of several results the largest; NaN where one has it."""
    if isinstance(found, Tensor) and isinstance(wanted, Tensor):
        return float((found.double() - wanted).norm() / wanted.norm())
    errors = [relative_error(y, y0) for y, y0 in zip(found, wanted, strict=True)]
    return float(torch.tensor(errors).max())  # Python's own max may pass over a NaN


def copies_of(size: int, wanted: int | None) -> int:
    """How many copies of so many bytes the cache does not hold; what is wanted where it is said."""
    return max(2, min(MOST_COPIES, int(BESIDES_CACHE // size) + 1)) if wanted is None else wanted


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    """Normal numbers on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)


def seeded() -> torch.Generator:
    """The device's generator, the same numbers each time."""
    return torch.Generator("cuda").manual_seed(0)
