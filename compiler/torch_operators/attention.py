"""Attention and rotary positions of the ONNX standard (opset 23 on)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from .control_flow import Body
from .dtypes import torch_dtype
from .operation import Operation
from .registry import operator

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import Tensor


@operator("Attention")
def attention(
    op: Operation,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Output, key and value caches, and scores; `scaled_dot_product_attention` where that is all there is to it."""
    heads, kv_heads = op.attribute("q_num_heads", 0), op.attribute("kv_num_heads", 0)
    causal, scale = bool(op.attribute("is_causal", 0)), op.attribute("scale", None)
    if not is_dot_product(op) or (causal and past_key is not None):
        precision = op.attribute("softmax_precision", 0)
        dtype = torch_dtype(precision) if precision else None
        found = op.call(
            full_attention,
            query,
            key,
            value,
            mask,
            (past_key, past_value),
            lengths,
            (heads, kv_heads),
            (causal, _window(op), op.attribute("softcap", 0.0), scale, dtype),
            op.attribute("qk_matmul_output_mode", 0),
        )
        return tuple(found[index] for index in range(4))
    packed = op.rank(0) == 3
    if packed:
        query, key, value = separated(query, key, value, heads, kv_heads)
    if past_key is not None and past_value is not None:
        key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
    grouped = heads != kv_heads if packed else not same_heads(op)
    return dot_product(query, key, value, mask, causal, scale, grouped=grouped, packed=packed), key, value


def is_dot_product(op: Operation) -> bool:
    """Whether `dot_product` is all there is to a node, its caches aside."""
    causal, precision = bool(op.attribute("is_causal", 0)), op.attribute("softmax_precision", 0)
    lengths, mask = (len(op.node.inputs) > i and op.node.inputs[i] is not None for i in (6, 3))
    if op.rank(0) not in (3, 4) or op.attribute("softcap", 0.0) or _window(op) != (-1, -1) or lengths or op.wants(3):
        return False
    if mask and (causal or not same_length(op.node, op.version)):
        return False
    return not precision or torch_dtype(precision) == op.dtype(0) or in_single(op, precision)


def _window(op: Operation) -> tuple[int, int]:
    return op.attribute("left_window_size", -1), op.attribute("right_window_size", -1)


def separated(query: Tensor, key: Tensor, value: Tensor, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(batch, length, heads · size) → (batch, heads, length, size), in place."""
    query, key, value = (
        torch.transpose(x.unflatten(2, (count, -1)), 1, 2)
        for x, count in ((query, heads), (key, kv_heads), (value, kv_heads))
    )
    return query, key, value


def dot_product(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    causal: bool,
    scale: float | None,
    *,
    grouped: bool,
    packed: bool,
) -> Tensor:
    """Attention of heads (batch, heads, length, size) as torch has it.

    Args:
        query: heads of queries.
        key: heads of keys.
        value: heads of values.
        mask: broadcasts to the scores.
        causal: whether the query numbered i sees keys up to i only.
        scale: of the scores; None: one over the root of a head's size.
        grouped: whether several heads of queries share one of keys.
        packed: whether the result is (batch, length, heads · size).
    """
    y = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=grouped
    )
    return torch.flatten(torch.transpose(y, 1, 2), 2) if packed else y


@operator("FlexAttention", domain="ai.onnx.preview", folds=False)
def flex_attention(op: Operation, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention whose scores and probabilities pass through sub-graphs."""
    stages: list[Any] = []
    for name in ("score_mod", "prob_mod"):
        graph = op.node.attributes.get(name)
        stages += list(op.scope.subgraph(graph.as_graph())) if graph is not None else [None, []]
    precision = op.attribute("softmax_precision", 0)
    dtype = torch_dtype(precision) if precision else None
    return op.call(modified_attention, query, key, value, op.attribute("scale", None), dtype, *stages)


@operator("RotaryEmbedding")
def rotary_embedding(op: Operation, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None) -> Tensor:
    """Rotary position embedding (arXiv:2104.09864)."""
    interleaved, size = bool(op.attribute("interleaved", 0)), op.attribute("rotary_embedding_dim", 0)
    return op.call(rotary, x, cos, sin, positions, interleaved, size, op.attribute("num_heads", 0))


def in_single(op: Operation, precision: int) -> bool:
    """Whether the softmax of halves is wanted in float32, which is how torch's fused attention takes it."""
    return torch_dtype(precision) == torch.float32 and op.dtype(0) in (torch.float16, torch.bfloat16)


def same_length(node: ir.Node, version: int) -> bool:
    """Whether the mask is as wide as the keys: before opset 24 it must be, later it may be shorter."""
    if version < 24:
        return True
    mask, key = node.inputs[3], node.inputs[1]
    if mask is None or key is None or mask.shape is None or key.shape is None:
        return False
    past = len(node.inputs) > 4 and node.inputs[4] is not None
    width, length = mask.shape[-1], key.shape[-2]
    return not past and isinstance(width, int) and width == length


def same_heads(op: Operation) -> bool:
    """Whether query and key are known to have as many heads."""
    query, key = op.node.inputs[0], op.node.inputs[1]
    if query is None or key is None or query.shape is None or key.shape is None:
        return False
    return isinstance(query.shape[1], int) and query.shape[1] == key.shape[1]


def by_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, length, heads · size) → (batch, heads, length, size)."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def allowed_keys(queries: int, offset: Tensor, keys: int, causal: bool, window: tuple[int, int]) -> Tensor:
    """Which keys each query may see: (batch or 1, 1, queries, keys); `offset` keys precede the first query."""
    device = offset.device
    row = torch.arange(queries, device=device).reshape(1, 1, -1, 1) + offset.reshape(-1, 1, 1, 1)
    column = torch.arange(keys, device=device)
    allowed = torch.ones(row.shape[0], 1, queries, keys, dtype=torch.bool, device=device)
    left, right = window
    if causal:
        allowed = allowed & (column <= row)
    if left >= 0:
        allowed = allowed & (column >= row - left)
    if right >= 0:
        allowed = allowed & (column <= row + right)
    return allowed


