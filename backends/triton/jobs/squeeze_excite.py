"""Squeeze-and-excitation, and means over pixels: what they are measured on. Torch's own operators take part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import onnx_ir as ir
import torch
from torch import Tensor, fx

from ....compiler.ir import static_dims
from ..library import squeeze as library
from ..library.convolution import HALVES, LIBRARY, outputs_last
from ..lowering import MEAN_PIXELS, SQUEEZE_EXCITE
from .convolution import operand_sizes
from .subject import copies_of, draw, seeded

MINE = (LIBRARY,) * library.SQUEEZE_SETTINGS


@dataclass(frozen=True)
class SqueezeExciteJob:
    """The means of so many pixels, and two products."""

    x: tuple[int, ...]
    squeezed: int
    dtype: str
    activation: str
    gate: str
    kernel: str = "squeeze_excite"
    target: ClassVar[Any] = SQUEEZE_EXCITE
    settings: ClassVar[int] = 7  # as for `GemvJob`

    def __str__(self) -> str:
        return f"{self.kernel} {'x'.join(map(str, self.x))}, {self.squeezed}, {self.dtype}"

    @classmethod
    def of_call(cls, module: fx.GraphModule, call: fx.Node, source: ir.Node | None) -> SqueezeExciteJob | None:
        """What a call asks for; None where its sizes are not known before it runs, or another kernel is wanted."""
        del module
        sizes, dtype = operand_sizes(source)
        if sizes is None or not prod(sizes[0]):
            return None
        *_, activation, gate, _ = call.args
        return cls(sizes[0], sizes[1][0], dtype, str(activation), str(gate))

    def candidates(self) -> list[tuple[int, ...]]:
        """Settings worth measuring."""
        from ..kernels.squeeze_excite import candidates

        if self.squeezed > library.WIDEST:
            return [MINE]
        return [MINE, *candidates(self.x[0], prod(self.x[2:]), self.x[1], self.squeezed)]

    def subject(self, copies: int | None = None) -> SqueezeExciteSubject:
        """What they are measured on."""
        return SqueezeExciteSubject(self, copies)


class SqueezeExciteSubject:
    """Pictures, some of whose channels are far from zero, and weights that a cache holds."""

    def __init__(self, job: SqueezeExciteJob, copies: int | None) -> None:
        generator, dtype = seeded(), getattr(torch, job.dtype)
        self._job, self.copies = job, copies_of(2 * prod(job.x), copies)
        channels, small = job.x[1], job.squeezed

        def made(*of: int, fan: int = 1) -> Tensor:
            return (draw(generator, *of) * fan**-0.5).to(dtype)

        self._x = _pictures(generator, job.x, dtype, self.copies)
        self._first = made(small, channels, 1, 1, fan=channels), made(small)
        self._second = made(channels, small, 1, 1, fan=small), made(channels)

    @property
    def wanted(self) -> Tensor:
        """The result in double precision."""
        (w, b), (v, c) = self._first, self._second
        operands = self._x[0].double(), w.double(), b.double(), v.double(), c.double()
        return library.excited(*operands, self._job.activation, self._job.gate)

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """One candidate on one copy of the pictures."""
        v, c = self._second
        v = v if candidate[0] == LIBRARY else outputs_last(v)
        rest = self._job.activation, self._job.gate, list(candidate)
        return SQUEEZE_EXCITE(self._x[copy], *self._first, v, c, *rest)


@dataclass(frozen=True)
class MeanPixelsJob:
    """The means of so many pixels."""

    x: tuple[int, ...]
    dtype: str
    kernel: str = "mean_pixels"
    target: ClassVar[Any] = MEAN_PIXELS
    settings: ClassVar[int] = 2  # as for `GemvJob`

    def __str__(self) -> str:
        return f"{self.kernel} {'x'.join(map(str, self.x))}, {self.dtype}"

    @classmethod
    def of_call(cls, module: fx.GraphModule, call: fx.Node, source: ir.Node | None) -> MeanPixelsJob | None:
        """What a call asks for; None where its sizes are not known before it runs, or another kernel is wanted."""
        del module, call
        x = None if source is None else source.inputs[0]
        if x is None or x.dtype is None:
            return None
        sizes, dtype = static_dims(x), str(x.dtype.numpy())
        if not sizes or not prod(sizes) or getattr(torch, dtype, None) not in HALVES:
            return None
        return cls(sizes, dtype)

    def candidates(self) -> list[tuple[int, ...]]:
        """Settings worth measuring."""
        from ..kernels.squeeze_excite import candidates

        return [MINE, *candidates(self.x[0], prod(self.x[2:]), self.x[1], 0)]

    def subject(self, copies: int | None = None) -> MeanPixelsSubject:
        """What they are measured on."""
        return MeanPixelsSubject(self, copies)


class MeanPixelsSubject:
    """Pictures, some of whose channels are far from zero."""

    def __init__(self, job: MeanPixelsJob, copies: int | None) -> None:
        self.copies = copies_of(2 * prod(job.x), copies)
        self._x = _pictures(seeded(), job.x, getattr(torch, job.dtype), self.copies)

    @property
    def wanted(self) -> Tensor:
        """The result in double precision."""
        return self._x[0].double().mean((2, 3), True)

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """One candidate on one copy of the pictures."""
        return MEAN_PIXELS(self._x[copy], True, list(candidate))


def _pictures(generator: torch.Generator, shape: Sequence[int], dtype: torch.dtype, copies: int) -> list[Tensor]:
    offset = draw(generator, 1, shape[1], 1, 1)

    def made() -> Tensor:
        return (draw(generator, *shape) + offset).to(dtype).contiguous(memory_format=torch.channels_last)

    return [made() for _ in range(copies)]
