"""Attention over whole sequences: what it is measured on. Torch's own operator takes part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir
import torch
from torch import Tensor, fx

from ....compiler.ir import static_dims
from ....compiler.torch_operators.attention import separated
from ..library import attention as library
from ..library.convolution import HALVES, LIBRARY
from ..lowering import ATTENTION
from .convolution import doubled
from .subject import copies_of, draw, seeded

MINE = (LIBRARY,) * 4


@dataclass(frozen=True)
class AttentionJob:
    """Attention of so many texts, heads, and queries to so many keys."""

    batch: int
    heads: int
    shared: int  # heads of queries for each of keys
    queries: int
    keys: int
    size: int
    dtype: str
    causal: bool
    mask: tuple[int, ...]  # empty: none
    mask_dtype: str
    packed: bool  # operands have three axes
    merged: bool  # and are slices of one tensor
    kernel: str = "attention"
    target: ClassVar[Any] = ATTENTION
    settings: ClassVar[int] = 7  # as for `GemvJob`

    def __str__(self) -> str:
        sizes = f"{self.batch}x{self.heads * self.shared}x{self.queries}x{self.size}"
        return f"{self.kernel} {sizes}, {self.keys} keys, {self.dtype}"

    @classmethod
    def of_call(cls, module: fx.GraphModule, call: fx.Node, source: ir.Node | None) -> AttentionJob | None:
        """What a call asks for; None where its sizes are not known before it runs, or the kernel is not for them."""
        del module
        if source is None:
            return None
        operands = [v for v in source.inputs[:4] if v is not None]
        shapes = [shape for v in operands if (shape := static_dims(v)) is not None]
        dtype = _dtype(operands[0])
        if len(shapes) != len(operands) or getattr(torch, dtype, None) not in HALVES:
            return None
        q, k, v = shapes[:3]
        mask: tuple[int, ...] = shapes[3] if len(shapes) > 3 else ()
        arguments: Any = call.args
        counts, causal, scale = arguments[4:7]
        packed = len(q) == 3
        if packed:
            q, k, v = (_by_heads(shape, n) for shape, n in ((q, counts[0]), (k, counts[1]), (v, counts[1])))
        batch, heads, queries, size = q
        merged = packed and q[2] == k[2] and len({id(o.producer()) for o in operands[:3]}) == 1
        merged = merged and operands[0].producer() is not None
        if not library.is_for(q, k, v, scale):
            return None
        shared, kind = heads // k[1], _dtype(operands[3]) if mask else ""
        return cls(batch, k[1], shared, queries, k[2], size, dtype, bool(causal), mask, kind, packed, merged)

    def candidates(self) -> list[tuple[int, ...]]:
        """Settings worth measuring."""
        from ..kernels.attention import candidates

        heads = self.batch * self.heads * self.shared
        return [MINE, *candidates(heads, self.queries, self.keys, self.size, causal=self.causal)]

    def subject(self, copies: int | None = None) -> AttentionSubject:
        """What they are measured on."""
        return AttentionSubject(self, copies)


class AttentionSubject:
    """Queries, keys and values, which lie as the program has them."""

    def __init__(self, job: AttentionJob, copies: int | None) -> None:
        generator, dtype = seeded(), getattr(torch, job.dtype)
        counts = job.heads * job.shared, job.heads, job.heads
        lengths = job.queries, job.keys, job.keys
        elements = job.batch * sum(n * length * job.size for n, length in zip(counts, lengths, strict=True))
        self._job, self.copies = job, copies_of(2 * elements, copies)

        def made() -> list[Tensor]:
            if job.merged:
                widths = [n * job.size for n in counts]
                return list(draw(generator, job.batch, job.queries, sum(widths)).to(dtype).split(widths, 2))
            if job.packed:
                return [
                    draw(generator, job.batch, length, n * job.size).to(dtype)
                    for n, length in zip(counts, lengths, strict=True)
                ]
            return [
                draw(generator, job.batch, n, length, job.size).to(dtype)
                for n, length in zip(counts, lengths, strict=True)
            ]

        self._operands = [made() for _ in range(self.copies)]
        self._heads = [counts[0], job.heads]
        self._mask: Tensor | None = None
        if job.mask:
            drawn = draw(generator, *job.mask)
            self._mask = drawn > -1 if job.mask_dtype == "bool" else drawn.to(getattr(torch, job.mask_dtype))
            self._mask[..., 0] = 1  # no query sees nothing

    @property
    def wanted(self) -> Tensor:
        """The result in double precision, head by head: all scores of long texts together are too many."""
        job = self._job
        q, k, v = (t.double() for t in self._operands[0])
        q, k, v = separated(q, k, v, *self._heads) if job.packed else (q, k, v)
        mask = self._mask if job.mask_dtype == "bool" else doubled(self._mask)
        seen = None if mask is None else mask.expand(*q.shape[:3], job.keys)
        found: list[Tensor] = []
        for head in range(job.heads):
            own = slice(head * job.shared, (head + 1) * job.shared)
            one = slice(head, head + 1)
            part = None if seen is None else seen[:, own]
            found.append(library.attended(q[:, own], k[:, one], v[:, one], part, self._heads, job.causal, None))
        y = torch.cat(found, 1)
        return y.transpose(1, 2).flatten(2) if job.packed else y

    def launch(self, copy: int, candidate: Sequence[int]) -> Tensor:
        """One candidate on one copy of the operands."""
        q, k, v = self._operands[copy]
        return ATTENTION(q, k, v, self._mask, self._heads, self._job.causal, None, list(candidate))


def _by_heads(shape: tuple[int, ...], heads: int) -> tuple[int, ...]:
    batch, length, width = shape
    return batch, heads, length, width // heads


def _dtype(value: ir.Value) -> str:
    return "" if value.dtype is None else str(value.dtype.numpy())
