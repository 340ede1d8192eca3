"""A matrix product and its bias are Gemm where both operands are matrices, and Gemm is a product and a sum."""

from __future__ import annotations

import numpy as np

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .operands import full, require_constant, require_float

x, w, b, alpha, beta, ta, tb = var("x w b alpha beta ta tb")

SUM = {"x": "f32[2,3]", "w": "f32[3,4] const", "b": "f32[4] const"}
GEMM = {"x": "f32[2,3]", "w": "f32[3,4] const", "b": "f32[4]", "alpha": 1.0, "beta": 1.0, "ta": 0, "tb": 0}


@rule(
    op.Add(op.MatMul(x, w), b),
    drift="rounding",
    peers="ORT L1 MatMulAddFusion, onnxslim, onnxsim, onnxoptimizer, onnxscript",
    example=[
        SUM,
        {"x": "f32[N,3]", "w": "f32[3,4]", "b": "f32[N,4]"},
        {"x": "f64[2,3]", "w": "f64[3,4] const", "b": "f64[]"},
        {"x": "f16[2,3]", "w": "f16[3,4] const", "b": "f16[2,1]"},
    ],
    refuse=[
        {**SUM, "x": "f32[2,2,3]", "because": "matrices"},
        {**SUM, "b": "f32[5,2,4] const", "because": "larger"},
        {**SUM, "x": "f32[1,3]", "b": "f32[2,4]", "because": "larger"},
        {"x": "i32[2,3]", "w": "i32[3,4]", "b": "i32[4]", "because": "floating-point"},
    ],
)
def matmul_add_as_gemm(x: Value, w: Value, b: Value) -> Term:
    """x·w + b = Gemm(x, w, b) for matrices."""
    require_float(x)
    if x.rank != 2 or w.rank != 2:
        raise Skip("the operands are not both matrices")
    result = (x.shape[0], w.shape[1])
    if b.rank > 2 or any(d != 1 and (d != n or d is None) for d, n in zip(b.shape[::-1], result[::-1], strict=False)):
        raise Skip("the summand makes the product larger")
    return op.Gemm(x, w, b)


@rule(
    op.Gemm(x, w, alpha=alpha, beta=beta, transA=ta, transB=tb),
    op.Gemm(x, w, b, alpha=alpha, beta=beta, transA=ta, transB=tb),
    drift="rounding",
    example=[
        GEMM,
        {**GEMM, "w": "f32[4,3] const", "alpha": 0.5, "beta": 2.0, "tb": 1},
        {**GEMM, "x": "f16[3,2]", "w": "f16[3,4] const", "b": "f16[1,4]", "ta": 1},
        {**GEMM, "beta": 0.0},
    ],
    refuse=[
        {**GEMM, "w": "f32[3,4]", "because": "computed"},
        {**GEMM, "x": "i32[2,3]", "w": "i32[3,4] const", "b": "i32[4]", "because": "floating-point"},
    ],
)
def gemm_as_matmul_add(x: Value, w: Value, b: Value | None, alpha: float, beta: float, ta: int, tb: int) -> Term:
    """Gemm(x, w, b) = x·(α·w) + β·b, the weight transposed ahead of time."""
    require_float(x)
    require_constant(w, "the weight")
    if x.rank != 2 or w.rank != 2:
        raise Skip("the operands are not both matrices")
    left: Term = op.Transpose(x, perm=(1, 0)) if ta else x
    weight: Term = op.Transpose(w, perm=(1, 0)) if tb else w
    if alpha != 1:
        weight = op.Mul(weight, full(alpha, (), x))
    product = op.MatMul(left, weight)
    if b is None or beta == 0:
        return product
    return op.Add(product, b if beta == 1 else op.Mul(b, full(beta, (), x)))


@rule(
    op.Gemm(x, w, b, alpha=alpha, beta=beta, transA=ta, transB=tb),
    drift="rounding",
    phase="canonicalise",
    peers="onnxscript",
    example={**GEMM, "b": "f32[4] = 0", "tb": 1, "w": "f32[4,3]"},
    refuse={**GEMM, "b": "f32[4] = 0 1", "because": "zero"},
)
def zero_bias_of_gemm(x: Value, w: Value, b: Value, alpha: float, beta: float, ta: int, tb: int) -> Term:
    """Gemm(x, w, 0) = Gemm(x, w)."""
    if not b.every(lambda array: not np.any(array)):
        raise Skip("the bias is not known to be zero")
    return op.Gemm(x, w, alpha=alpha, beta=beta, transA=ta, transB=tb)
