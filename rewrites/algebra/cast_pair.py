"""Casts to the type a value has, and through a type that loses nothing."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ...compiler.rule import Skip, Term, Value, op, rule, var

x, y, a, b = var("x y a b")


@rule(
    op.Cast(x, to=a),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 CastElimination, onnxslim, onnxsim, onnxoptimizer eliminate_nop_cast, onnxscript",
    example=[{"x": "f32[2,n]", "a": 1}, {"x": "i64[3]", "a": 7}],
    refuse={"x": "f32[2]", "a": 10, "because": "another type"},
)
def cast_identity(x: Value, a: int) -> Term:
    """Cast(x, its own type) = x."""
    if x.dtype != a:
        raise Skip("the Cast is to another type")
    return x


@rule(
    op.CastLike(x, y),
    drift="none",
    phase="canonicalise",
    peers="onnxscript",
    example=[{"x": "f32[2,n]", "y": "i64[1]"}, {"x": "i64[2]", "y": "i64[3]"}],
)
def cast_like(x: Value, y: Value) -> Term:
    """CastLike(x, y) = Cast(x, type of y)."""
    if y.dtype is None:
        raise Skip("the type is not known")
    return x if x.dtype == y.dtype else op.Cast(x, to=y.dtype)


@rule(
    op.Cast(op.Cast(x, to=a), to=b),
    drift="none",
    phase="canonicalise",
    peers="ORT L1 CastChainElimination (opt-in), onnxscript, onnxsim",
    example=[
        {"x": "f16[2,n]", "a": 1, "b": 10},
        {"x": "f16[2,n]", "a": 1, "b": 11},
        {"x": "b[2]", "a": 7, "b": 1},
        {"x": "i32[4]", "a": 7, "b": 1},
        {"x": "u8[4]", "a": 6, "b": 9},
        {"x": "b[4]", "a": 10, "b": 9},
    ],
    refuse=[
        {"x": "f32[2]", "a": 10, "b": 1, "because": "loses"},
        {"x": "i64[2]", "a": 6, "b": 7, "because": "loses"},
        {"x": "i32[2]", "a": 1, "b": 7, "because": "loses"},
        {"x": "f16[2]", "a": 1, "b": 7, "because": "out of range"},
    ],
)
def cast_pair(x: Value, a: int, b: int) -> Term:
    """Cast(Cast(x, a), b) = Cast(x, b), and x when that is its type, if type a holds every number of x."""
    if x.dtype is None or not _holds(a, x.dtype):
        raise Skip("the first Cast loses digits or range")
    if x.dtype == b:
        return x
    if _kind(x.dtype) == "f" and _kind(b) in "iu":
        # What a float out of range or NaN becomes is the runtime's choice, and depends on the float's type.
        raise Skip("a float may be out of range of the integer it is cast to")
    return op.Cast(x, to=b)


def _kind(dtype: int) -> str:
    """One of f (float), i, u, b, or empty where the type is none of these."""
    kind = ir.DataType(dtype)
    if kind == ir.DataType.BOOL:
        return "b"
    if kind in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        return "f"
    return {"i": "i", "u": "u"}.get(kind.numpy().kind if kind.bitwidth >= 8 else "", "")


def _holds(wide: int, narrow: int) -> bool:
    """Whether every number of one type is a number of the other."""
    to, of = _kind(wide), _kind(narrow)
    if wide == narrow:
        return True
    if not to or not of or to == "b":
        return False
    if of == "b":
        return True
    target, source = ir.DataType(wide).numpy(), ir.DataType(narrow).numpy()
    if to == "f" and of == "f":
        return _digits(target) >= _digits(source) and _exponent(target) >= _exponent(source)
    if to == "f":
        return 2 ** _digits(target) >= max(ml_dtypes.iinfo(source).max, -int(ml_dtypes.iinfo(source).min))
    if of == "f":
        return False
    return int(ml_dtypes.iinfo(target).max) >= int(ml_dtypes.iinfo(source).max) and int(
        ml_dtypes.iinfo(target).min
    ) <= int(ml_dtypes.iinfo(source).min)


def _digits(dtype: np.dtype[np.generic]) -> int:
    return int(ml_dtypes.finfo(dtype).nmant) + 1


def _exponent(dtype: np.dtype[np.generic]) -> int:
    return int(ml_dtypes.finfo(dtype).nexp)
