"""Products of many rows that are normalised first: what they are measured on. Torch's own operators take part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import onnx_ir as ir
import torch
from torch import Tensor, fx

from .. import library_norm as library
from ..lowering import NORMED_AFFINE
from ..row_norm import LONGEST
from .convolution import MINE, doubled, operand_sizes
from .subject import copies_of, draw, seeded

EPSILON = 1e-5


@dataclass(frozen=True)
class NormedAffineJob:
    """LayerNorm of so many rows times a matrix."""

    rows: int
    n: int
    k: int
    dtype: str
    residual: bool
    activation: str
    after: str
    kernel: str = "normed_affine"
    target: ClassVar[Any] = NORMED_AFFINE
    settings: ClassVar[int] = 9  # as for `GemvJob`

    def __str__(self) -> str:
        return f"{self.kernel} {self.rows}x{self.k}x{self.n}, {self.dtype}"

    @classmethod
    def of_call(cls, module: fx.GraphModule, call: fx.Node, source: ir.Node | None) -> NormedAffineJob | None:
        """What a call asks for; None where its sizes are not known before it runs, or another kernel is wanted."""
        del module
        sizes, dtype = operand_sizes(source, 3)
        if sizes is None:
            return None
        _, _, _, _, _, residual, _, activation, after, _ = call.args
        n, k = sizes[1]
        return cls(prod(sizes[0][:-1]), n, k, dtype, residual is not None, str(activation), str(after))

    def candidates(self) -> list[tuple[int, ...]]:
        """Settings worth measuring."""
        from ..kernels.convolution import candidates

        if self.k > LONGEST:
            return [tuple(MINE)]
        return [tuple(MINE), *candidates(self.rows, self.n, self.k, 1, residual=self.residual)]

    def subject(self, copies: int | None = None) -> NormedAffineSubject:
        """What they are measured on."""
        return NormedAffineSubject(self, copies)


class NormedAffineSubject:
    """Rows, far from zero as a residual stream's are, and a matrix."""

    def __init__(self, job: NormedAffineJob, copies: int | None) -> None:
        generator, dtype = seeded(), getattr(torch, job.dtype)
        self._job, self.copies = job, copies_of(2 * job.k * (job.rows + job.n), copies)

        def made(*of: int) -> Tensor:
            return draw(generator, *of).to(dtype)

        self._x = [1 + made(job.rows, job.k) for _ in range(self.copies)]
        self._w = [(draw(generator, job.n, job.k) * job.k**-0.5).to(dtype) for _ in range(self.copies)]
        self._scale, self._shift, self._bias = 1 + made(job.k), made(job.k), made(job.n)
        self._residual = [made(job.rows, job.n) if job.residual else None for _ in range(self.copies)]

    @property
    def wanted(self) -> Tensor:
        """The result in double precision."""
        norm = self._x[0].double(), self._scale.double(), self._shift.double()
        operands = *norm, self._w[0].double(), self._bias.double()
        rest = doubled(self._residual[0]), EPSILON, self._job.activation, self._job.after
        return library.normalised_and_multiplied(*operands, *rest)

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """One candidate on one copy of the operands."""
        operands = self._x[copy], self._scale, self._shift, self._w[copy], self._bias, self._residual[copy]
        return NORMED_AFFINE(*operands, EPSILON, self._job.activation, self._job.after, list(candidate))
