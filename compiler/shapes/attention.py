"""Attention in its several forms, ONNX's and ONNX Runtime's."""

from __future__ import annotations

from ..facts import Dim, Shape
from .call import Call, Known, Rule, total


def _times(a: Dim, b: Dim) -> Dim:
    return a * b if isinstance(a, int) and isinstance(b, int) else None


def _over(a: Dim, b: int) -> Dim:
    return a // b if isinstance(a, int) and b else None


def _heads(shape: Shape | None, heads: int) -> Shape | None:
    """(batch, heads, length, size) of a tensor that may have its heads side by side in the last axis."""
    if shape is None or len(shape) not in (3, 4):
        return None
    return shape if len(shape) == 4 else (shape[0], heads or None, shape[1], _over(shape[2], heads))


def _with_past(past: Shape | None, given: bool, new: Shape | None) -> Shape | None:
    """Keys or values after the new ones were appended to the past ones."""
    if new is None or not given:
        return new
    return (*new[:2], None if past is None else total([past[2], new[2]]), new[3])


def _attention(call: Call) -> list[Known]:
    """ONNX's Attention: output, present key, present value, scores."""
    dtype, queries = call.dtype(), call.shape(0)
    query = _heads(queries, int(call.attributes.get("q_num_heads", 0)))
    key = _heads(call.shape(1), int(call.attributes.get("kv_num_heads", 0)))
    value = _heads(call.shape(2), int(call.attributes.get("kv_num_heads", 0)))
    present = _with_past(call.shape(4), call.has(4), key)
    present_value = _with_past(call.shape(5), call.has(5), value)
    if query is None or queries is None:
        return [(dtype, None), (dtype, present), (dtype, present_value), (dtype, None)]
    size = None if value is None else value[3]
    scores = (*query[:3], None if present is None else present[2])
    output = (*query[:3], size) if len(queries) == 4 else (queries[0], queries[1], _times(query[1], size))
    return [(dtype, output), (dtype, present), (dtype, present_value), (dtype, scores)]


def _multi_head(call: Call) -> list[Known]:
    """MultiHeadAttention: query, key and value side by side, packed in fives, or with heads apart."""
    dtype, query, key, value = call.dtype(), call.shape(0), call.shape(1), call.shape(2)
    heads = int(call.attributes["num_heads"])
    if query is None or len(query) not in (3, 5):
        return [(dtype, None)] * call.outputs
    if len(query) == 5:
        output = (*query[:2], _times(query[2], query[4]))
        size, length = query[4], query[1]
    elif value is None:
        output, size = query, _over(query[2], heads)
        length = key[1] if key is not None else None
    else:
        output = (*query[:2], value[2] if len(value) == 3 else _times(value[1], value[3]))
        size = _over(query[2], heads)
        length = key[-2] if key is not None and len(key) == 4 else key[1] if key is not None else None
    present = _with_past(call.shape(6), call.has(6), (query[0], heads, length, size))
    size_out = _over(output[2], heads)
    present_value = _with_past(call.shape(7), call.has(7), (query[0], heads, length, size_out))
    return [(dtype, output), (dtype, present), (dtype, present_value)]


def _grouped(call: Call) -> list[Known]:
    """GroupQueryAttention: without key and value the query holds all three."""
    dtype, query = call.dtype(), call.shape(0)
    heads, groups = int(call.attributes["num_heads"]), int(call.attributes["kv_num_heads"])
    if query is None or len(query) != 3:
        return [(dtype, None)] * call.outputs
    size = _over(query[2], heads) if call.has(1) else _over(query[2], heads + 2 * groups)
    present = (query[0], groups, None, size)
    return [(dtype, (*query[:2], _times(heads, size))), (dtype, present), (dtype, present)]


RULES: dict[str, Rule] = {
    "Attention": _attention,
    "com.microsoft::GroupQueryAttention": _grouped,
    "com.microsoft::MultiHeadAttention": _multi_head,
}
