"""A few rows times weights of 4 or 8 bits in blocks: what it is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import onnx_ir as ir
import torch
from torch import Tensor, fx

from ....compiler.ir import static_dims
from ..library.nbits import Packed, meaning_nbits
from ..lowering import LINEAR_NBITS
from .call import constant
from .subject import copies_of, draw, seeded

MOST_ROWS = 16  # of the kernel; more are left to torch


@dataclass(frozen=True)
class GemvNBitsJob:
    """One row, or up to 16, times n rows of k weights of so many bits, and what is fused with it."""

    n: int
    k: int
    rows: int  # 1, or 16 for anything up to it
    bits: int
    block: int
    zeros: bool
    dtype: str
    gated: bool
    normed: bool
    residual: bool
    activation: str
    kernel: str = "gemv_nbits"
    target: ClassVar[Any] = LINEAR_NBITS
    settings: ClassVar[int] = 13  # as for `GemvJob`

    def __str__(self) -> str:
        return f"{self.kernel} {self.rows}x{self.n}x{self.k} of {self.bits} bits in blocks of {self.block} {self.dtype}"

    @classmethod
    def of_call(cls, module: fx.GraphModule, call: fx.Node, source: ir.Node | None) -> GemvNBitsJob | None:
        """What a call asks for; None where its weights are no constants, or its rows are not known or too many."""
        _, w, scales, zeros, gate, *others, norm, residual, _, activation, bits, block, _ = call.args
        codes, scale, size = constant(module, w), constant(module, scales), _rows_of(source)
        if codes is None or scale is None or size is None:
            return None
        if any(constant(module, o) is None for o in (zeros, gate, *others) if o is not None):
            return None  # the kernel reads all of them before the one ahead, which may compute them, has ended
        rows, k = size
        if rows > MOST_ROWS:
            return None
        fused = (gate is not None, norm is not None, residual is not None, str(activation))
        bits, block = int(str(bits)), int(str(block))
        dtype = str(scale.dtype).removeprefix("torch.")
        return cls(codes.shape[0], k, 1 if rows == 1 else MOST_ROWS, bits, block, zeros is not None, dtype, *fused)

    def candidates(self) -> list[tuple[int, ...]]:
        """Settings worth measuring: for how many rows of x they are, and the kernel's own."""
        from ..kernels import gemv_nbits, rows_nbits

        if self.rows == 1 and self.k <= gemv_nbits.LONGEST:
            found = gemv_nbits.candidates(self.n, self.k, self.bits, self.block, gated=self.gated)
        else:
            size = getattr(torch, self.dtype).itemsize
            found = rows_nbits.candidates(self.n, self.k, self.bits, self.block, size=size, gated=self.gated)
        return [(self.rows, *settings) for settings in found]

    def subject(self, copies: int | None = None) -> GemvNBitsSubject:
        """What they are measured on."""
        return GemvNBitsSubject(self, copies)


def _rows_of(source: ir.Node | None) -> tuple[int, int] | None:
    """How many rows of how many elements the first operand of a node has, where that is known before it runs."""
    sizes = None if source is None else static_dims(source.inputs[0])
    return (prod(sizes[:-1]), sizes[-1]) if sizes else None


class GemvNBitsSubject:
    """Rows, and packed weights that are read from memory each time."""

    def __init__(self, job: GemvNBitsJob, copies: int | None) -> None:
        generator, dtype = seeded(), getattr(torch, job.dtype)
        blocks = -(-job.k // job.block)

        def codes(*shape: int) -> Tensor:
            return torch.randint(0, 256, shape, generator=generator, device=generator.device, dtype=torch.uint8)

        def weights() -> Packed:
            scales = draw(generator, job.n, blocks).abs() * job.k**-0.5 / 2**job.bits
            zeros = codes(job.n * (-(-blocks * job.bits // 8))) if job.zeros else None
            return Packed(codes(job.n, blocks, job.block * job.bits // 8), scales.to(dtype), zeros)

        self._job = job
        self._x = draw(generator, job.rows, job.k).to(dtype)
        self._norm = (1 + 0.1 * draw(generator, job.k)).to(dtype) if job.normed else None
        self._residual = draw(generator, job.rows, job.n).to(dtype) if job.residual else None
        self.copies = copies_of(job.n * blocks * job.block * job.bits // 8 * (2 if job.gated else 1), copies)
        self._w = [weights() for _ in range(self.copies)]
        self._gates = [weights() for _ in range(self.copies if job.gated else 0)]
        norm, residual = (None if t is None else t.double() for t in (self._norm, self._residual))
        w, gate = (None if p is None else p._replace(scales=p.scales.double()) for p in (self._w[0], self._gate(0)))
        assert w is not None
        operands = (self._x.double(), w, gate, norm, residual)
        self.wanted = meaning_nbits(*operands, 1e-5, job.activation, job.bits, job.block)

    def _gate(self, copy: int) -> Packed | None:
        return self._gates[copy] if self._gates else None

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """The kernel on one copy of the weights."""
        from ..launch.nbits import launch_nbits

        job, operands = self._job, (self._x, self._w[copy], self._gate(copy), self._norm, self._residual)
        return launch_nbits(*operands, 1e-5, job.activation, job.bits, job.block, candidate)
