"""Sums and products of all that came before along an axis."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from ....compiler.ir import constant_array
from ..expression import Element, shape_of
from ..index import Index, Subscript
from ..types import computed
from .reduction import joined
from .registry import Form, kernel
from .writer import Writer

LONG = 1024  # elements of a row that one thread no longer goes through by itself
GROUP = 256
MANY = 1024  # rows, of which neighbours lie side by side: a thread each keeps a device busy, and reads in order


def _axis(node: ir.Node) -> int | None:
    """Counted from the first; None where it is computed."""
    known = None if node.inputs[1] is None else constant_array(node.inputs[1], 1)
    return None if known is None else int(known.reshape(-1)[0]) % len(shape_of(node.outputs[0]))


def _known_axis(node: ir.Node) -> bool:
    x = node.inputs[0]
    return x is not None and _axis(node) is not None and computed(x.dtype) != "bool"


def _one_after_another(w: Writer) -> None:
    """A thread for each row."""
    e, shader = w.root, w.shader
    axis, outer, sign, start = _row(e)
    length = e.shape[axis]
    at = shader.subscript(w.a_thread_each(prod(outer)), outer)
    shader.line(f"var sum = {e.literal(start)};")
    with shader.block(f"for (var k = 0; k < {length}; k++)"):
        _step(w, joined(at, [_from_start(e, length)], [axis]), sign)


def _row(e: Element) -> tuple[int, list[int], str, int]:
    """The axis, the sizes of the others, what joins elements, and what that begins with."""
    axis = _axis(e.node)
    assert axis is not None
    outer = [s for a, s in enumerate(e.shape) if a != axis]
    sign, start = ("+", 0) if e.node.op_type == "CumSum" else ("*", 1)
    return axis, outer, sign, start


def _from_start(e: Element, length: int) -> Index:
    """Where the k-th element lies."""
    return e.shader.index(f"{length - 1} - k") if e.integer("reverse", 0) else "k"


def _step(w: Writer, place: Subscript, sign: str) -> None:
    """One more element, and what there is so far."""
    e, shader = w.root, w.shader
    shader.line("let before = sum;")
    shader.line(f"sum {sign}= {e.input(0, place)};")
    shader.line("let after = sum;")
    w.store(place, "before" if e.integer("exclusive", 0) else "after")


def _in_parts(w: Writer) -> None:
    """A workgroup for each row, a part of it for each thread: what each part comes to is where the next one starts."""
    e, shader = w.root, w.shader
    axis, outer, sign, start = _row(e)
    length = e.shape[axis]
    part = -(-length // GROUP)
    at = shader.subscript(w.a_workgroup_each(prod(outer), GROUP), outer)
    turn = f"for (var j = 0; j < {part}; j++)"
    element, inside = f"let k = t * {part} + j;", f"if (k < {length})"
    shader.line(f"var sum = {e.literal(start)};")
    with shader.block(turn):
        shader.line(element)
        with shader.block(inside):
            shader.line(f"sum {sign}= {e.input(0, joined(at, [_from_start(e, length)], [axis]))};")
    parts = w.shared(shader.name("parts"), e.kind, GROUP)
    shader.line(f"{parts}[t] = sum;")
    shader.line("workgroupBarrier();")
    shader.line(f"sum = {e.literal(start)};")
    with shader.block(f"for (var p = 0; p < {GROUP}; p++)"), shader.block("if (p < t)"):
        shader.line(f"sum {sign}= {parts}[p];")
    with shader.block(turn):
        shader.line(element)
        with shader.block(inside):
            _step(w, joined(at, [_from_start(e, length)], [axis]), sign)


@kernel("CumSum", "CumProd", applies=_known_axis)
def cumulative(node: ir.Node) -> list[Form]:
    """A thread for each of many short rows, a workgroup for each long one."""
    at, shape = _axis(node), shape_of(node.outputs[0])
    assert at is not None
    if shape[at] <= LONG:
        return [_one_after_another]
    side_by_side = at < len(shape) - 1 and prod(shape) >= MANY * shape[at]
    return [_one_after_another, _in_parts] if side_by_side else [_in_parts, _one_after_another]
