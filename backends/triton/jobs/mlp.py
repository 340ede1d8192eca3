"""Two products of many rows with an activation between them: what they are measured on. Torch's own take part.

Where rows are normalised first, torch's own norm too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import onnx_ir as ir
import torch
from torch import Tensor, fx

from ....compiler.ir import static_dims
from ..library import mlp as library
from ..library.convolution import GROUPED, LIBRARY
from ..lowering import MLP
from .convolution import doubled, operand_sizes
from .subject import copies_of, draw, seeded

MINE = [LIBRARY] * 5
EPSILON = 1e-6


@dataclass(frozen=True)
class MlpJob:
    """Rows through both products, normalised first or as they are."""

    rows: int
    inner: int
    hidden: int
    out: int
    dtype: str
    residual: bool
    activation: str
    normed: bool = False
    kernel: str = "mlp"
    target: ClassVar[Any] = MLP
    settings: ClassVar[int] = 9  # as for `GemvJob`

    def __str__(self) -> str:
        sizes = f"{self.rows}x{self.inner}x{self.hidden}x{self.out}"
        return f"{self.kernel} {sizes}, {self.dtype}{', normed' if self.normed else ''}"

    @classmethod
    def of_call(cls, module: fx.GraphModule, call: fx.Node, source: ir.Node | None) -> MlpJob | None:
        """What a call asks for; None where its sizes are not known before it runs, or another kernel is wanted."""
        del module
        sizes, dtype = operand_sizes(source)
        second = None if source is None else source.inputs[3]
        down = None if second is None else static_dims(second)
        if sizes is None or down is None:
            return None
        (hidden, inner), rows = sizes[1], prod(sizes[0][:-1])
        *_, residual, norm, _, activation, _ = call.args
        return cls(rows, inner, hidden, down[0], dtype, residual is not None, str(activation), bool(norm))

    def candidates(self) -> list[tuple[int, ...]]:
        """Settings worth measuring."""
        from ..kernels.mlp import candidates

        sizes = self.rows, self.inner, self.hidden, self.out
        return [tuple(MINE), *_grouped(*sizes), *candidates(*sizes, normed=self.normed)]

    def subject(self, copies: int | None = None) -> MlpSubject:
        """What they are measured on."""
        return MlpSubject(self, copies)


def _grouped(rows: int, inner: int, hidden: int, out: int) -> list[tuple[int, ...]]:
    """Settings of the kernel whose groups of warps walk by themselves, where the device has the instructions."""
    from ..kernels.grouped_settings import candidates
    from ..launch.product import hopper_at_hand

    return [(GROUPED, *c) for c in candidates(rows, inner, hidden, out)] if hopper_at_hand() else []


class MlpSubject:
    """Rows and two matrices, all of which are read from memory where they are large."""

    def __init__(self, job: MlpJob, copies: int | None) -> None:
        generator, dtype = seeded(), getattr(torch, job.dtype)
        size = 2 * (job.rows * job.inner + job.hidden * (job.inner + job.out))
        self._job, self.copies = job, copies_of(size, copies)

        def made(*of: int, fan: int = 1) -> Tensor:
            return (draw(generator, *of) * fan**-0.5).to(dtype)

        each = range(self.copies)
        self._x = [made(job.rows, job.inner) for _ in each]
        self._w = [made(job.hidden, job.inner, fan=job.inner) for _ in each]
        self._v = [made(job.out, job.hidden, fan=job.hidden) for _ in each]
        self._b, self._c = made(job.hidden), made(job.out)
        self._residual = [made(job.rows, job.out) if job.residual else None for _ in each]
        self._norm = [made(job.inner), made(job.inner)] if job.normed else []

    @property
    def wanted(self) -> Tensor:
        """The result in double precision."""
        x, w, b, v, c = (t.double() for t in (self._x[0], self._w[0], self._b, self._v[0], self._c))
        norm = [t.double() for t in self._norm]
        return library.apart(x, w, b, v, c, doubled(self._residual[0]), norm, EPSILON, self._job.activation)

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """One candidate on one copy of the operands."""
        operands = self._x[copy], self._w[copy], self._b, self._v[copy], self._c, self._residual[copy]
        return MLP(*operands, self._norm, EPSILON, self._job.activation, list(candidate))
