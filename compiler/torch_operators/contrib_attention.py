"""Attention that ONNX Runtime's optimiser and model builder write.

Source: ONNX Runtime's operator schemas; behaviour checked against its CPU provider. Each operator is brought to one
form: heads apart, keys and values complete, everything that masks or biases added up in one tensor.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from .attention import by_heads, rotary
from .contrib_linear import MICROSOFT
from .operation import Operation
from .registry import Unsupported, operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("RotaryEmbedding", domain=MICROSOFT, like=0)
def rotary_embedding(op: Operation, x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding, at given positions or from one first position on."""
    if op.attribute("is_packed_batching", 0):
        raise Unsupported("samples packed into one row")
    settings = (
        bool(op.attribute("interleaved", 0)),
        op.attribute("rotary_embedding_dim", 0),
        op.attribute("num_heads", 0),
    )
    return op.call(rotated, x, positions, cos, sin, *settings)


@operator("Attention", domain=MICROSOFT)
def attention(
    op: Operation,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    past: Tensor | None = None,
    extra: Tensor | None = None,
    past_length: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Projection to queries, keys and values, and attention between them."""
    if op.attribute("do_rotary", 0) or op.attribute("past_present_share_buffer", 0):
        raise Unsupported("rotary positions or a shared cache inside Attention")
    settings = (
        op.required("num_heads"),
        op.numbers("qkv_hidden_sizes"),
        bool(op.attribute("unidirectional", 0)),
        op.attribute("scale", 0.0),
        op.attribute("mask_filter_value", -10000.0),
    )
    found = op.call(projected_attention, x, weight, bias, mask, past, extra, settings)
    return found[0], found[1]


@operator("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(
    op: Operation,
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    extra: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    past_length: Tensor | None = None,
    cache: Tensor | None = None,
) -> tuple[Any, ...]:
    """Attention between projected queries, keys and values."""
    if past_length is not None or cache is not None:
        raise Unsupported("a cache that is shared between past and present")
    settings = (
        op.required("num_heads"),
        bool(op.attribute("unidirectional", 0)),
        op.attribute("scale", 0.0),
        op.attribute("mask_filter_value", -10000.0),
    )
    found = op.call(heads_attention, query, key, value, bias, mask, extra, (past_key, past_value), settings)
    return tuple(found[index] for index in range(4))


@operator("GroupQueryAttention", domain=MICROSOFT)
def group_query_attention(
    op: Operation,
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    past_key: Tensor | None,
    past_value: Tensor | None,
    lengths: Tensor,
    total: Tensor,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    positions: Tensor | None = None,
    extra: Tensor | None = None,
    sink: Tensor | None = None,
    *rest: Tensor | None,
) -> tuple[Any, ...]:
    """Causal attention in which groups of query heads share keys and values, with a cache."""
    if any(tensor is not None for tensor in rest) or op.attribute("sliding_window_cache", 0) or op.wants(3):
        raise Unsupported("normalised queries, a quantized or sliding cache, or the scores as an output")
    tables = None if cos is None or not op.attribute("do_rotary", 0) else (cos, sin)
    known = op.number(6)
    settings = (
        op.required("num_heads"),
        op.required("kv_num_heads"),
        op.attribute("scale", 0.0),
        op.attribute("softcap", 0.0),
        op.attribute("local_window_size", -1),
        bool(op.attribute("rotary_interleaved", 0)),
        op.attribute("smooth_softmax", 0) == 1,
        bool(op.attribute("causal", 1)),
    )
    longest = op.call(int, total) if known is None else int(known)
    inputs = (query, key, value, (past_key, past_value), lengths, longest)
    found = op.call(grouped_attention, *inputs, tables, positions, extra, sink, settings)
    return found[0], found[1], found[2]


def rotated(x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, size: int, heads: int) -> Tensor:
    """Rotary embedding; a single position is that of the first token."""
    if positions.dim() == 1:
        length = x.shape[1] if x.dim() == 3 else x.shape[2]
        positions = (positions + torch.arange(length, device=x.device)).unsqueeze(0)
    return rotary(x, cos, sin, positions, interleaved, size, heads if size or x.dim() == 4 else 0)


def weighed(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Attention (batch, heads, length, size) → (batch, length, heads · size), and its scores before the softmax."""
    scores = torch.matmul(query, key.transpose(2, 3)) * (scale or 1 / math.sqrt(query.shape[-1]))
    scores = scores if bias is None else scores + bias
    return torch.matmul(torch.softmax(scores, -1), value).transpose(1, 2).flatten(2), scores


def mask_bias(
    mask: Tensor | None, batch: int, queries: int, total: int, causal: bool, filter_value: float, like: Tensor
) -> Tensor | None:
    """A mask in any of ONNX Runtime's forms as numbers to add to the scores."""
    bias: Tensor | None = None
    columns = torch.arange(total, device=like.device)
    if mask is not None:
        if mask.dim() == 1 and mask.shape[0] in (batch, 2 * batch):
            allowed = columns < mask[:batch].reshape(-1, 1)
            if mask.shape[0] == 2 * batch and batch > 0:
                allowed = allowed & (columns >= mask[batch:].reshape(-1, 1))
            allowed = allowed.reshape(batch, 1, 1, total)
        elif mask.dim() == 1:
            raise ValueError("key padding as cumulated lengths is for packed sequences only")
        elif mask.dim() == 4:  # (batch, 1, longest, longest): the last rows before `total`
            allowed = mask[:, :, total - queries : total, :total] > 0
        else:
            allowed = (mask > 0).reshape(batch, 1, -1, total)
        bias = torch.zeros_like(allowed, dtype=like.dtype).masked_fill(~allowed, filter_value)
    if causal:
        rows = torch.arange(queries, device=like.device).unsqueeze(1) + (total - queries)
        future = torch.zeros(queries, total, dtype=like.dtype, device=like.device)
        future = future.masked_fill(columns > rows, torch.finfo(like.dtype).min)
        bias = future if bias is None else (bias + future).clamp(min=torch.finfo(like.dtype).min)
    return bias


def together(*biases: Tensor | None) -> Tensor | None:
    """The sum of those biases that are there."""
    present = [bias for bias in biases if bias is not None]
    return sum(present[1:], present[0]) if present else None


def projected_attention(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    past: Tensor | None,
    extra: Tensor | None,
    settings: tuple[int, list[int] | None, bool, float, float],
) -> tuple[Tensor, Tensor]:
    """`Attention`: output and the cache (2, batch, heads, total, size)."""
    heads, sizes, causal, scale, filter_value = settings
    packed = torch.matmul(x, weight)
    packed = packed if bias is None else packed + bias
    query, key, value = (by_heads(part, heads) for part in packed.split(sizes or packed.shape[-1] // 3, -1))
    if past is not None:
        key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
    masked = mask_bias(mask, x.shape[0], x.shape[1], key.shape[2], causal, filter_value, query)
    y, _ = weighed(query, key, value, together(masked, extra), scale)
    return y, torch.stack([key, value]) if key.shape == value.shape else key


def heads_attention(
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    bias: Tensor | None,
    mask: Tensor | None,
    extra: Tensor | None,
    past: tuple[Tensor | None, Tensor | None],
    settings: tuple[int, bool, float, float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`MultiHeadAttention`: output, caches and scores."""
    heads, causal, scale, filter_value = settings
    if query.dim() == 5:  # (batch, length, heads, 3, size)
        query, key, value = (part.flatten(2) for part in query.unbind(3))
    elif key is not None and key.dim() == 5:
        key, value = (part.flatten(2) for part in key.unbind(3))
    if key is None or value is None:
        raise ValueError("MultiHeadAttention without keys or values needs a packed query")
    if bias is not None:
        width = query.shape[-1]
        query = query + bias[:width]
        if key.dim() == 3:
            key, value = key + bias[width : 2 * width], value + bias[2 * width :]
    query = by_heads(query, heads)
    key, value = (by_heads(part, heads) if part.dim() == 3 else part for part in (key, value))
    if past[0] is not None and past[1] is not None:
        key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
    masked = mask_bias(mask, query.shape[0], query.shape[2], key.shape[2], causal, filter_value, query)
    y, scores = weighed(query, key, value, together(masked, extra), scale)
    return y, key, value, scores


def grouped_attention(
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    past: tuple[Tensor | None, Tensor | None],
    lengths: Tensor,
    longest: int,
    tables: tuple[Tensor, Tensor] | None,
    positions: Tensor | None,
    extra: Tensor | None,
    sink: Tensor | None,
    settings: tuple[int, int, float, float, int, bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """`GroupQueryAttention`: output and caches; what lies in a cache beyond a sample's own length is not read."""
    heads, kv_heads, scale, softcap, window, interleaved, smooth, causal = settings
    batch, queries = query.shape[:2]
    if key is None or value is None:
        size = query.shape[2] // (heads + 2 * kv_heads)
        query, key, value = query.split([heads * size, kv_heads * size, kv_heads * size], 2)
    query, key, value = by_heads(query, heads), by_heads(key, kv_heads), by_heads(value, kv_heads)
    totals = lengths.reshape(-1).to(torch.int64) + 1
    first = queries == longest
    before = torch.zeros_like(totals) if first else totals - queries  # tokens already in the cache
    rows = before.unsqueeze(1) + torch.arange(queries, device=query.device)  # (batch, queries)
    if tables is not None:
        places = rows.clamp(min=0) if positions is None or first else positions
        query, key = (rotary(part, *tables, places, interleaved, 2 * tables[0].shape[1], 0) for part in (query, key))
    keys, values = (cached(new, old, rows, longest) for new, old in ((key, past[0]), (value, past[1])))
    columns = torch.arange(keys.shape[2], device=query.device)
    row = rows.reshape(batch, 1, queries, 1)
    allowed = (columns <= row) if causal else (columns < totals.reshape(-1, 1, 1, 1))
    if window > 0:
        allowed = allowed & (columns > row - window)
    scores = torch.matmul(query, keys.repeat_interleave(heads // kv_heads, 1).transpose(2, 3))
    scores = scores * (scale or 1 / math.sqrt(query.shape[-1]))
    scores = softcap * torch.tanh(scores / softcap) if softcap else scores
    if extra is not None:
        wide = torch.nn.functional.pad(extra, [0, keys.shape[2] - extra.shape[-1]])
        scores = scores + wide
    scores = scores.masked_fill(~allowed, -math.inf)
    probabilities = sunk_softmax(scores, sink, smooth)
    y = torch.matmul(probabilities, values.repeat_interleave(heads // kv_heads, 1))
    return y.transpose(1, 2).flatten(2), keys, values


def cached(new: Tensor, old: Tensor | None, rows: Tensor, longest: int) -> Tensor:
    """The cache with new entries written at each sample's own rows."""
    size = longest if old is None else max(longest, old.shape[2])
    whole = torch.zeros(*new.shape[:2], size, new.shape[3], dtype=new.dtype, device=new.device)
    if old is not None:
        whole = torch.cat([old, whole[:, :, old.shape[2] :]], 2)
    places = rows.clamp(0, size - 1).reshape(rows.shape[0], 1, -1, 1).expand(new.shape)
    return whole.scatter(2, places, new)


def sunk_softmax(scores: Tensor, sink: Tensor | None, smooth: bool) -> Tensor:
    """Softmax with one more logit per head that takes probability and gives nothing: the sink, or 0 when smooth."""
    if sink is None and not smooth:
        return torch.softmax(scores, -1)
    column = torch.zeros_like(scores[..., :1])
    if sink is not None:
        column = column + sink.to(scores.dtype).reshape(1, -1, 1, 1)
    return torch.softmax(torch.cat([scores, column], -1), -1)[..., :-1]
