"""A step of attention over a cache: rotary positions, the writing of keys and values, and attention, in one kernel.

That the new keys and values go where the position says, and that everything up to it and nothing else is seen, is
proved for each position there is. Tables of cosines and sines are made the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from ....compiler.facts import Array
from ....compiler.fold import remove_unused
from ....compiler.ir import dims, metadata, new_constant, static_dims, unique_names
from ....compiler.operators import DOMAIN
from ....compiler.optimise import Names
from ....compiler.replace import replace
from ..library.one_row import takes
from .position import by_position, is_position

HIDDEN = -1e4  # a score that is lower by this much or more counts for nothing: e⁻¹⁰⁰⁰⁰ = 0


@dataclass(frozen=True)
class _Step:
    attention: ir.Node
    q: ir.Value
    k: ir.Value
    v: ir.Value
    cos: ir.Value
    sin: ir.Value
    position: ir.Value
    keys: ir.Node
    values: ir.Node
    scale: float


def attention_steps(model: ir.Model) -> ir.Model | None:
    """The model with such steps as one operator each; None where there are none."""
    result = model.clone()
    known = _Known(result)
    steps = [step for node in result.graph for step in _steps(node, known)]
    if not steps:
        return None
    fresh = Names(unique_names(result.graph))
    for step in steps:
        _write(result.graph, step, known, fresh)
    remove_unused(result.graph)
    return result


class _Known:
    """What is known by position, remembered: all layers share their masks and tables."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._values: dict[tuple[str, int], Array | None] = {}
        self._constants: dict[tuple[str, int], ir.Value] = {}
        positions = [v for v in model.graph.inputs if is_position(v)]
        self.position = positions[0] if len(positions) == 1 else None

    def at_each(self, value: ir.Value, count: int) -> Array | None:
        """The value at each position."""
        if self.position is None:
            return None
        key = (value.name or "", count)
        if key not in self._values:
            self._values[key] = by_position(self._model, value, self.position, count)
        return self._values[key]

    def table(self, graph: ir.Graph, value: ir.Value, count: int, fresh: Names) -> ir.Value:
        """The value as a constant with a row for each position."""
        key = (value.name or "", count)
        if key not in self._constants:
            rows = self.at_each(value, count)
            assert rows is not None
            self._constants[key] = new_constant(fresh("tamago/table"), rows.reshape(count, -1))
            graph.register_initializer(self._constants[key])
        return self._constants[key]


