"""Rows that are looked at more than once: softmax and what is normalised over its last axes."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from ..expression import Element, shape_of
from ..index import Subscript
from ..types import LOWEST
from .reduction import join_in_workgroup, joined
from .registry import Form, kernel, only_first_output
from .writer import Writer

GROUP = 64
FITS = 2048  # elements of a row that lie in the workgroup's memory: half of what every device has


def _softmax(w: Writer) -> None:
    e = w.root
    axis = e.integer("axis", -1) % len(e.shape)
    outer = [s for a, s in enumerate(e.shape) if a != axis]
    length = e.shape[axis]
    at = w.shader.subscript(w.a_workgroup_each(prod(outer), GROUP), outer)
    kept = w.shared("row", "f32", length) if length <= FITS else ""

    def x() -> str:
        return f"{kept}[r]" if kept else e.input(0, joined(at, ["r"], [axis]))

    shader = w.shader
    shader.line(f"var most = {LOWEST};")
    with shader.block(f"for (var r = t; r < {length}; r += {GROUP})"):
        first = e.input(0, joined(at, ["r"], [axis]))
        if kept:
            shader.line(f"{kept}[r] = {first};")
        shader.line(f"most = max(most, {first});")
    top = join_in_workgroup(w, "most", "f32", lambda a, b: f"max({a}, {b})", GROUP)
    shader.line("var sum = 0.0;")
    with shader.block(f"for (var r = t; r < {length}; r += {GROUP})"):
        power = shader.let(f"exp({x()} - {top})")
        shader.line(f"sum += {power};")
    total = join_in_workgroup(w, "sum", "f32", lambda a, b: f"({a} + {b})", GROUP)
    log = e.node.op_type == "LogSoftmax"
    scale = shader.let(f"log({total})" if log else f"1.0 / {total}")
    with shader.block(f"for (var r = t; r < {length}; r += {GROUP})"):
        text = f"{x()} - {top} - {scale}" if log else f"exp({x()} - {top}) * {scale}"
        w.store(joined(at, ["r"], [axis]), text)


@kernel("Softmax", "LogSoftmax")
def softmax(node: ir.Node) -> list[Form]:
    """A workgroup for each row."""
    return [_softmax]


def _normalised(w: Writer) -> None:
    """Y = (x − mean)/√(variance + ε)·scale + shift over the last axes; RMS: without the mean."""
    e, shader = w.root, w.shader
    axis = e.integer("axis", -1) % len(e.shape)
    outer, inner = e.shape[:axis], e.shape[axis:]
    length = prod(inner)
    at = shader.subscript(w.a_workgroup_each(prod(outer), GROUP), outer)
    kept = w.shared("row", "f32", length) if length <= FITS else ""
    centred = e.node.op_type == "LayerNormalization"

    def whole(position: str) -> Subscript:
        return (*at, *shader.subscript(position, inner))

    def x() -> str:
        return f"{kept}[r]" if kept else e.input(0, whole("r"))

    shader.line("var sum = 0.0;")
    with shader.block(f"for (var r = t; r < {length}; r += {GROUP})"):
        first = e.input(0, whole("r"))
        if kept:
            shader.line(f"{kept}[r] = {first};")
        shader.line(f"sum += {first if centred else f'{first} * {first}'};")
    total = join_in_workgroup(w, "sum", "f32", lambda a, b: f"({a} + {b})", GROUP)
    mean = "0.0"
    if centred:
        mean = shader.let(f"{total} / {float(length)}")
        shader.line("var squares = 0.0;")
        with shader.block(f"for (var r = t; r < {length}; r += {GROUP})"):
            difference = shader.let(f"{x()} - {mean}")
            shader.line(f"squares += {difference} * {difference};")
        total = join_in_workgroup(w, "squares", "f32", lambda a, b: f"({a} + {b})", GROUP)
    factor = shader.let(f"inverseSqrt({total} / {float(length)} + {e.literal(e.number('epsilon', 1e-5), 'f32')})")
    with shader.block(f"for (var r = t; r < {length}; r += {GROUP})"):
        place = whole("r")
        text = f"({x()} - {mean}) * {factor}" if centred else f"{x()} * {factor}"
        for number, sign in ((1, "*"), (2, "+")):
            if e.has(number):
                text = f"{text} {sign} {_beside(e, number, place)}"
        w.store(place, text)


def _beside(e: Element, number: int, place: Subscript) -> str:
    from ..index import broadcast

    return e.input(number, broadcast(place, shape_of(e.operand(number))))


@kernel("LayerNormalization", "RMSNormalization", applies=only_first_output)
def normalisation(node: ir.Node) -> list[Form]:
    """A workgroup for each row."""
    return [_normalised]
