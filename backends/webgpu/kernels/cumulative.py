"""Sums and products of all that came before along an axis."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from ....compiler.ir import constant_array
from ..types import computed
from .reduction import joined
from .registry import Form, kernel
from .writer import Writer


def _known_axis(node: ir.Node) -> bool:
    x, axis = node.inputs[0], node.inputs[1]
    return x is not None and axis is not None and constant_array(axis, 1) is not None and computed(x.dtype) != "bool"


def _one_after_another(w: Writer) -> None:
    """A thread for each row."""
    e, shader = w.root, w.shader
    known = e.constant(1)
    assert known is not None
    axis = int(known.reshape(-1)[0]) % len(e.shape)
    length, outer = e.shape[axis], [s for a, s in enumerate(e.shape) if a != axis]
    sign, start = ("+", 0) if e.node.op_type == "CumSum" else ("*", 1)
    at = shader.subscript(w.a_thread_each(prod(outer)), outer)
    shader.line(f"var sum = {e.literal(start)};")
    with shader.block(f"for (var k = 0; k < {length}; k++)"):
        i = shader.index(f"{length - 1} - k") if e.integer("reverse", 0) else "k"
        place = joined(at, [i], [axis])
        shader.line("let before = sum;")
        shader.line(f"sum {sign}= {e.input(0, place)};")
        shader.line("let after = sum;")
        w.store(place, "before" if e.integer("exclusive", 0) else "after")


@kernel("CumSum", "CumProd", applies=_known_axis)
def cumulative(node: ir.Node) -> list[Form]:
    """A thread for each row."""
    return [_one_after_another]
