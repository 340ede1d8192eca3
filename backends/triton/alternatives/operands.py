"""What the kernels ask of operands."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from ....compiler.rule import Skip, Term, Value, op

KERNEL_DTYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def require_one_row(x: Value) -> None:
    """The kernels for one row read each weight once; more rows want another kernel."""
    if x.dtype not in KERNEL_DTYPES:
        raise Skip("the kernel is for float32, float16 and bfloat16")
    if x.rank < 1 or prod(x.static_shape[:-1]) != 1:
        raise Skip("there is more than one row")


def rows_of(w: Value) -> Term:
    """The constant weight of a product, laid out row by row of the result."""
    if not w.is_const:
        raise Skip("the weight is computed")
    if w.rank != 2:
        raise Skip("the weight is not one matrix")
    return op.Transpose(w, perm=(1, 0))
