"""Weights that are larger than what a device binds at once, in pieces that each have a buffer of their own.

x·[w₁ … wₙ] = [x·w₁ … x·wₙ], and a row is read from the piece that has it. Adapters bind 128 MiB unless they say more;
the embedding of a small language model has that. What is computed from weights (turned, made wide from few bits) is
computed from pieces of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from ...compiler.ir import constant_tensor, dims, new_constant, op_name
from .definitions import Body, Fresh, replace
from .kernels.quantised import FEW
from .schedule import known_ahead
from .types import PACKED

STEP = 64  # rows of a piece are a multiple of it: vectors of four stay whole, and blocks of quantised weights mostly
SAME_PLACE = ("Add", "Sub", "Mul", "Div")
Bounds = list[tuple[int, int]]


def split(graph: ir.Graph, most: int, fresh: Fresh, *, half: bool) -> int:
    """Put products and gathers of pieces in the place of those that read a weight that is too large; of how many.

    Args:
        graph: types and shapes inferred; changed in place.
        most: bytes of a buffer.
        fresh: gives unused names.
        half: whether numbers of half precision lie as such.
    """
    pieces, count = _Pieces(graph, most, fresh, half), 0
    for node in list(graph):
        rule = RULES.get(op_name(node))
        body = Body(node, fresh)
        found = None if rule is None else rule(pieces, body)
        if found is not None:
            for value in body.constants:
                graph.register_initializer(value)
            replace(graph, node, body.nodes, (found,))
            count += 1
    return count


def _bytes(value: ir.Value, half: bool) -> int:
    """As it lies in a buffer, at most; 0 where the size is not known."""
    shape = _sizes(value)
    if shape is None:
        return 0
    per_word = 1 if value.const_value is None or value.dtype is None else PACKED.get(value.dtype, 1)
    if per_word > 1:
        return 4 * -(-prod(shape) // per_word)
    return prod(shape) * (2 if half and value.dtype == ir.DataType.FLOAT16 else 4)


def _sizes(value: ir.Value) -> tuple[int, ...] | None:
    found = dims(value)
    if found is None:
        return None
    known = tuple(d for d in found if isinstance(d, int))
    return known if len(known) == len(found) else None


class _Pieces:
    """Weights of a graph, and the pieces of them that were wanted so far."""

    def __init__(self, graph: ir.Graph, most: int, fresh: Fresh, half: bool) -> None:
        self.graph, self.most, self.fresh, self.half = graph, most, fresh, half
        self._constants: dict[tuple[ir.Value, int, int, int], ir.Value] = {}

    @cached_property
    def _ahead(self) -> set[ir.Node]:
        return known_ahead(list(self.graph))

    def too_large(self, value: ir.Value | None) -> bool:
        """Whether a value depends on weights alone and does not fit a buffer."""
        if value is None or _bytes(value, self.half) <= self.most:
            return False
        return constant_tensor(value) is not None or value.producer() in self._ahead

    def bounds(self, value: ir.Value, axis: int) -> Bounds | None:
        """Where pieces along an axis begin and end; None where one place of it is too large."""
        shape = _sizes(value)
        assert shape is not None
        return self.evenly(shape[axis], _bytes(value, self.half))

    def evenly(self, size: int, total: int) -> Bounds | None:
        """Where pieces of an axis of so many places and bytes begin and end."""
        fits = self.most * size // total
        fits -= fits % STEP if fits >= STEP else 0
        if not fits:
            return None
        each = -(-size // -(-size // fits))
        each = min(-(-each // STEP) * STEP, fits)
        return [(start, min(start + each, size)) for start in range(0, size, each)]

    def part(self, body: Body, value: ir.Value, axis: int, start: int, end: int) -> ir.Value | None:
        """A value from one place of an axis to another; None where its own operands would still be too large."""
        tensor, node, shape = constant_tensor(value), value.producer(), _sizes(value)
        if tensor is not None:
            return self._constant(value, tensor, axis, start, end)
        if node is None or shape is None:
            return None

        def operand(number: int, along: int) -> ir.Value | None:
            inner = node.inputs[number]
            return None if inner is None else self.part(body, inner, along, start, end)

        operands: list[ir.Value | None]
        match op_name(node):
            case "Transpose":
                permutation = node.attributes.get("perm")
                order = list(range(len(shape)))[::-1] if permutation is None else list(permutation.as_ints())
                operands = [operand(0, order[axis])]
            case "Cast" | "Identity":
                operands = [operand(0, axis)]
            case "DequantizeLinear":
                operands = self._dequantised(body, node, axis, start, end)
            case op if op in SAME_PLACE:
                operands = [self._beside(body, v, shape, axis, start, end) for v in node.inputs]
            case _:
                return None
        given = node.inputs[: len(operands)]
        if any(new is None and old is not None for new, old in zip(operands, given, strict=True)):
            return None
        found = body.op(node.op_type, *operands, **_attributes(node))
        size = [end - start if a == axis else s for a, s in enumerate(shape)]
        found.type, found.shape = value.type, ir.Shape(size)
        return found

    def _constant(self, value: ir.Value, tensor: ir.TensorProtocol, axis: int, start: int, end: int) -> ir.Value:
        key = (value, axis, start, end)
        if key not in self._constants:
            array = np.asarray(tensor.numpy())
            piece = new_constant(
                self.fresh(f"{value.name}/{start}"), array[(slice(None),) * axis + (slice(start, end),)]
            )
            self.graph.register_initializer(piece)
            self._constants[key] = piece
        return self._constants[key]

    def _beside(
        self, body: Body, value: ir.Value | None, shape: Sequence[int], axis: int, start: int, end: int
    ) -> ir.Value | None:
        """The part of an operand that broadcasting puts beside a part of the result."""
        own = None if value is None else _sizes(value)
        if value is None or own is None:
            return None
        along = axis - (len(shape) - len(own))
        return value if along < 0 or own[along] == 1 else self.part(body, value, along, start, end)

    def _dequantised(self, body: Body, node: ir.Node, axis: int, start: int, end: int) -> list[ir.Value | None]:
        """Levels, scales and zero points of a part."""
        levels = node.inputs[0]
        scaled, block = (node.attributes[n].as_int() if n in node.attributes else d for n, d in _SCALED)
        rank = len(dims(levels) or ()) if levels is not None else 0
        found = [None if levels is None else self.part(body, levels, axis, start, end)]
        for value in node.inputs[1:]:
            own = None if value is None else _sizes(value)
            if value is None or own is None or prod(own) == 1 or (not block and scaled % rank != axis):
                found.append(value)
            elif not block:
                found.append(self.part(body, value, 0, start, end))
            elif scaled % rank != axis:
                found.append(self.part(body, value, axis, start, end))
            else:
                whole = start % block == 0 and (end % block == 0 or -(-end // block) == own[axis])
                found.append(self.part(body, value, axis, start // block, -(-end // block)) if whole else None)
        return found


_SCALED = (("axis", 1), ("block_size", 0))


def _attributes(node: ir.Node) -> dict[str, Any]:
    return {name: a.value for name, a in node.attributes.items()}


def _product(pieces: _Pieces, body: Body) -> ir.Value | None:
    """x·[w₁ … wₙ] = [x·w₁ … x·wₙ]."""
    weight = body.given(1)
    if len(dims(weight) or ()) != 2 or not pieces.too_large(weight):
        return None
    return _side_by_side(pieces, body, 1, lambda part, start, end: [body.given(0), part])


def _gemm(pieces: _Pieces, body: Body) -> ir.Value | None:
    """The same, with what is added to each column."""
    weight, added = body.given(1), body.input(2)
    if not pieces.too_large(weight):
        return None
    axis = 0 if body.attribute("transB", 0) else 1
    columns, own = (_sizes(weight) or ())[axis], None if added is None else _sizes(added)
    whole = own is not None and bool(own) and own[-1] == columns and columns > 1
    if added is not None and own is None:
        return None

    def operands(part: ir.Value, start: int, end: int) -> list[ir.Value | None]:
        return [body.given(0), part, _slice(body, added, start, end) if added is not None and whole else added]

    return _side_by_side(pieces, body, axis, operands)


def _slice(body: Body, value: ir.Value, start: int, end: int) -> ir.Value:
    """Along the last axis."""
    numbers = (body.constant(np.asarray([n], np.int64)) for n in (start, end, -1))
    return body.op("Slice", value, *numbers)


def _side_by_side(
    pieces: _Pieces, body: Body, axis: int, operands: Callable[[ir.Value, int, int], list[ir.Value | None]]
) -> ir.Value | None:
    """Products of pieces of the second operand, one beside the other."""
    weight = body.given(1)
    found: list[ir.Value] = []
    for start, end in pieces.bounds(weight, axis) or ():
        part = pieces.part(body, weight, axis, start, end)
        if part is None:
            return None
        found.append(body.op(body.node.op_type, *operands(part, start, end), **_attributes(body.node)))
        found[-1].name = body.fresh(f"{body.node.outputs[0].name}/{start}")
    return body.op("Concat", *found, axis=-1) if found else None


def _few_bits(pieces: _Pieces, body: Body) -> ir.Value | None:
    """A product with weights of few bits: made wide for many rows, read as they lie for few."""
    packed, scales, zeros, bias = (body.input(n) for n in (1, 2, 3, 5))
    depth, columns = (int(str(body.attribute(n, 0))) for n in ("K", "N"))
    rows = _sizes(body.given(0))
    arrays = [None if v is None else constant_tensor(v) for v in (packed, scales, zeros, bias)]
    unknown = any(v is not None and a is None for v, a in zip((packed, scales, zeros, bias), arrays, strict=True))
    if packed is None or rows is None or unknown or body.input(4) is not None:
        return None
    total = _bytes(packed, pieces.half) if prod(rows[:-1]) <= FEW else 4 * columns * depth
    bounds = pieces.evenly(columns, total) if total > pieces.most else None
    if bounds is None:
        return None
    found: list[ir.Value] = []
    for start, end in bounds:
        parts: list[ir.Value | None] = []
        for value in (packed, scales, zeros, bias):
            shape = None if value is None else _sizes(value)
            if value is None or not shape:
                parts.append(value)
                continue
            each = shape[0] // columns  # places of a column, where all lie in a row
            parts.append(pieces.part(body, value, 0, start * each, end * each))
        part, scale, zero, added = parts
        attributes: dict[str, Any] = _attributes(body.node) | {"N": end - start}
        product = body.op(
            "MatMulNBits", body.given(0), part, scale, zero, None, added, domain="com.microsoft", **attributes
        )
        product.type, product.shape = body.node.outputs[0].type, ir.Shape([*rows[:-1], end - start])
        found.append(product)
    return body.op("Concat", *found, axis=-1)


def _gather(pieces: _Pieces, body: Body) -> ir.Value | None:
    """The piece in whose range the index lies."""
    data, index = body.given(0), body.given(1)
    shape, chosen = _sizes(data), _sizes(index)
    if shape is None or chosen is None or not pieces.too_large(data) or index.dtype is None:
        return None
    axis = int(str(body.attribute("axis", 0))) % len(shape)
    kind = index.dtype.numpy()

    def number(n: int) -> ir.Value:
        return body.constant(np.asarray(n, kind))

    behind = body.constant(np.asarray([*chosen, *(1 for _ in shape[axis + 1 :])], np.int64))
    index = body.op("Where", body.op("Less", index, number(0)), body.op("Add", index, number(shape[axis])), index)
    found: ir.Value | None = None
    for start, end in reversed(pieces.bounds(data, axis) or ()):
        part = pieces.part(body, data, axis, start, end)
        if part is None:
            return None
        inside = body.op("Clip", body.op("Sub", index, number(start)), number(0), number(end - start - 1))
        here = body.op("Gather", part, inside, axis=axis)
        before = body.op("Reshape", body.op("Less", index, number(end)), behind)
        found = here if found is None else body.op("Where", before, here, found)
    return found


RULES: dict[str, Callable[[_Pieces, Body], ir.Value | None]] = {
    "MatMul": _product,
    "Gemm": _gemm,
    "Gather": _gather,
    "com.microsoft::MatMulNBits": _few_bits,
}
