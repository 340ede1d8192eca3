"""Rows that are normalised: what that is measured on. Torch's own operators take part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import onnx_ir as ir
import torch
from torch import Tensor, fx

from ..library import norm as library
from ..library.convolution import LIBRARY
from ..lowering import LAYER_NORM
from .convolution import doubled, operand_sizes
from .subject import copies_of, draw, seeded

MINE = (LIBRARY,) * 2
EPSILON = 1e-5


@dataclass(frozen=True)
class LayerNormJob:
    """LayerNorm of so many rows, or RMSNorm."""

    rows: int
    length: int
    dtype: str
    centred: bool
    shifted: bool
    kernel: str = "layer_norm"
    target: ClassVar[Any] = LAYER_NORM
    settings: ClassVar[int] = 5  # as for `GemvJob`

    def __str__(self) -> str:
        return f"{self.kernel} {self.rows}x{self.length}, {self.dtype}"

    @classmethod
    def of_call(cls, module: fx.GraphModule, call: fx.Node, source: ir.Node | None) -> LayerNormJob | None:
        """What a call asks for; None where its sizes are not known before it runs, or another kernel is wanted."""
        del module
        sizes, dtype = operand_sizes(source)
        if sizes is None or not prod(sizes[0]):
            return None
        _, _, shift, _, centred, _ = call.args
        return cls(prod(sizes[0][:-1]), sizes[0][-1], dtype, bool(centred), shift is not None)

    def candidates(self) -> list[tuple[int, ...]]:
        """Settings worth measuring."""
        from ..kernels.layer_norm import candidates

        return [MINE, *candidates(self.rows, self.length)]

    def subject(self, copies: int | None = None) -> LayerNormSubject:
        """What they are measured on."""
        return LayerNormSubject(self, copies)


class LayerNormSubject:
    """Rows that are read from memory where they are many, far from zero as a residual stream's are."""

    def __init__(self, job: LayerNormJob, copies: int | None) -> None:
        generator, dtype = seeded(), getattr(torch, job.dtype)
        self._job, self.copies = job, copies_of(2 * job.rows * job.length, copies)

        def made(*of: int) -> Tensor:
            return (1 + draw(generator, *of)).to(dtype)

        self._x = [made(job.rows, job.length) for _ in range(self.copies)]
        self._scale, self._shift = made(job.length), made(job.length) if job.shifted else None

    @property
    def wanted(self) -> Tensor:
        """The result in double precision."""
        operands = self._x[0].double(), self._scale.double(), doubled(self._shift)
        return library.normalised(*operands, EPSILON, self._job.centred)

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """One candidate on one copy of the rows."""
        return LAYER_NORM(self._x[copy], self._scale, self._shift, EPSILON, self._job.centred, list(candidate))
