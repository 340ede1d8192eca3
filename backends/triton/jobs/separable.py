"""Depthwise convolutions with the one of one tap that reads them: what they are measured on. Torch's take part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import onnx_ir as ir
import torch
from torch import Tensor, fx

from ....compiler.ir import static_dims
from ..library import convolution as library
from ..library.separable import separated
from ..lowering import SEPARABLE
from .convolution import doubled, numbers, operand_sizes
from .subject import copies_of, draw, seeded

MINE = [library.LIBRARY] * 9


@dataclass(frozen=True)
class SeparableJob:
    """A depthwise convolution and the one of one tap that reads it."""

    x: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    out: int
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dtype: str
    residual: bool
    first: str
    activation: str
    after: str
    kernel: str = "separable"
    target: ClassVar[Any] = SEPARABLE
    settings: ClassVar[int] = 11  # as for `GemvJob`

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.x))
        return f"{self.kernel} {sizes}, {'x'.join(map(str, self.kernel_shape))}, {self.out}, {self.dtype}"

    @classmethod
    def of_call(cls, module: fx.GraphModule, call: fx.Node, source: ir.Node | None) -> SeparableJob | None:
        """What a call asks for; None where its sizes are not known before it runs, or another kernel is wanted."""
        del module
        sizes, dtype = operand_sizes(source)
        if sizes is None or source is None or source.inputs[3] is None:
            return None
        point = static_dims(source.inputs[3])
        if point is None:
            return None
        residual, strides, pads, *fused = call.args[5:11]
        names = (str(name) for name in fused)
        shapes = sizes[0], sizes[1][2:], point[0]
        return cls(*shapes, numbers(strides), numbers(pads), dtype, residual is not None, *names)

    def candidates(self) -> list[tuple[int, ...]]:
        """Settings worth measuring."""
        from ..kernels.separable import candidates

        height, width = library.slid(self.x[2:], self.kernel_shape, self.strides, self.pads)
        down, right = self.strides
        taps = self.kernel_shape[0], self.kernel_shape[1]
        found = candidates((self.x[0], height, width), self.out, self.x[1], taps, (down, right))
        return [tuple(MINE), *found]

    def subject(self, copies: int | None = None) -> SeparableSubject:
        """What they are measured on."""
        return SeparableSubject(self, copies)


class SeparableSubject:
    """Pictures that are read from memory each time, and weights that a cache holds."""

    def __init__(self, job: SeparableJob, copies: int | None) -> None:
        generator, dtype = seeded(), getattr(torch, job.dtype)
        self._job, self.copies = job, copies_of(2 * prod(job.x), copies)
        channels, taps = job.x[1], prod(job.kernel_shape)
        shape = (job.x[0], job.out, *library.slid(job.x[2:], job.kernel_shape, job.strides, job.pads))

        def made(*of: int, size: float = 1.0) -> Tensor:
            return (size * draw(generator, *of)).to(dtype)

        def picture(*of: int) -> Tensor:
            return made(*of).contiguous(memory_format=torch.channels_last)

        self._x = [picture(*job.x) for _ in range(self.copies)]
        self._residual = [picture(*shape) if job.residual else None for _ in range(self.copies)]
        self._w = made(channels, 1, *job.kernel_shape, size=taps**-0.5)
        self._bias, self._shift = made(channels), made(job.out)
        self._v = made(job.out, channels, 1, 1, size=channels**-0.5)

    @property
    def wanted(self) -> Tensor:
        """The result in double precision."""
        job = self._job
        x, w, bias = self._x[0].double(), self._w.double(), self._bias.double()
        operands = x, w, bias, self._v.double(), self._shift.double()
        fused = job.first, job.activation, job.after
        return separated(*operands, doubled(self._residual[0]), job.strides, job.pads, *fused)

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """One candidate on one copy of the operands."""
        job = self._job
        w = self._w if candidate[0] == library.LIBRARY else library.outputs_last(self._w)
        operands = self._x[copy], w, self._bias, self._v, self._shift, self._residual[copy]
        return SEPARABLE(*operands, job.strides, job.pads, job.first, job.activation, job.after, list(candidate))
