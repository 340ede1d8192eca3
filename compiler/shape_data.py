"""Contents of shape computations while they are only partly known: `Concat(Shape(x)[0], 12, 64)` is (batch, 12, 64).

Dimensions are numbers, names or None; an operator that cannot be followed gives None as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from .facts import Dim
from .ir import attribute_values, constant_array, dims, op_name

Data = tuple[Dim, ...]
LARGEST = 64  # entries followed


def shape_data(node: ir.Node, known: Mapping[ir.Value, Data]) -> Data | None:
    """Entries of the node's (first) output, a vector or a scalar of integers, as far as they are known.

    Args:
        node: any node.
        known: entries of earlier values.
    """
    follow = _FOLLOW.get(op_name(node))
    if follow is None:
        return None
    if op_name(node) in ("Shape", "Size"):
        return follow(node, [])
    data = [None if v is None else _data(v, known) for v in node.inputs]
    return None if not data or data[0] is None else follow(node, data)


def _data(value: ir.Value, known: Mapping[ir.Value, Data]) -> Data | None:
    if value in known:
        return known[value]
    array = constant_array(value, LARGEST)
    if array is None or array.ndim > 1 or array.dtype.kind not in "iub":
        return None
    return tuple(int(x) for x in array.reshape(-1))


_Follow = Callable[[ir.Node, list[Data | None]], Data | None]


def _shape(node: ir.Node, _: list[Data | None]) -> Data | None:
    shape = dims(node.inputs[0]) if node.inputs[0] is not None else None
    if shape is None:
        return None
    stated = attribute_values(node)
    return shape[stated.get("start", 0) : stated.get("end", len(shape))]


def _size(node: ir.Node, _: list[Data | None]) -> Data | None:
    shape = dims(node.inputs[0]) if node.inputs[0] is not None else None
    if shape is None or not all(isinstance(d, int) for d in shape):
        return None
    total = 1
    for d in shape:
        total *= d if isinstance(d, int) else 1
    return (total,)


def _gather(node: ir.Node, data: list[Data | None]) -> Data | None:
    source, indices = data[0], data[1]
    if source is None or indices is None or attribute_values(node).get("axis", 0) not in (0, -1):
        return None
    picked = [source[i] for i in indices if isinstance(i, int) and -len(source) <= i < len(source)]
    return tuple(picked) if len(picked) == len(indices) else None


def _slice(node: ir.Node, data: list[Data | None]) -> Data | None:
    if len(data) < 3 or any(len(d) != 1 for d in data[1:] if d is not None) or None in data[1:3]:
        return None
    if len(data) > 3 and node.inputs[3] is not None and data[3] not in ((0,), (-1,)):
        return None
    if len(data) > 4 and data[4] is None and node.inputs[4] is not None:
        return None
    start, end = (d[0] for d in data[1:3] if d is not None)
    steps = data[4] if len(data) > 4 else None
    step = steps[0] if steps else 1
    if not isinstance(start, int) or not isinstance(end, int) or not isinstance(step, int) or step <= 0:
        return None
    return None if data[0] is None else data[0][start:end:step]


def _concat(_: ir.Node, data: list[Data | None]) -> Data | None:
    parts: list[Dim] = []
    for part in data:
        if part is None:
            return None
        parts += part
    return tuple(parts)


def _same(_: ir.Node, data: list[Data | None]) -> Data | None:
    return data[0]


def _cast(node: ir.Node, data: list[Data | None]) -> Data | None:
    return data[0] if attribute_values(node)["to"] in (ir.DataType.INT64, ir.DataType.INT32) else None


def _pairs(a: Data | None, b: Data | None) -> list[tuple[Dim, Dim]] | None:
    """Entries of two vectors side by side, one of which may be broadcast."""
    if a is None or b is None or (len(a) != len(b) and 1 not in (len(a), len(b))):
        return None
    length = 0 if not a or not b else max(len(a), len(b))
    return list(zip(a * (length // len(a)), b * (length // len(b)), strict=True)) if length else []


def _equal(_: ir.Node, data: list[Data | None]) -> Data | None:
    pairs = _pairs(data[0], data[1])
    return None if pairs is None else tuple(_is_equal(p, q) for p, q in pairs)


def _is_equal(a: Dim, b: Dim) -> Dim:
    """1 or 0 for true or false; a name stands for a size, which is never negative."""
    if a is None or b is None:
        return None
    if a == b:
        return 1
    if isinstance(a, int) and isinstance(b, int):
        return 0
    return 0 if any(isinstance(d, int) and d < 0 for d in (a, b)) else None


def _where(_: ir.Node, data: list[Data | None]) -> Data | None:
    """Exporters write the shape of an Expand as `Where(shape == -1, 1, shape)`."""
    pairs = _pairs(data[1], data[2])
    chosen = None if pairs is None or data[0] is None else _pairs(data[0], tuple(range(len(pairs))))
    if pairs is None or chosen is None:
        return None
    picked = [(test, pairs[place]) for test, place in chosen if isinstance(place, int)]
    return tuple(p if test == 1 or p == q else q if test == 0 else None for test, (p, q) in picked)


def _arithmetic(function: Callable[[int, int], int | None]) -> _Follow:
    def follow(_: ir.Node, data: list[Data | None]) -> Data | None:
        a, b = data
        if a is None or b is None or (len(a) != len(b) and 1 not in (len(a), len(b))):
            return None
        length = max(len(a), len(b))
        pairs = zip(a * (length // len(a)) if a else (), b * (length // len(b)) if b else (), strict=True)
        return tuple(function(p, q) if isinstance(p, int) and isinstance(q, int) else None for p, q in pairs)

    return follow


_FOLLOW: dict[str, _Follow] = {
    "Shape": _shape,
    "Size": _size,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _same,
    "Squeeze": _same,
    "Identity": _same,
    "Reshape": _same,
    "Cast": _cast,
    "Equal": _equal,
    "Where": _where,
    "Add": _arithmetic(lambda a, b: a + b),
    "Sub": _arithmetic(lambda a, b: a - b),
    "Mul": _arithmetic(lambda a, b: a * b),
    # Integer division truncates in ONNX and floors in Python: equal for the non-negative numbers that sizes are.
    "Div": _arithmetic(lambda a, b: a // b if a >= 0 and b > 0 else None),
}
