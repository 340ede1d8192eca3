"""Attention in one kernel: a workgroup for each query keeps its scores to itself."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from ..expression import Element, shape_of
from ..index import Index, Subscript, add, broadcast, div, mul
from ..types import LOWEST, computed
from .reduction import join_in_workgroup
from .registry import Form, kernel, only_first_output
from .writer import Writer

GROUP = 64
MOST = 3072  # scores and elements of a query in a workgroup's memory: three quarters of what every device has


class Heads:
    """Queries, keys and values by batch, head and position, whichever way they lie."""

    def __init__(self, e: Element) -> None:
        self.e = e
        self.flat = len(e.shape_of(0)) == 3  # (batch, position, head·size) instead of (batch, head, position, size)
        heads = (e.integer("q_num_heads", 0), e.integer("kv_num_heads", 0), e.integer("kv_num_heads", 0))
        self.counts = [heads[i] if self.flat else e.shape_of(i)[1] for i in range(3)]
        self.sizes = [self._size(i) for i in range(3)]
        self.batch = e.shape_of(0)[0]
        self.queries, self.keys = e.shape_of(0)[-2], e.shape_of(1)[-2]
        self.scale = e.number("scale", 0.0) or self.sizes[0] ** -0.5

    def _size(self, number: int) -> int:
        shape = self.e.shape_of(number)
        return shape[-1] // self.counts[number] if self.flat else shape[-1]

    def at(self, number: int, batch: Index, head: Index, position: Index, inner: Index) -> str:
        """An element of an operand; several heads of queries may share one of keys and values."""
        shared = div(head, self.counts[0] // self.counts[number])
        return self.e.input(number, self.place(number, batch, shared, position, inner))

    def place(self, number: int, batch: Index, head: Index, position: Index, inner: Index) -> Subscript:
        """The subscript of an element."""
        if self.flat:
            return (batch, position, add(mul(head, self.sizes[number]), inner))
        return (batch, head, position, inner)

    def result(self, batch: Index, head: Index, position: Index, inner: Index) -> Subscript:
        """The subscript of a result, which lies as the queries do and has the size of the values."""
        return self.place(2, batch, head, position, inner)

    def masked(self, score: str, batch: Index, head: Index, query: Index, key: Index) -> str:
        """A score with the mask's number added, or what is not allowed out of the way."""
        e = self.e
        if not e.has(3):
            return score
        shape = e.shape_of(3)
        mask = e.input(3, broadcast((batch, head, query, key), shape))
        never = e.literal(float("-inf"), "f32")
        return f"select({never}, {score}, {mask})" if e.kind_of(3) == "bool" else f"{score} + {mask}"


def _attention(w: Writer) -> None:
    """softmax(q·kᵀ·scale + mask)·v, a query at a time."""
    e, shader = w.root, w.shader
    heads = Heads(e)
    outer = (heads.batch, heads.counts[0], heads.queries)
    batch, head, query = shader.subscript(w.a_workgroup_each(prod(outer), GROUP), outer)
    softcap = e.number("softcap", 0.0)
    scores = w.shared("scores", "f32", heads.keys)
    row = w.shared("row", "f32", heads.sizes[0])
    with shader.block(f"for (var d = t; d < {heads.sizes[0]}; d += {GROUP})"):
        shader.line(f"{row}[d] = {heads.at(0, batch, head, query, 'd')} * {e.literal(heads.scale, 'f32')};")
    shader.line("workgroupBarrier();")
    last = shader.let(f"min({query} + 1, {heads.keys})", "last") if e.integer("is_causal", 0) else str(heads.keys)
    shader.line(f"var most = {LOWEST};")
    with shader.block(f"for (var s = t; s < {last}; s += {GROUP})"):
        shader.line("var sum = 0.0;")
        with shader.block(f"for (var d = 0; d < {heads.sizes[0]}; d++)"):
            shader.line(f"sum += {row}[d] * {heads.at(1, batch, head, 's', 'd')};")
        capped = f"{softcap} * tanh(clamp(sum / {softcap}, -15.0, 15.0))" if softcap else "sum"
        score = shader.let(heads.masked(capped, batch, head, query, "s"), "score")
        shader.line(f"{scores}[s] = {score};")
        shader.line(f"most = max(most, {score});")
    top = join_in_workgroup(w, "most", "f32", lambda a, b: f"max({a}, {b})", GROUP)
    shader.line("var weight = 0.0;")
    with shader.block(f"for (var s = t; s < {last}; s += {GROUP})"):
        shader.line(f"let power = exp({scores}[s] - {top});")
        shader.line(f"{scores}[s] = power;")
        shader.line("weight += power;")
    total = join_in_workgroup(w, "weight", "f32", lambda a, b: f"({a} + {b})", GROUP)
    with shader.block(f"for (var d = t; d < {heads.sizes[2]}; d += {GROUP})"):
        shader.line("var sum = 0.0;")
        with shader.block(f"for (var s = 0; s < {last}; s++)"):
            shader.line(f"sum += {scores}[s] * {heads.at(2, batch, head, 's', 'd')};")
        w.store(heads.result(batch, head, query, "d"), f"select(sum / {total}, 0.0, {total} == 0.0)")


def _applies(node: ir.Node) -> bool:
    """Without a past, which the standard's own definition joins; every key for one query at once."""
    if any(v is not None for v in node.inputs[4:]) or not only_first_output(node):
        return False
    windows = (node.attributes.get(f"{side}_window_size") for side in ("left", "right"))
    if any(w is not None and w.as_int() >= 0 for w in windows):
        return False
    if any(v is None or computed(v.dtype) != "f32" for v in node.inputs[:3]):
        return False
    shapes: Sequence[tuple[int, ...]] = [shape_of(v) for v in node.inputs[:3] if v is not None]
    alike = {len(s) for s in shapes} in ({3}, {4})
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    wide = mask is None or shape_of(mask)[-1] in (1, shapes[1][-2])
    heads = node.attributes.get("q_num_heads")
    size = shapes[0][-1] // (heads.as_int() if heads is not None and len(shapes[0]) == 3 else 1)
    return alike and wide and shapes[1][-2] > 0 and shapes[1][-2] + size <= MOST


@kernel("Attention", reads_often=True, applies=_applies)
def attention(node: ir.Node) -> list[Form]:
    """A workgroup for each query."""
    return [_attention]
