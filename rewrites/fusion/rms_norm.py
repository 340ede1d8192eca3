"""RMSNormalization from its parts: root mean square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467).

ONNX Runtime 1.32 has CPU kernels of RMSNormalization for float32 and float16. Older exporters, and torch's up to
opset 22, write it as six or seven operators, in any of the orders below. float64 is refused: the operator states that
it computes in float32 (stash_type).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Pattern, Skip, Term, Value, op, rule, var
from .constants import array_of, require_single
from .normalisation import (
    as_scale,
    elements,
    inverse,
    normalised_sizes,
    ones,
    positive,
    product,
    reduced_axes,
    sizes,
    to_the_end,
)

x, w, s, axes, eps, axis, attributes = var("x w s axes eps axis attributes")


def _orders(root_of: Pattern) -> tuple[Pattern, ...]:
    """Patterns of x divided by a root, and by then or before multiplied with w, in every order that exporters write."""
    return (
        op.Div(x, root_of),
        op.Mul(x, op.Reciprocal(root_of)),
        op.Mul(x, op.Mul(op.Reciprocal(root_of), w)),
        op.Mul(op.Mul(x, w), op.Reciprocal(root_of)),
        op.Div(op.Mul(x, w), root_of),
        op.Mul(x, op.Div(w, root_of)),
    )


mean_square = op.ReduceMean(op.Mul(x, x), axes, keepdims=1)
sum_square = op.ReduceSum(op.Mul(x, x), axes, keepdims=1)


@rule(
    *_orders(op.Sqrt(op.Add(mean_square, eps))),
    op.Div(x, op.Sqrt(mean_square)),
    op.Mul(x, op.Reciprocal(op.Sqrt(mean_square))),
    drift="rounding",
    peers="onnxscript (one order), onnxsim",
    example=[
        {"x": "f32[2,3,8]", "axes": "i64[1] = -1", "eps": "f32[] = 1e-6", "w": "f32[8] const"},
        {"x": "f32[2,4,8]", "axes": "i64[2] = 1 2", "eps": "f32[1] = 1e-5", "w": "f32[1,1,8] const"},
        {"x": "f32[2,4,3]", "axes": "i64[1] = 1", "eps": "f32[1] = 1e-5", "w": "f32[4,1] const"},
        {"x": "f16[2,8]", "axes": "i64[1] = 1", "eps": "f16[] = 1e-4", "w": "f16[8]"},
        {"x": "f32[B,8]", "axes": "i64[1] = 1", "eps": "f32[] = 1e-4", "w": "f32[] const"},
    ],
    refuse=[
        {"x": "f32[2,3,8]", "axes": "i64[1] = -1", "eps": "f32[] = -1", "w": "f32[8]", "pattern": 1, "because": "nega"},
        {"x": "f32[2,3,8]", "axes": "i64[1] = -1", "eps": "f32[8] const", "w": "f32[8]", "pattern": 0, "because": "di"},
        {"x": "f32[2,3,A]", "axes": "i64[1] = -1", "eps": "f32[] = 1", "w": "f32[8]", "pattern": 0, "because": "size"},
        {"x": "f64[2,8]", "axes": "i64[1] = 1", "eps": "f64[] = 1", "w": "f64[8]", "because": "half precision"},
        {"x": "f32[2,8]", "axes": "i64[1] = 1", "eps": "f32[] = 1", "w": "f32[2,1]", "pattern": 2, "because": "along"},
        {"x": "f32[2,8]", "axes": "i64[1] = 1", "eps": "f32[] = 1", "w": "f32[1]", "pattern": 3, "because": "computed"},
    ],
)
def rms_norm(x: Value, axes: Value, eps: Value | None, w: Value | None, root: Value) -> Term:
    """x/√(mean(x²) + ε)·w = RMSNormalization(x, w); axes that are not the last are brought there and back."""
    return _normalised(x, axes, positive(eps), 1.0, w, root)


@rule(
    *_orders(op.Sqrt(op.Add(sum_square, eps)))[:2],
    *_orders(op.Sqrt(sum_square))[:2],
    *_orders(op.Sqrt(op.Add(op.ReduceSumSquare(x, axes, keepdims=1), eps)))[:2],
    drift="rounding",
    example=[
        {"x": "f32[2,3,8]", "axes": "i64[1] = -1", "eps": "f32[] = 1e-6"},
        {"x": "f16[2,8]", "axes": "i64[1] = 1", "eps": "f16[] = 1e-4"},
    ],
    refuse={"x": "f32[2,A]", "axes": "i64[1] = 1", "eps": "f32[] = 1", "because": "size"},
)
def length_norm(x: Value, axes: Value, eps: Value | None, root: Value) -> Term:
    """x/√(Σx² + ε) = RMSNormalization(x, 1/√n, ε/n), where n numbers are summed."""
    count = elements(x, reduced_axes(x, axes))
    return _normalised(x, axes, positive(eps) / count, count**-0.5, None, root)


def _normalised(x: Value, axes: Value, epsilon: float, factor: float, w: Value | None, root: Value) -> Term:
    require_single(x)
    rank, over = x.rank, reduced_axes(x, axes)
    if root.rank != rank:
        raise Skip("a constant broadcasts the operand to another rank")
    lengths = sizes(x, over)
    elements(x, over)
    plain = ones(lengths, x) if factor == 1.0 else array_of(factor, x, lengths)
    permutation = to_the_end(rank, over)
    if permutation is None:
        scale = plain if w is None else as_scale(w, rank, lengths)
        return op.RMSNormalization(x, scale, axis=-len(over), epsilon=epsilon)
    moved = op.RMSNormalization(op.Transpose(x, perm=permutation), plain, axis=-len(over), epsilon=epsilon)
    back = op.Transpose(moved, perm=inverse(permutation))
    return back if w is None else op.Mul(back, w)


@rule(
    op.Mul(op.RMSNormalization(x, s, attributes=attributes), w),
    drift="rounding",
    example=[
        {"x": "f32[2,3,8]", "s": "f32[8] = 1", "attributes": {"epsilon": 1e-6}, "w": "f32[8]"},
        {"x": "f32[2,3,8]", "s": "f32[8] const", "attributes": {}, "w": "f32[1,8] const"},
        {"x": "f32[2,3,8]", "s": "f32[3,8] const", "attributes": {"axis": 1}, "w": "f32[3,1] const"},
        {"x": "f16[2,8]", "s": "f16[8] = 1", "attributes": {}, "w": "f16[1] const"},
    ],
    refuse=[
        {"x": "f32[2,8]", "s": "f32[8] = 1", "attributes": {}, "w": "f32[2,8]", "because": "varies along"},
        {"x": "f32[2,8]", "s": "f32[8] const", "attributes": {}, "w": "f32[8]", "because": "ahead of time"},
        {"x": "f32[2,8]", "s": "f32[8]", "attributes": {}, "w": "f32[8]", "because": "ahead of time"},
        {"x": "f32[2,8]", "s": "f32[1] = 1", "attributes": {}, "w": "f32[8]", "because": "normalised shape"},
    ],
)
def rms_norm_scale(x: Value, s: Value, w: Value, attributes: Mapping[str, Any]) -> Term:
    """RMSNormalization(x, s) · w = RMSNormalization(x, s·w)."""
    lengths = normalised_sizes(x, attributes.get("axis", -1))
    return op.RMSNormalization(x, product(s, w, x.rank, lengths), **attributes)
