"""What candidates are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

BESIDES_CACHE = 200e6  # bytes that the copies of the weights hold together
MOST_COPIES = 64


class Subject(Protocol):
    """Random operands of a job, in as many copies as no cache holds, and its result in double precision."""

    copies: int

    @property
    def wanted(self) -> Tensor:
        """The result in double precision."""
        ...

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """The kernel on one copy of the operands."""
        ...


def copies_of(size: int, wanted: int | None) -> int:
    """How many copies of so many bytes the cache does not hold; what is wanted where it is said."""
    return max(2, min(MOST_COPIES, int(BESIDES_CACHE // size) + 1)) if wanted is None else wanted


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    """Normal numbers on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)


def seeded() -> torch.Generator:
    """The device's generator, the same numbers each time."""
    return torch.Generator("cuda").manual_seed(0)
