"""What is tuned: one kernel for one shape, dtype and fusion; settings hold for all calls that agree in these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GemvJob:
    """One row times n rows of k weights, and what is fused with it."""

    n: int
    k: int
    dtype: str
    gated: bool
    normed: bool
    residual: bool
    activation: str
    kernel: str = "gemv"

    def __str__(self) -> str:
        return f"{self.kernel} {self.n}x{self.k} {self.dtype}"


@dataclass(frozen=True)
class AttentionStepJob:
    """A step of attention over a cache of so many slots."""

    heads: int
    shared: int
    size: int
    length: int
    dtype: str
    kernel: str = "attention_step"

    def __str__(self) -> str:
        return f"{self.kernel} {self.heads}x{self.shared}x{self.size}, {self.length} slots, {self.dtype}"


Job = GemvJob | AttentionStepJob


def job_of(fields: Mapping[str, Any]) -> Job:
    """The job that `asdict` made these fields of."""
    return GemvJob(**fields) if fields["kernel"] == "gemv" else AttentionStepJob(**fields)