def _steps(node: ir.Node, known: _Known) -> Iterator[_Step]:
    """The step that an Attention is the end of, if it is one."""
    if node.op_type != "Attention" or node.domain or len(node.inputs) != 4 or len(node.outputs) != 1:
        return
    if set(node.attributes) - {"scale", "softmax_precision"} or known.position is None:
        return
    query, key, value, mask = node.inputs
    if query is None or key is None or value is None or mask is None:
        return
    shape = static_dims(key)
    if shape is None or len(shape) != 4:
        return
    batch, heads, length, size = shape
    if batch != 1 or dims(value) != shape:
        return
    keys, values = _written(key, known, length), _written(value, known, length)
    if keys is None or values is None or not _sees_up_to_position(known.at_each(mask, length), length):
        return
    turned_q, turned_k = _turned(query), _turned(keys.inputs[2])
    v = values.inputs[2]
    if turned_q is None or turned_k is None or v is None or turned_q[1:] != turned_k[1:]:
        return
    q, cos, sin = turned_q
    k = turned_k[0]
    if not _one_token(q, None, size) or not _one_token(k, heads, size) or not _one_token(v, heads, size):
        return
    shared, left = divmod(prod(static_dims(query) or (0,)), heads * size)
    if not _one_token(query, None, size) or left or not takes(shared, size):
        return
    if any(_row(known.at_each(table, length), size // 2) is None for table in (cos, sin)):
        return
    scale = node.attributes["scale"].as_float() if "scale" in node.attributes else size**-0.5
    yield _Step(node, q, k, v, cos, sin, known.position, keys, values, scale)


def _written(cache: ir.Value, known: _Known, length: int) -> ir.Node | None:
    """The node that writes a row of an input at the position, if the value is one's result."""
    node = cache.producer()
    if node is None or node.op_type != "ScatterElements" or node.domain:
        return None
    data, index, _ = node.inputs
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    reduction = node.attributes["reduction"].as_string() if "reduction" in node.attributes else "none"
    if data is None or index is None or not data.is_graph_input() or axis % 4 != 2 or reduction != "none":
        return None
    places = known.at_each(index, length)
    if places is None or len(data.uses()) != 1:
        return None
    right = np.array_equal(places.reshape(length, -1), np.arange(length)[:, None].repeat(places[0].size, 1))
    return node if right else None


def _sees_up_to_position(masks: Array | None, length: int) -> bool:
    """Whether position i sees the slots 0 … i, and every other is hidden."""
    if masks is None or masks.size != length * length:
        return False
    rows, seen = masks.reshape(length, length), np.tri(length, dtype=np.bool_)
    if rows.dtype == np.bool_:
        return bool(np.array_equal(rows, seen))
    numbers = np.asarray(rows, np.float64)
    return bool(np.all(numbers[seen] == 0) and np.all(numbers[~seen] <= HIDDEN))


def _turned(value: ir.Value | None) -> tuple[ir.Value, ir.Value, ir.Value] | None:
    """x, cosines and sines of a rotary embedding of whole heads by halves; Reshapes of one token move nothing."""
    while value is not None:
        node = value.producer()
        if node is None or node.domain:
            return None
        if node.op_type == "RotaryEmbedding" and len(node.inputs) == 3:
            if set(node.attributes) - {"num_heads"}:
                return None
            x, cos, sin = node.inputs
            return None if x is None or cos is None or sin is None else (x, cos, sin)
        if node.op_type != "Reshape":
            return None
        value = node.inputs[0]
    return None


def _one_token(value: ir.Value, heads: int | None, size: int) -> bool:
    """Whether a value holds heads of one token, and so lies in memory head by head, whatever its shape."""
    shape = static_dims(value)
    if shape is None or len(shape) not in (3, 4) or shape[0] != 1:
        return False
    token = shape[1] if len(shape) == 3 else shape[2]
    wide = prod(shape)
    return token == 1 and wide % size == 0 and (heads is None or wide == heads * size)


def _row(table: Array | None, size: int) -> Array | None:
    return table if table is not None and table[0].size == size else None


def _write(graph: ir.Graph, step: _Step, known: _Known, fresh: Names) -> None:
    cache = static_dims(step.keys.outputs[0])
    assert cache is not None
    _, _, length, size = cache
    cos, sin = (known.table(graph, t, length, fresh) for t in (step.cos, step.sin))
    before: list[ir.Node] = []
    operands = [_four(graph, v, size, fresh, before) for v in (step.q, step.k, step.v)]
    old = (step.attention.outputs[0], step.keys.outputs[0], step.values.outputs[0])
    query = operands[0]
    new = [ir.Value(name=fresh("tamago/value"), type=v.type, shape=v.shape) for v in old]
    new[0].shape = query.shape
    node = ir.Node(
        DOMAIN,
        "AttentionStep",
        [*operands, cos, sin, step.position, step.keys.inputs[0], step.values.inputs[0]],
        [ir.AttrFloat32("scale", step.scale)],
        outputs=new,
        name=fresh("tamago/attention_step"),
        metadata_props=dict(metadata("attention_step", [step.attention.name or "", step.keys.name or ""])),
    )
    graph.insert_before(step.attention, [*before, node])
    for value, result in zip(old, new, strict=True):
        replace(value, result, fresh)


def _four(graph: ir.Graph, value: ir.Value, size: int, fresh: Names, before: list[ir.Node]) -> ir.Value:
    """One token's heads as (1, heads, 1, size)."""
    shape = static_dims(value)
    assert shape is not None
    wanted = (1, prod(shape) // size, 1, size)
    if shape == wanted:
        return value
    sizes = new_constant(fresh("tamago/sizes"), np.asarray(wanted, np.int64))
    graph.register_initializer(sizes)
    result = ir.Value(name=fresh("tamago/value"), type=value.type, shape=ir.Shape(wanted))
    before.append(ir.Node("", "Reshape", [value, sizes], outputs=[result], name=fresh("tamago/reshape")))
    return result