def full_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    past: tuple[Tensor | None, Tensor | None],
    lengths: Tensor | None,
    heads: tuple[int, int],
    settings: tuple[bool, tuple[int, int], float, float | None, torch.dtype | None],
    mode: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`Attention` with all its options; returns output, caches and the scores at the stage `mode`."""
    causal, window, softcap, scale, precision = settings
    packed = query.dim() == 3
    if packed:
        query, key, value = by_heads(query, heads[0]), by_heads(key, heads[1]), by_heads(value, heads[1])
    before = 0
    if past[0] is not None and past[1] is not None:
        before = past[0].shape[2]
        key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
    keys, values, queries, total = key, value, query.shape[2], key.shape[2]
    if query.shape[1] != key.shape[1]:
        repeats = query.shape[1] // key.shape[1]
        keys, values = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    root = math.sqrt(1 / math.sqrt(query.shape[3]) if scale is None else scale)
    scores = torch.matmul(query * root, keys.transpose(2, 3) * root)
    shown = scores
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
        shown = scores if mode == 1 else shown
    if lengths is None:
        offset = torch.full((1,), before, device=query.device)  # made on the device: a CUDA graph takes no copy to it
    else:
        offset = lengths.reshape(-1).to(query.device) - queries
    bias = torch.zeros(1, 1, queries, total, dtype=query.dtype, device=query.device)
    bias = bias.masked_fill(~allowed_keys(queries, offset, total, causal, window), -math.inf)
    if lengths is not None:
        unused = torch.arange(total, device=query.device) >= lengths.reshape(-1, 1, 1, 1).to(query.device)
        bias = bias.masked_fill(unused, -math.inf)
    if mask is not None:
        bias = bias + mask_bias(mask, total, query.dtype)
    biased = scores + bias
    shown = biased if mode == 2 else shown
    probabilities = torch.softmax(biased if precision is None else biased.to(precision), -1)
    # a query that may see no key yields zeros
    empty = torch.isneginf(bias.amax(-1, keepdim=True))
    probabilities = torch.where(empty, torch.zeros_like(probabilities), probabilities).to(query.dtype)
    shown = probabilities if mode == 3 else shown
    y = torch.matmul(probabilities, values)
    return (y.transpose(1, 2).flatten(2) if packed else y), key, value, shown


def mask_bias(mask: Tensor, total: int, dtype: torch.dtype) -> Tensor:
    """A mask as numbers to add to the scores; keys it does not reach are masked."""
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -math.inf)
    return functional.pad(mask, [0, total - mask.shape[-1]], value=-math.inf)


def modified_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float | None,
    precision: torch.dtype | None,
    score_mod: Body | None,
    score_captures: list[Any],
    prob_mod: Body | None,
    prob_captures: list[Any],
) -> Tensor:
    """Attention whose scores and probabilities pass through given functions."""
    if query.shape[1] != key.shape[1]:
        repeats = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    if precision is None:
        precision = torch.float64 if query.dtype == torch.float64 else torch.float32
    factor = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    scores = torch.matmul(query.to(precision), key.to(precision).transpose(2, 3)) * factor
    if score_mod is not None:
        scores = score_mod(scores, *score_captures)[0]
    probabilities = torch.softmax(scores, -1)
    if prob_mod is not None:
        probabilities = prob_mod(probabilities, *prob_captures)[0]
    return torch.matmul(probabilities.to(value.dtype), value)


def rotary(
    x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None, interleaved: bool, size: int, heads: int
) -> Tensor:
    """Rotate pairs of the first `size` features of each head: (b, heads, s, d) or (b, s, heads · d)."""
    packed = x.dim() == 3
    if packed and heads == 0:
        heads = x.shape[2] // (size or 2 * cos.shape[-1])
    x = x.reshape(x.shape[0], x.shape[1], heads, -1) if packed else x.transpose(1, 2)  # (b, s, heads, d)
    size = size or x.shape[-1]
    turned, rest = x[..., :size], x[..., size:]
    if positions is not None:
        cos, sin = cos[positions], sin[positions]  # (b, s, size / 2)
    cos, sin = (table[..., : size // 2].unsqueeze(2).to(x.dtype) for table in (cos, sin))
    if interleaved:
        real, imaginary = turned[..., 0::2], turned[..., 1::2]
        pair = torch.stack([real * cos - imaginary * sin, real * sin + imaginary * cos], -1)
        turned = pair.flatten(-2)
    else:
        real, imaginary = turned.chunk(2, -1)
        turned = torch.cat([real * cos - imaginary * sin, real * sin + imaginary * cos], -1)
    result = torch.cat([turned, rest], -1) if rest.shape[-1] else turned
    return result.flatten(2) if packed else result.transpose(1, 2)
