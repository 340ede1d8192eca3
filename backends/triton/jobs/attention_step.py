"""A step of attention: what it is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir
import torch
from torch import Tensor, fx

from ....compiler.ir import dims
from ..library import one_row as library
from ..lowering import ATTENTION_STEP
from .subject import copies_of, draw, seeded


@dataclass(frozen=True)
class AttentionStepJob:
    """A step of attention over a cache of so many slots."""

    heads: int
    shared: int
    size: int
    length: int
    dtype: str
    kernel: str = "attention_step"
    target: ClassVar[Any] = ATTENTION_STEP
    settings: ClassVar[int] = 9  # as for `GemvJob`

    def __str__(self) -> str:
        return f"{self.kernel} {self.heads}x{self.shared}x{self.size}, {self.length} slots, {self.dtype}"

    @classmethod
    def of_call(cls, module: fx.GraphModule, call: fx.Node, source: ir.Node | None) -> AttentionStepJob | None:
        """What a step asks for; None where its shapes are not known before it runs."""
        del module, call
        if source is None or source.inputs[0] is None or source.inputs[6] is None:
            return None
        query, cache = source.inputs[0], source.inputs[6]
        q, shape = dims(query), dims(cache)
        if q is None or shape is None or cache.dtype is None:
            return None
        sizes = [d for d in (*q, *shape) if isinstance(d, int)]
        if len(sizes) != 8:
            return None
        _, queries, _, _, _, heads, length, size = sizes
        return cls(heads, queries // heads, size, length, str(cache.dtype.numpy()))

    def candidates(self) -> list[tuple[int, int, int]]:
        """Settings worth measuring."""
        from ..kernels.attention_step import candidates

        return candidates(self.length, self.size)

    def subject(self, copies: int | None = None) -> AttentionStepSubject:
        """What they are measured on."""
        return AttentionStepSubject(self, copies)


class AttentionStepSubject:
    """A cache that is half full, read from memory each time."""

    def __init__(self, job: AttentionStepJob, copies: int | None) -> None:
        generator, dtype = seeded(), getattr(torch, job.dtype)
        cache = (1, job.heads, job.length, job.size)

        def row(*shape: int) -> Tensor:
            return draw(generator, *shape).to(dtype)

        self._q = row(1, job.heads * job.shared, 1, job.size)
        self._k, self._v = row(1, job.heads, 1, job.size), row(1, job.heads, 1, job.size)
        angle = draw(generator, job.length, job.size // 2)
        self._cos, self._sin = angle.cos().to(dtype), angle.sin().to(dtype)
        self._position = torch.tensor([job.length // 2], device=generator.device)
        self.copies = copies_of(2 * self._q.element_size() * job.heads * job.length * job.size, copies)
        self._caches = [(row(*cache), row(*cache)) for _ in range(self.copies)]
        self._scale = job.size**-0.5
        q, k, v, cos, sin = (t.double() for t in (self._q, self._k, self._v, self._cos, self._sin))
        keys, values = (t.double() for t in self._caches[0])
        self.wanted = library.attend(q, k, v, cos, sin, self._position, keys, values, self._scale)

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """The kernel on one copy of the cache."""
        from ..launch.one_row import launch_attention_step

        rows = self._q, self._k, self._v, self._cos, self._sin
        return launch_attention_step(*rows, self._position, *self._caches[copy], self._scale, candidate)
