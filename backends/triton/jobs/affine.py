"""Products of many rows, normalised first or as they are: what they are measured on. Torch's own take part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, cast

import onnx_ir as ir
import torch
from torch import Tensor, fx

from ..cublas_lt import proposals
from ..library import affine as library
from ..library.convolution import WHOLE
from ..library.norm import normalised
from ..lowering import AFFINE
from .call import constant
from .convolution import MINE, doubled, fetched, operand_sizes
from .subject import copies_of, draw, seeded

EPSILON = 1e-6


@dataclass(frozen=True)
class AffineJob:
    """A product of many rows with a matrix, and LayerNorm of the rows ahead."""

    rows: int
    n: int
    k: int
    dtype: str
    residual: bool
    activation: str
    after: str
    normed: bool = False
    kernel: str = "affine"
    target: ClassVar[Any] = AFFINE
    settings: ClassVar[int] = 8  # as for `GemvJob`

    def __str__(self) -> str:
        return f"{self.kernel} {self.rows}x{self.k}x{self.n}, {self.dtype}{', normed' if self.normed else ''}"

    @classmethod
    def of_call(cls, module: fx.GraphModule, call: fx.Node, source: ir.Node | None) -> AffineJob | None:
        """What a call asks for; None where its sizes are not known before it runs, or another kernel is wanted.

        Settings are chosen for constant weights, biases and norms alone: others may be the result of the kernel ahead,
        and `whole_product` reads them before that one has ended.
        """
        sizes, dtype = operand_sizes(source)
        _, w, bias, residual, norm, _, activation, after, _ = call.args
        if sizes is None or any(constant(module, o) is None for o in (w, bias, *cast(Sequence[Any], norm))):
            return None
        n, k = sizes[1]
        return cls(prod(sizes[0][:-1]), n, k, dtype, residual is not None, str(activation), str(after), bool(norm))

    def candidates(self) -> list[tuple[int, ...]]:
        """Settings worth measuring."""
        from ..kernels import whole_settings
        from ..kernels.convolution import candidates
        from ..launch.product import hopper_at_hand

        sizes = self.rows, self.n, self.k
        ours = whole_settings.candidates(*sizes, fetched=hopper_at_hand(), split=not self.normed)
        whole = [(WHOLE, *c) for c in ours]
        if self.normed:  # the others are the same as apart
            return [tuple(MINE), *whole]
        found = [tuple(MINE), *candidates(*sizes, 1, residual=self.residual), *whole]
        found += proposals(residual=self.residual, activation=self.activation, after=self.after)
        return [*found, *fetched(*sizes, residual=self.residual)]

    def subject(self, copies: int | None = None) -> AffineSubject:
        """What they are measured on."""
        return AffineSubject(self, copies)


class AffineSubject:
    """Rows and a matrix, as for a convolution."""

    def __init__(self, job: AffineJob, copies: int | None) -> None:
        generator, dtype = seeded(), getattr(torch, job.dtype)
        self._job, self.copies = job, copies_of(2 * job.k * (job.rows + job.n), copies)

        def made(*of: int) -> Tensor:
            return draw(generator, *of).to(dtype)

        self._x = [made(job.rows, job.k) for _ in range(self.copies)]
        self._w = [(draw(generator, job.n, job.k) * job.k**-0.5).to(dtype) for _ in range(self.copies)]
        self._bias = made(job.n)
        self._residual = [made(job.rows, job.n) if job.residual else None for _ in range(self.copies)]
        self._norm = [1 + made(job.k), made(job.k)] if job.normed else []

    @property
    def wanted(self) -> Tensor:
        """The result in double precision."""
        x, w, bias = self._x[0].double(), self._w[0].double(), self._bias.double()
        if self._norm:
            scale, shift = (t.double() for t in self._norm)
            x = normalised(x, scale, shift, EPSILON, centred=True)
        return library.multiplied(x, w, bias, doubled(self._residual[0]), self._job.activation, self._job.after)

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """One candidate on one copy of the operands."""
        job = self._job
        operands = self._x[copy], self._w[copy], self._bias, self._residual[copy], self._norm
        return AFFINE(*operands, EPSILON, job.activation, job.after, list(candidate))
