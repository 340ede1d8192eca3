"""A depthwise convolution and the 1x1 convolution that alone reads it become one operator, whose kernel does both.

Depthwise Conv{act} → Conv{epilogue}: the result between them, the largest of its block, never reaches memory. That wins
where memory is what they wait for and loses where few channels of few pixels are left to share, so each place is
decided by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from ....compiler.ir import metadata, static_dims
from ....compiler.operators import DOMAIN
from ....compiler.operators.epilogue import EPILOGUES
from ....compiler.operators.separable import FIRSTS, KINDS, MOST_TAPS, Separable
from ....compiler.optimise import Names
from ....compiler.replace import replace
from ..row_norm import HALVES
from .region import distinct, fused


@dataclass(frozen=True)
class Place:
    """What is fused and its sizes: blocks that agree in these are one place."""

    kind: Separable
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    out: int
    strides: tuple[int, ...]
    pads: tuple[int, ...]


def separable_places(model: ir.Model) -> list[Place]:
    """The distinct places of a model, in order of appearance."""
    return distinct(model, _found)


def fuse_separables(model: ir.Model, place: Place) -> ir.Model | None:
    """The model in which all places of one kind are fused; None where there are none."""
    return fused(model, place, _found, _write)


def _found(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Node, Place]]:
    """Each depthwise convolution and what alone reads it, where there is an operator for both."""
    for node in graph:
        if node.domain != DOMAIN or node.op_type.removeprefix("Conv") not in FIRSTS or len(node.inputs) != 3:
            continue
        y = node.outputs[0]
        users = list(y.uses())
        if len(users) != 1 or users[0].idx != 0 or y.is_graph_output():
            continue
        place = _place(node, users[0].node)
        if place is not None and users[0].node.graph is graph:
            yield node, users[0].node, place


def _place(deep: ir.Node, point: ir.Node) -> Place | None:
    """What the two are together; None where the kernel is not for them."""
    if point.domain != DOMAIN or not point.op_type.startswith("Conv"):
        return None
    first, last = deep.op_type.removeprefix("Conv"), point.op_type.removeprefix("Conv")
    epilogue = next((e for e in EPILOGUES if e.name == last), None)
    if epilogue is None or Separable(first, epilogue) not in KINDS:
        return None
    x, w, v = (None if value is None else static_dims(value) for value in (*deep.inputs[:2], point.inputs[1]))
    if x is None or w is None or v is None or deep.inputs[0] is None or deep.inputs[0].dtype not in HALVES:
        return None
    channels = x[1]
    # A convolution of one channel is of either kind: three in a row would share the one between.
    depthwise = channels > 1 and w[:2] == (channels, 1) and deep.attributes["group"].as_int() == channels
    one_tap = v[1:] == (channels, 1, 1) and point.attributes["group"].as_int() == 1
    moves = point.attributes["strides"].as_ints(), point.attributes["pads"].as_ints()
    if not depthwise or not one_tap or prod(w[2:]) > MOST_TAPS or any(moves[1]) or any(s != 1 for s in moves[0]):
        return None
    strides, pads = (tuple(deep.attributes[name].as_ints()) for name in ("strides", "pads"))
    return Place(Separable(first, epilogue), x, w[2:], v[0], strides, pads)


def _write(graph: ir.Graph, deep: ir.Node, point: ir.Node, place: Place, fresh: Names) -> None:
    """The operator where the second of the two was."""
    old = point.outputs[0]
    new = ir.Value(name=fresh("tamago/value"), type=old.type, shape=old.shape)
    node = ir.Node(
        DOMAIN,
        place.kind.name,
        [*deep.inputs, *point.inputs[1:]],
        list(deep.attributes.values()),
        outputs=[new],
        name=fresh("tamago/separable"),
        metadata_props=dict(metadata("separables", [deep.name or "", point.name or ""])),
    )
    graph.insert_before(point, node)
    replace(old, new, fresh)
    graph.remove([point, deep], safe=True)
