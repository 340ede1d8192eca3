"""Updates of some elements of a tensor: in a copy, a thread each; where they may meet, each element collects its own.

A copy that nobody else needs is no copy: lowering writes in place what the model says is a state.
"""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from ..expression import Element
from ..index import Index, Subscript, add
from ..types import wrapped
from .registry import Form, kernel
from .writer import Writer

_JOIN = {
    "add": "{0} + {1}",
    "mul": "{0} * {1}",
    "max": "max({0}, {1})",
    "min": "min({0}, {1})",
}


def _meets(node: ir.Node) -> bool:
    """Whether several updates of one element count."""
    found = node.attributes.get("reduction")
    return found is not None and found.as_string() != "none"


def _starts_from(node: ir.Node) -> int | None:
    return None if _meets(node) else 0


def _index(e: Element, chosen: str, size: int) -> str:
    """An index that may count from the end."""
    i = e.shader.let(f"i32({chosen})", "i")
    return e.shader.let(f"select({i}, {i} + {size}, {i} < 0)", "i")


def _target(e: Element, at: Subscript) -> Subscript:
    """Where an update goes."""
    shape = e.shape_of(0)
    if e.node.op_type == "ScatterElements":
        axis = e.integer("axis", 0) % len(shape)
        return tuple(_index(e, e.input(1, at), shape[axis]) if a == axis else i for a, i in enumerate(at))
    if e.node.op_type == "TensorScatter":
        axis = e.integer("axis", -2) % len(shape)
        i = add(at[axis], f"i32({e.input(2, (at[0],))})") if e.has(2) else at[axis]
        i = f"{i} % {shape[axis]}" if e.text("mode", "linear") == "circular" else i
        return tuple(e.shader.index(i) if a == axis else k for a, k in enumerate(at))
    length = e.shape_of(1)[-1]
    lead = at[: len(e.shape_of(1)) - 1]
    chosen = [_index(e, e.input(1, (*lead, k)), shape[k]) for k in range(length)]
    return (*chosen, *at[len(lead) :])


def _updates(node: ir.Node) -> int:
    """The number of the input that holds them."""
    return 1 if node.op_type == "TensorScatter" else 2


def _by_updates(w: Writer) -> None:
    """A thread for each update, into a copy."""
    e = w.root
    w.copied = e.operand(0)
    number = _updates(e.node)
    shape = e.shape_of(number)
    at = w.shader.subscript(w.a_thread_each(prod(shape)), shape)
    w.store(_target(e, at), e.input(number, at))


def _by_elements(w: Writer) -> None:
    """A thread for each element, which looks through the updates that may be its own, in their order."""
    e, shader = w.root, w.shader
    shape, join = e.shape, _JOIN[e.text("reduction", "add")]
    at = shader.subscript(w.a_thread_each(prod(shape)), shape)
    shader.line(f"var sum = {e.input(0, at)};")
    if e.node.op_type == "ScatterElements":
        _along_axis(w, at, join)
    else:
        _among_slices(w, at, join)
    w.store(at, wrapped("sum", e.value.dtype))


def _along_axis(w: Writer, at: Subscript, join: str) -> None:
    e, shader = w.root, w.shader
    axis, given = e.integer("axis", 0) % len(e.shape), e.shape_of(1)
    within = [
        f"{i} < {size}"
        for a, (i, size, whole) in enumerate(zip(at, given, e.shape, strict=True))
        if a != axis and size < whole
    ]
    with (
        shader.block(f"if ({' && '.join(within) or 'true'})"),
        shader.block(f"for (var k = 0; k < {given[axis]}; k++)"),
    ):
        place: list[Index] = ["k" if a == axis else i for a, i in enumerate(at)]
        chosen = _index(e, e.input(1, place), e.shape[axis])
        with shader.block(f"if ({chosen} == {at[axis]})"):
            shader.line(f"sum = {join.format('sum', e.input(2, place))};")


def _among_slices(w: Writer, at: Subscript, join: str) -> None:
    e, shader = w.root, w.shader
    given = e.shape_of(1)
    lead, length = given[:-1], given[-1]
    with shader.block(f"for (var k = 0; k < {prod(lead)}; k++)"):
        place = shader.subscript("k", lead)
        same = [f"{_index(e, e.input(1, (*place, d)), e.shape[d])} == {at[d]}" for d in range(length)]
        with shader.block(f"if ({' && '.join(same) or 'true'})"):
            shader.line(f"sum = {join.format('sum', e.input(2, (*place, *at[length:])))};")


@kernel("ScatterElements", "ScatterND", "TensorScatter", starts_from=_starts_from)
def scatter(node: ir.Node) -> list[Form]:
    """By updates where each stands alone."""
    return [_by_elements] if _meets(node) else [_by_updates]
