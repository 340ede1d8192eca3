"""Convolutions: what they are measured on. Torch's own operators take part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import onnx_ir as ir
import torch
from torch import Tensor, fx

from ....compiler.ir import static_dims
from ..cublas_lt import proposals
from ..library import convolution as library
from ..lowering import CONVOLUTION
from .subject import copies_of, draw, seeded

MINE = [library.LIBRARY] * 6


@dataclass(frozen=True)
class ConvolutionJob:
    """A convolution of one group."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dtype: str
    scaled: bool
    residual: bool
    activation: str
    after: str
    first: bool  # its input is the caller's, channels first
    kernel: str = "convolution"
    target: ClassVar[Any] = CONVOLUTION
    settings: ClassVar[int] = 9  # as for `GemvJob`

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.x))
        return f"{self.kernel} {sizes}, {'x'.join(map(str, self.w))}, {self.dtype}"

    @classmethod
    def of_call(cls, module: fx.GraphModule, call: fx.Node, source: ir.Node | None) -> ConvolutionJob | None:
        """What a call asks for; None where its sizes are not known before it runs, or another kernel is wanted."""
        del module
        sizes, dtype = operand_sizes(source)
        if sizes is None:
            return None
        x, _, _, scale, residual, strides, pads, activation, after, _ = call.args
        first = isinstance(x, fx.Node) and x.op == "placeholder"
        fused = scale is not None, residual is not None, str(activation), str(after)
        return cls(sizes[0], sizes[1], numbers(strides), numbers(pads), dtype, *fused, first)

    def candidates(self) -> list[tuple[int, ...]]:
        """Settings worth measuring."""
        from ..kernels.convolution import candidates

        out, channels, height, width = self.w
        pixels = self.x[0] * prod(library.slid(self.x[2:], self.w[2:], self.strides, self.pads))
        found = [tuple(MINE), *candidates(pixels, out, channels, height * width, residual=self.residual)]
        if self.scaled or self.first or not library.pointwise(self.w, self.strides, self.pads):
            return found
        found += proposals(residual=self.residual, activation=self.activation, after=self.after)
        return [*found, *fetched(pixels, out, channels, residual=self.residual)]

    def subject(self, copies: int | None = None) -> ConvolutionSubject:
        """What they are measured on."""
        return ConvolutionSubject(self, copies)


class ConvolutionSubject:
    """Pictures and weights, all of which are read from memory where they are large."""

    def __init__(self, job: ConvolutionJob, copies: int | None) -> None:
        generator, dtype = seeded(), getattr(torch, job.dtype)
        last = torch.channels_last
        size = 2 * (prod(job.x) + prod(job.w))
        self._job, self.copies = job, copies_of(size, copies)
        first = torch.contiguous_format if job.first else last
        shape = (job.x[0], job.w[0], *library.slid(job.x[2:], job.w[2:], job.strides, job.pads))
        fan = prod(job.w[1:])

        def made(*of: int, layout: torch.memory_format = last) -> Tensor:
            return draw(generator, *of).to(dtype).contiguous(memory_format=layout)

        self._x = [made(*job.x, layout=first) for _ in range(self.copies)]
        self._w = [(made(*job.w).float() * fan**-0.5).to(dtype) for _ in range(self.copies)]
        self._bias = draw(generator, job.w[0]).to(dtype)
        self._scale = made(*job.x[:2], 1, 1).sigmoid() if job.scaled else None
        self._residual = [made(*shape) if job.residual else None for _ in range(self.copies)]

    @property
    def wanted(self) -> Tensor:
        """The result in double precision."""
        job = self._job
        operands = self._x[0].double(), self._w[0].double(), self._bias.double()
        more = doubled(self._scale), doubled(self._residual[0])
        return library.convolved(*operands, *more, job.strides, job.pads, job.activation, job.after)

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """One candidate on one copy of the operands."""
        job = self._job
        operands = self._x[copy], self._w[copy], self._bias, self._scale, self._residual[copy]
        settings = list(candidate)
        return CONVOLUTION(*operands, job.strides, job.pads, job.activation, job.after, settings)


def fetched(rows: int, n: int, k: int, *, residual: bool) -> list[tuple[int, ...]]:
    """Settings of the product whose tiles the copying engine fetches, where the device has one."""
    from ..kernels.tma_product import candidates
    from ..launch.product import hopper_at_hand

    if not hopper_at_hand():
        return []
    return [(library.TMA, *c) for c in candidates(rows, n, k, residual=residual)]


def operand_sizes(source: ir.Node | None) -> tuple[tuple[tuple[int, ...], tuple[int, ...]] | None, str]:
    """Sizes of a node's first two operands, the second a weight, and their dtype.

    None where the sizes are not all known, or the dtype is not one that the kernels are for.
    """
    if source is None or source.inputs[0] is None or source.inputs[1] is None or source.inputs[0].dtype is None:
        return None, ""
    x, w = static_dims(source.inputs[0]), static_dims(source.inputs[1])
    dtype = str(source.inputs[0].dtype.numpy())
    if x is None or w is None or getattr(torch, dtype, None) not in library.HALVES:
        return None, dtype
    return (x, w), dtype


def doubled(tensor: Tensor | None) -> Tensor | None:
    """In double precision."""
    return None if tensor is None else tensor.double()


def numbers(argument: Any) -> tuple[int, ...]:
    """A list of integers among a call's arguments."""
    return tuple(int(n) for n in argument)
