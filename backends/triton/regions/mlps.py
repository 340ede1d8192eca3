"""Two products of many rows with an activation between them as one operator: the hidden tensor stays in registers.

It wins where rows are narrow and many, and loses where sums of a row fill the registers: so each place is timed by
itself, and places that compute the same on other numbers are one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from ....compiler.ir import metadata, static_dims
from ....compiler.operators import DOMAIN
from ....compiler.operators.epilogue import ACTIVATIONS
from ....compiler.operators.mlp import name_of
from ....compiler.optimise import Names
from ....compiler.replace import replace
from ..library.mlp import takes
from ..row_norm import HALVES
from .region import distinct, fused

FIRST = {f"Affine{name}": name for name in ACTIVATIONS if name}
SECOND = {"Affine": False, "AffineAdd": True}  # whether there is a residual


@dataclass(frozen=True)
class Place:
    """What is fused, and its sizes."""

    activation: str
    residual: bool
    rows: int
    inner: int
    hidden: int
    out: int
    dtype: str


def mlp_places(model: ir.Model) -> list[Place]:
    """The different places of a model with its epilogues fused, in order of appearance."""
    return distinct(model, _pairs)


def fuse_mlps(model: ir.Model, place: Place) -> ir.Model | None:
    """The model with all of one place fused; None where there is none."""
    return fused(model, place, _pairs, _write)


def _pairs(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Node, Place]]:
    """Products whose only reader is another."""
    for second in graph:
        if second.domain != DOMAIN or second.op_type not in SECOND or second.inputs[0] is None:
            continue
        hidden = second.inputs[0]
        first = hidden.producer()
        if first is None or first.domain != DOMAIN or first.op_type not in FIRST or first.graph is not graph:
            continue
        if len(hidden.uses()) != 1 or hidden.is_graph_output():
            continue
        place = _place(first, second)
        if place is not None:
            yield first, second, place


def _place(first: ir.Node, second: ir.Node) -> Place | None:
    """None where sizes are not known, or the kernel does not take them."""
    sizes = sizes_of(first.inputs[0], first.inputs[1], second.inputs[1])
    return None if sizes is None else Place(FIRST[first.op_type], SECOND[second.op_type], *sizes)


def sizes_of(x: ir.Value | None, w: ir.Value | None, v: ir.Value | None) -> tuple[int, int, int, int, str] | None:
    """Rows, inner elements, hidden units, outputs and type of two products; None where the kernel does not take them.

    Args:
        x: (…, K).
        w: (H, K).
        v: (O, H).
    """
    if x is None or w is None or v is None or x.dtype is None or x.dtype not in HALVES:
        return None
    shape, up, down = static_dims(x), static_dims(w), static_dims(v)
    if shape is None or up is None or down is None or not takes(up[1], down[0]):
        return None
    return prod(shape[:-1]), up[1], up[0], down[0], x.dtype.name


def _write(graph: ir.Graph, first: ir.Node, second: ir.Node, place: Place, fresh: Names) -> None:
    old = second.outputs[0]
    result = ir.Value(name=fresh("tamago/value"), type=old.type, shape=old.shape)
    node = ir.Node(
        DOMAIN,
        name_of(place.activation, residual=place.residual),
        [*first.inputs, *second.inputs[1:]],
        outputs=[result],
        name=fresh("tamago/mlp"),
        metadata_props=dict(metadata("mlps", [first.name or "", second.name or ""])),
    )
    graph.insert_before(second, node)
    replace(old, result, fresh)
