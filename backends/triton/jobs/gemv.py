"""One row times a matrix: what it is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir
import torch
from torch import Tensor, fx

from ..library import one_row as library
from ..lowering import LINEAR
from .call import constant
from .subject import copies_of, draw, seeded


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
    target: ClassVar[Any] = LINEAR
    settings: ClassVar[int] = 7  # position of the kernel's settings among the call's arguments

    def __str__(self) -> str:
        return f"{self.kernel} {self.n}x{self.k} {self.dtype}"

    @classmethod
    def of_call(cls, module: fx.GraphModule, call: fx.Node, source: ir.Node | None) -> GemvJob | None:
        """What a call asks for; None where its weight is no constant of the program."""
        del source
        _, w, gate, scale, residual, _, activation, _ = call.args
        weight = constant(module, w)
        if weight is None:
            return None
        n, k = weight.shape
        dtype = str(weight.dtype).removeprefix("torch.")
        return cls(n, k, dtype, gate is not None, scale is not None, residual is not None, str(activation))

    def candidates(self) -> list[tuple[int, int, int]]:
        """Settings worth measuring."""
        from ..kernels.gemv import candidates

        return candidates(self.k, gated=self.gated)

    def subject(self, copies: int | None = None) -> GemvSubject:
        """What they are measured on."""
        return GemvSubject(self, copies)


class GemvSubject:
    """A row, and weights that are read from memory each time."""

    def __init__(self, job: GemvJob, copies: int | None) -> None:
        generator, dtype = seeded(), getattr(torch, job.dtype)

        def weights() -> Tensor:
            return (draw(generator, job.n, job.k) * job.k**-0.5).to(dtype)

        self._job = job
        self._x = draw(generator, 1, job.k).to(dtype)
        self._scale = (1 + 0.1 * draw(generator, job.k)).to(dtype) if job.normed else None
        self._residual = draw(generator, 1, job.n).to(dtype) if job.residual else None
        self.copies = copies_of(job.n * job.k * self._x.element_size() * (2 if job.gated else 1), copies)
        self._w = [weights() for _ in range(self.copies)]
        gates = [weights() for _ in range(self.copies if job.gated else 0)]
        self._gates: Sequence[Tensor | None] = gates or [None] * self.copies
        operands = (self._w[0], self._gates[0], self._scale, self._residual)
        w, gate, scale, residual = (None if t is None else t.double() for t in operands)
        assert w is not None
        self.wanted = library.meaning(self._x.double(), w, gate, scale, residual, 1e-5, job.activation)

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """The kernel on one copy of the weights."""
        from ..launch.one_row import launch_gemv

        weights = self._w[copy], self._gates[copy]
        return launch_gemv(self._x, *weights, self._scale, self._residual, 1e-5, self._job.activation, candidate)
