"""Depthwise convolutions: what they are measured on. Torch's own operators take part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import onnx_ir as ir
import torch
from torch import Tensor, fx

from ..library import convolution as library
from ..lowering import DEPTHWISE
from .convolution import numbers, operand_sizes
from .subject import copies_of, draw, seeded

MINE = (library.LIBRARY,) * library.DEPTHWISE_SETTINGS
EPSILON = 1e-6
APART = 8  # settings that leave the norm to a launch of its own


@dataclass(frozen=True)
class DepthwiseJob:
    """A convolution of each channel by itself."""

    x: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dtype: str
    normed: bool
    activation: str
    kernel: str = "depthwise"
    target: ClassVar[Any] = DEPTHWISE
    settings: ClassVar[int] = 8  # as for `GemvJob`

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.x))
        return f"{self.kernel} {sizes}, {'x'.join(map(str, self.kernel_shape))}, {self.dtype}"

    @classmethod
    def of_call(cls, module: fx.GraphModule, call: fx.Node, source: ir.Node | None) -> DepthwiseJob | None:
        """What a call asks for; None where its sizes are not known before it runs, or another kernel is wanted."""
        del module
        sizes, dtype = operand_sizes(source)
        if sizes is None:
            return None
        _, _, _, norm, _, strides, pads, activation, _ = call.args
        return cls(sizes[0], sizes[1][2:], numbers(strides), numbers(pads), dtype, bool(norm), str(activation))

    def candidates(self) -> list[tuple[int, ...]]:
        """Settings worth measuring."""
        from ..kernels.depthwise_settings import candidates
        from ..kernels.layer_norm import LONGEST
        from ..kernels.layer_norm import candidates as norms

        height, width = library.slid(self.x[2:], self.kernel_shape, self.strides, self.pads)
        pixels, channels = self.x[0] * height * width, self.x[1]
        sizes = pixels, width, height, channels, self.kernel_shape, self.strides
        found: list[tuple[int, ...]] = [MINE, *candidates(*sizes, normed=self.normed)]
        if not self.normed or channels > LONGEST:
            return found
        # Where one program holds all channels of a pixel, few pixels keep few programs busy.
        return [*found, *((*c, *norms(pixels, channels)[0]) for c in candidates(*sizes, normed=False)[:APART])]

    def subject(self, copies: int | None = None) -> DepthwiseSubject:
        """What they are measured on."""
        return DepthwiseSubject(self, copies)


class DepthwiseSubject:
    """Pictures that are read from memory each time, and weights that a cache holds."""

    def __init__(self, job: DepthwiseJob, copies: int | None) -> None:
        generator, dtype = seeded(), getattr(torch, job.dtype)
        self._job, self.copies = job, copies_of(2 * prod(job.x), copies)
        channels = job.x[1]

        def made(*of: int) -> Tensor:
            return draw(generator, *of).to(dtype)

        self._x = [made(*job.x).contiguous(memory_format=torch.channels_last) for _ in range(self.copies)]
        self._w = (draw(generator, channels, 1, *job.kernel_shape) * prod(job.kernel_shape) ** -0.5).to(dtype)
        self._bias = made(channels)
        self._norm = [made(channels), made(channels)] if job.normed else []

    @property
    def wanted(self) -> Tensor:
        """The result in double precision."""
        job, norm = self._job, [t.double() for t in self._norm]
        operands = self._x[0].double(), self._w.double(), self._bias.double()
        return library.convolved_by_channel(*operands, norm, EPSILON, job.strides, job.pads, job.activation)

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """One candidate on one copy of the operands."""
        job = self._job
        w = self._w if candidate[0] == library.LIBRARY else library.outputs_last(self._w)
        rest = self._norm, EPSILON, job.strides, job.pads, job.activation
        return DEPTHWISE(self._x[copy], w, self._bias, *rest, list(candidate))
