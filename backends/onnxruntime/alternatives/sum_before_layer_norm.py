"""Sum instead of Add before a LayerNormalization, so that ONNX Runtime does not fuse the two.

Its SkipLayerNormalization, made of a rank-3 Add that only a LayerNormalization reads (every block of a post-norm
transformer such as BERT), has a slow kernel on the CPU: 558 µs for 128 x 768 floats, against 100 µs for the two
operators apart, and 59 against 24 µs for 32 x 128 (ONNX Runtime 1.32, one thread). Sum of two runs as fast as Add.
SkipLayerNormalization itself and SkipSimplifiedLayerNormalization (465 µs against 225 µs for 128 x 3072) are therefore
not offered.
"""

from __future__ import annotations

import onnx_ir as ir

from ....compiler.rule import Skip, Term, Value, op, rule, var

x, y, s, b, attributes = var("x y s b attributes")


@rule(
    op.LayerNormalization(op.Add(x, y), s, attributes=attributes),
    op.LayerNormalization(op.Add(x, y), s, b, attributes=attributes),
    drift="none",
    phase="lower",
    example={"x": "f32[2,3,8]", "y": "f32[2,3,8]", "s": "f32[8]", "b": "f32[8]", "attributes": {"epsilon": 1e-6}},
    refuse=[
        {"x": "f32[2,3,8]", "y": "f32[8]", "s": "f32[8]", "b": "f32[8]", "attributes": {}, "because": "of one shape"},
        {"x": "f32[3,8]", "y": "f32[3,8]", "s": "f32[8]", "b": "f32[8]", "attributes": {}, "because": "rank 3"},
        {"x": "f16[2,3,8]", "y": "f16[2,3,8]", "s": "f16[8]", "b": "f16[8]", "attributes": {}, "because": "float32"},
    ],
)
def sum_before_layer_norm(x: Value, y: Value, s: Value, b: Value | None, attributes: dict[str, object]) -> Term:
    """LayerNormalization(x + y) = LayerNormalization(Sum(x, y)), for x and y of one shape."""
    if x.dtype != ir.DataType.FLOAT:
        raise Skip("the runtime fuses, and Sum has a kernel, for float32")
    if x.rank != 3:
        raise Skip("the runtime fuses sums of rank 3 only")
    if y.shape != x.shape or None in x.shape:
        raise Skip("the runtime fuses sums of operands of one shape only")
    total = op.Sum(x, y)
    if b is None:
        return op.LayerNormalization(total, s, **attributes)
    return op.LayerNormalization(total, s, b, **attributes)
