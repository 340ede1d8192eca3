"""Rows that are looked at more than once: softmax and what is normalised over its last axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from ..index import Index, Subscript, add, broadcast, mul
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


@dataclass(frozen=True)
class Rows:
    """What a normalisation takes together.

    Args:
        count: rows.
        length: elements of each.
        row: the subscript that finds a row, from its number.
        place: an element's subscript, from that of its row and its position there.
        beside: the subscript of a scale or shift, from its shape and an element's subscript.
    """

    count: int
    length: int
    row: Callable[[Index], Subscript]
    place: Callable[[Subscript, Index], Subscript]
    beside: Callable[[tuple[int, ...], Subscript], Subscript]


def _rows(w: Writer) -> Rows:
    e, subscript = w.root, w.shader.subscript
    if e.node.op_type == "GroupNormalization":  # channels of a group, and all that is behind them
        groups = e.integer("num_groups", 1)
        size, inner = e.shape[1] // groups, (e.shape[1] // groups, *e.shape[2:])

        def place(row: Subscript, position: Index) -> Subscript:
            channel, *rest = subscript(position, inner)
            return (row[0], add(mul(row[1], size), channel), *rest)

        whole = (e.shape[0], groups)
        return Rows(prod(whole), prod(inner), lambda n: subscript(n, whole), place, lambda shape, at: (at[1],))
    axis = 2 if e.node.op_type == "InstanceNormalization" else e.integer("axis", -1) % len(e.shape)
    outer, inner = e.shape[:axis], e.shape[axis:]
    return Rows(
        prod(outer),
        prod(inner),
        lambda n: subscript(n, outer),
        lambda row, position: (*row, *subscript(position, inner)),
        (lambda shape, at: (at[1],))
        if e.node.op_type == "InstanceNormalization"
        else lambda shape, at: broadcast(at, shape),
    )


def _normalised(w: Writer) -> None:
    """Y = (x − mean)/√(variance + ε)·scale + shift over what belongs together; RMS: without the mean."""
    e, shader, rows = w.root, w.shader, _rows(w)
    length = rows.length
    at = rows.row(w.a_workgroup_each(rows.count, GROUP))
    kept = w.shared("row", "f32", length) if length <= FITS else ""
    centred = e.node.op_type != "RMSNormalization"

    def x() -> str:
        return f"{kept}[r]" if kept else e.input(0, rows.place(at, "r"))

    shader.line("var sum = 0.0;")
    with shader.block(f"for (var r = t; r < {length}; r += {GROUP})"):
        first = e.input(0, rows.place(at, "r"))
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
        place = rows.place(at, "r")
        text = f"({x()} - {mean}) * {factor}" if centred else f"{x()} * {factor}"
        for number, sign in ((1, "*"), (2, "+")):
            if e.has(number):
                text = f"{text} {sign} {e.input(number, rows.beside(e.shape_of(number), place))}"
        w.store(place, text)


@kernel(
    "LayerNormalization",
    "RMSNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    applies=only_first_output,
)
def normalisation(node: ir.Node) -> list[Form]:
    """A workgroup for each row."""
    return [_normalised]


def _lp(w: Writer) -> None:
    """Y = x/(Σ|x|^p)^(1/p) along an axis; 0 where all are."""
    e, shader = w.root, w.shader
    axis = e.integer("axis", -1) % len(e.shape)
    outer = [s for a, s in enumerate(e.shape) if a != axis]
    at = shader.subscript(w.a_workgroup_each(prod(outer), GROUP), outer)
    squared = e.integer("p", 2) == 2
    shader.line("var sum = 0.0;")
    with shader.block(f"for (var r = t; r < {e.shape[axis]}; r += {GROUP})"):
        x = e.input(0, joined(at, ["r"], [axis]))
        shader.line(f"sum += {f'{x} * {x}' if squared else f'abs({x})'};")
    total = join_in_workgroup(w, "sum", "f32", lambda a, b: f"({a} + {b})", GROUP)
    norm = shader.let(f"sqrt({total})" if squared else total)
    with shader.block(f"for (var r = t; r < {e.shape[axis]}; r += {GROUP})"):
        place = joined(at, ["r"], [axis])
        x = e.input(0, place)
        w.store(place, f"select({x} / {norm}, 0.0, {norm} == 0.0)")


@kernel("LpNormalization")
def lp_normalisation(node: ir.Node) -> list[Form]:
    """A workgroup for each row."""
    return [_lp]
