"""Depthwise convolutions with squeeze-and-excitation of what they compute: what they are measured on.

Torch's own operators take part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import onnx_ir as ir
import torch
from torch import Tensor, fx

from ....compiler.ir import static_dims
from ..library import convolution as library
from ..library.depthwise_squeeze import weighed
from ..library.squeeze import SQUEEZE_SETTINGS, WIDEST
from ..lowering import DEPTHWISE_SQUEEZE
from .convolution import numbers, operand_sizes
from .subject import copies_of, draw, seeded

MINE = (library.LIBRARY,) * (library.DEPTHWISE_SETTINGS + SQUEEZE_SETTINGS)
SIZE = 4.0  # of what makes a gate show its sums
MOST_CONVOLUTIONS = 12  # settings of the convolution, each with the squeeze that should go with it
MOST_SQUEEZES = 3  # settings of the squeeze in one launch with the first of these, and in two


@dataclass(frozen=True)
class DepthwiseSqueezeJob:
    """A convolution of each channel by itself, and two products of its means."""

    x: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    squeezed: int
    dtype: str
    first: str
    activation: str
    gate: str
    kernel: str = "depthwise_squeeze"
    target: ClassVar[Any] = DEPTHWISE_SQUEEZE
    settings: ClassVar[int] = 12  # as for `GemvJob`

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.x))
        return f"{self.kernel} {sizes}, {'x'.join(map(str, self.kernel_shape))}, {self.squeezed}, {self.dtype}"

    @classmethod
    def of_call(cls, module: fx.GraphModule, call: fx.Node, source: ir.Node | None) -> DepthwiseSqueezeJob | None:
        """What a call asks for; None where its sizes are not known before it runs, or another kernel is wanted."""
        del module
        sizes, dtype = operand_sizes(source)
        small = None if source is None or source.inputs[3] is None else static_dims(source.inputs[3])
        if sizes is None or small is None or not prod(sizes[0]):
            return None
        strides, pads, *fused = call.args[7:12]
        names = (str(name) for name in fused)
        return cls(sizes[0], sizes[1][2:], numbers(strides), numbers(pads), small[0], dtype, *names)

    def candidates(self) -> list[tuple[int, ...]]:
        """Settings worth measuring."""
        return [MINE] if self.squeezed > WIDEST else [MINE, *dict.fromkeys(self._fitting())]

    def _fitting(self) -> Iterator[tuple[int, ...]]:
        """Settings of the convolution with one of the squeeze, the first with more: what the two take adds up."""
        from ..kernels.depthwise_settings import candidates, parts_of
        from ..kernels.squeeze_excite import candidates as squeezes

        height, width = library.slid(self.x[2:], self.kernel_shape, self.strides, self.pads)
        n, channels = self.x[:2]
        sizes = n * height * width, width, height, channels, self.kernel_shape, self.strides
        for place, convolution in enumerate(candidates(*sizes, normed=False, summed=True)[:MOST_CONVOLUTIONS]):
            found = squeezes(n, parts_of(height, width, convolution), channels, self.squeezed)
            one, two = ([s for s in found if s[-1] == launches] for launches in (1, 2))
            for squeeze in (*two[:MOST_SQUEEZES], *one[:MOST_SQUEEZES]) if place == 0 else two[:1]:
                yield *convolution, *squeeze

    def subject(self, copies: int | None = None) -> DepthwiseSqueezeSubject:
        """What they are measured on."""
        return DepthwiseSqueezeSubject(self, copies)


class DepthwiseSqueezeSubject:
    """Pictures that are read from memory each time, and weights that a cache holds.

    Biases and the second layer are large: a gate would hardly show sums that are a few per cent off else.
    """

    def __init__(self, job: DepthwiseSqueezeJob, copies: int | None) -> None:
        generator, dtype = seeded(), getattr(torch, job.dtype)
        self._job, self.copies = job, copies_of(2 * prod(job.x), copies)
        channels, small = job.x[1], job.squeezed

        def made(*of: int, fan: int = 1, size: float = 1.0) -> Tensor:
            return (size * draw(generator, *of) * fan**-0.5).to(dtype)

        self._x = [made(*job.x).contiguous(memory_format=torch.channels_last) for _ in range(self.copies)]
        self._w = made(channels, 1, *job.kernel_shape, fan=prod(job.kernel_shape))
        self._bias = made(channels, size=SIZE)
        self._first = made(small, channels, 1, 1, fan=channels), made(small)
        self._second = made(channels, small, 1, 1, fan=small, size=SIZE), made(channels)

    @property
    def wanted(self) -> tuple[Tensor, Tensor]:
        """Both results in double precision."""
        job = self._job
        operands = [t.double() for t in (self._x[0], self._w, self._bias, *self._first, *self._second)]
        x, w, bias, v, c, u, d = operands
        return weighed(x, w, bias, v, c, u, d, job.strides, job.pads, job.first, job.activation, job.gate)

    def launch(self, copy: int, candidate: Sequence[int]) -> tuple[Tensor, Tensor]:
        """One candidate on one copy of the operands."""
        job, (u, d) = self._job, self._second
        w, u = (t if candidate[0] == library.LIBRARY else library.outputs_last(t) for t in (self._w, u))
        rest = job.strides, job.pads, job.first, job.activation, job.gate
        return DEPTHWISE_SQUEEZE(self._x[copy], w, self._bias, *self._first, u, d, *rest, list(candidate))
