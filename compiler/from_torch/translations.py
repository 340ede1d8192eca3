"""ONNX forms of torch operators for which torch's own exporter has none, or a wrong one.

Each function takes what the torch operator takes (graph values for tensors, Python values for the rest) and builds
ONNX nodes with onnxscript. Recurrent layers have a file of their own.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import opset18

from ..torch_tensors import to_numpy, to_torch
from .recurrent import translations as recurrent_translations

op: Any = opset18  # its own types describe eager arrays, not the values of a graph under construction

# Translations of torch that are not used. The first are other names of operators: under these, torch forgets to bring
# operands of different types to one; decomposed, they become the operator itself. The last is wrong beyond x = 9.
WITHDRAWN = (
    *(
        f"aten::{name}.{kind}"
        for name in ("divide", "multiply", "subtract", "true_divide")
        for kind in ("Tensor", "Scalar")
    ),
    *(f"aten::{name}.Tensor" for name in ("greater", "greater_equal", "less", "less_equal")),
    *(f"aten::where.{kind}" for kind in ("Scalar", "ScalarOther", "ScalarSelf")),
    "prims::erfcx",
    "aten::special_erfcx",
)

ATTENTION_OPSET = 23  # from here on attention is one operator, which gives 0 to a row that may see nothing


def translations(opset: int) -> dict[Any, Callable[..., Any]]:
    """The function that builds the ONNX form of each operator, up to `opset`."""
    aten = torch.ops.aten
    table: dict[Any, Callable[..., Any]] = recurrent_translations()
    table[aten._grouped_mm.default] = _grouped_mm
    table[aten.masked_select.default] = _masked_select
    table[aten.where.self] = _where
    table[aten.arange.start_step] = _arange
    table[torch.ops.prims.view_of.default] = _view_of
    table[aten.repeat_interleave.Tensor] = _repeat_interleave
    table[aten._upsample_bilinear2d_aa.default] = _upsample_bilinear2d_aa
    table[aten._upsample_bicubic2d_aa.default] = _upsample_bicubic2d_aa
    table[operator.floordiv] = _floordiv
    if opset < ATTENTION_OPSET:
        table[aten.scaled_dot_product_attention.default] = _attention
    if hasattr(torch.ops.quantized_decomposed, "quantize_per_tensor"):  # that part of torch is loaded
        quantize = torch.ops.quantized_decomposed.quantize_per_tensor
        table |= dict.fromkeys((quantize.default, quantize.tensor, quantize.tensor2), _quantize_per_tensor)
    if "transformers" in sys.modules and hasattr(torch.ops.transformers, "grouped_mm_fallback"):
        table[torch.ops.transformers.grouped_mm_fallback.default] = _grouped_mm
    return table


def _grouped_mm(input: Any, weight: Any, offs: Any, bias: Any = None, out_dtype: Any = None) -> Any:
    """Rows sorted by group, each times its group's matrix: the experts of a mixture.

    `input` [S, K], `weight` [G, K, N], `offs` [G] (where each group ends) -> [S, N]. One MatMul for each group on
    its own rows does no more work than torch does; masks over all rows would do G times as much.
    """
    groups = weight.shape[0]
    if not isinstance(groups, int) or len(input.shape) != 2 or len(weight.shape) != 3:
        raise NotImplementedError("a grouped matrix product needs sorted rows [S, K] and weights [G, K, N], G fixed")
    first = op.Constant(value_ints=[0])
    ends = _split(op.Cast(offs, to=7), groups)
    matrices = [op.Squeeze(matrix, first) for matrix in _split(weight, groups)]
    starts = [first, *ends[:-1]]
    products = [
        op.MatMul(op.Slice(input, start, end, first), matrix)
        for start, end, matrix in zip(starts, ends, matrices, strict=True)
    ]
    if bias is not None:
        products = [op.Add(p, b) for p, b in zip(products, _split(bias, groups), strict=True)]
    # Rows past the last group belong to none: torch leaves them zero.
    left = op.Concat(op.Sub(op.Shape(input, end=1), ends[-1]), op.Shape(weight, start=2), axis=0)
    nothing = op.ConstantOfShape(left, value=ir.tensor([0], dtype=input.dtype))
    result = op.Concat(*products, nothing, axis=0)
    return result if out_dtype is None else op.Cast(result, to=out_dtype)


def _attention(query: Any, key: Any, value: Any, attn_mask: Any = None, *args: Any, **options: Any) -> Any:
    """A row that may see no key (of padding, say) gets 0; torch's translation gives it the mean, or NaN."""
    from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention

    if attn_mask is None:
        return aten_scaled_dot_product_attention(query, key, value, None, *args, **options)
    zero = op.Constant(value=ir.tensor(0.0, dtype=query.dtype))
    if attn_mask.dtype == ir.DataType.BOOL:
        attn_mask = op.Where(attn_mask, zero, op.Constant(value=ir.tensor(-np.inf, dtype=query.dtype)))
    unguarded = aten_scaled_dot_product_attention(query, key, value, attn_mask, *args, **options)
    weights, values = unguarded.producer().inputs
    return op.MatMul(op.Where(op.IsNaN(weights), zero, weights), values)


def _masked_select(self: Any, mask: Any) -> Any:
    shape = op.Shape(op.Or(op.Expand(op.Constant(value=ir.tensor(False)), op.Shape(self)), mask))
    flat = op.Constant(value_ints=[-1])
    return op.Compress(op.Reshape(op.Expand(self, shape), flat), op.Reshape(op.Expand(mask, shape), flat), axis=0)


def _where(condition: Any, self: Any, other: Any) -> Any:
    """ONNX Runtime has no Where for booleans on the CPU."""
    if self.dtype != ir.DataType.BOOL:
        return op.Where(condition, self, other)
    return op.Or(op.And(condition, self), op.And(op.Not(condition), other))


def _arange(start: Any, end: Any, step: Any = 1, dtype: int = -1, **options: Any) -> Any:
    """A range of fractions, whose length torch computes in double precision and ONNX's Range does not."""
    from onnxscript.function_libs.torch_lib.ops.core import aten_arange_start_step

    bounds = (start, end, step)
    if not all(isinstance(bound, (int, float)) for bound in bounds) or all(isinstance(bound, int) for bound in bounds):
        return aten_arange_start_step(start, end, step, dtype=dtype, **options)
    kind = torch.float32 if dtype == -1 else to_torch(np.empty(0, ir.DataType(dtype).numpy())).dtype
    return op.Constant(value=ir.tensor(to_numpy(torch.arange(start, end, step, dtype=kind))))


def _upsample_bilinear2d_aa(
    self: Any, output_size: Any, align_corners: bool, scales_h: float | None = None, scales_w: float | None = None
) -> Any:
    from onnxscript.function_libs.torch_lib.ops.nn import aten__upsample_bilinear2d_aa

    if align_corners or scales_h is None or scales_w is None:
        return aten__upsample_bilinear2d_aa(self, output_size, align_corners)
    return _smoothed(self, output_size, (scales_h, scales_w), mode="linear")


def _upsample_bicubic2d_aa(
    self: Any, output_size: Any, align_corners: bool, scales_h: float | None = None, scales_w: float | None = None
) -> Any:
    from onnxscript.function_libs.torch_lib.ops.nn import aten__upsample_bicubic2d_aa

    if align_corners or scales_h is None or scales_w is None:
        return aten__upsample_bicubic2d_aa(self, output_size, align_corners)
    return _smoothed(self, output_size, (scales_h, scales_w), mode="cubic", cubic_coeff_a=-0.5)


def _smoothed(self: Any, output_size: Any, scales: tuple[float, float], **options: Any) -> Any:
    """Resized by given scales, where torch's translation goes by the sizes: 17 rows by half are 8, and 17 / 8 > 2."""
    wanted = [size for size in output_size if isinstance(size, int)]
    known = [size for size in self.shape[2:] if isinstance(size, int)]
    ours = [int(np.float32(size) * np.float32(scale)) for size, scale in zip(known, scales, strict=False)]
    if len(known) == len(wanted) == len(scales) and ours != wanted:
        raise NotImplementedError("a scale that gives another size in single precision")
    factors = op.Constant(value_floats=[1.0, 1.0, *scales])
    half = {"coordinate_transformation_mode": "half_pixel", "antialias": 1, "exclude_outside": 1}
    return op.Resize(self, None, factors, None, **half, **options)


def _quantize_per_tensor(
    input: Any, scale: Any, zero_point: Any, quant_min: int, quant_max: int, dtype: int, **options: Any
) -> Any:
    """Kept in a range narrower than the type's, such as [-127, 127], which torch's translation forgets."""
    from onnxscript.function_libs.torch_lib.ops.quantized_decomposed import quantized_decomposed_quantize_per_tensor

    kind = ir.DataType(dtype)
    codes = quantized_decomposed_quantize_per_tensor(input, scale, zero_point, quant_min, quant_max, dtype, **options)
    limits = np.iinfo(kind.numpy())
    if quant_min <= limits.min and quant_max >= limits.max:
        return codes
    least, most = (op.Constant(value=ir.tensor(bound, dtype=kind)) for bound in (quant_min, quant_max))
    return op.Clip(codes, least, most)


def _view_of(a: Any) -> Any:
    return op.Identity(a)


def _repeat_interleave(repeats: Any, output_size: Any = None) -> Any:
    """Each position as often as it is to be repeated: for each place, how many repetitions ended before it."""
    del output_size  # a promise that torch needs for its shapes
    ends = op.CumSum(repeats, op.Constant(value_int=0))
    one = op.CastLike(op.Constant(value_int=1), repeats)
    zero = op.CastLike(op.Constant(value_int=0), repeats)
    places = op.Range(
        zero, op.ReduceMax(op.Concat(ends, op.Reshape(zero, op.Constant(value_ints=[1])), axis=0), keepdims=0), one
    )
    ended = op.GreaterOrEqual(op.Unsqueeze(places, op.Constant(value_ints=[1])), ends)
    return op.ReduceSum(op.CastLike(ended, repeats), op.Constant(value_ints=[1]), keepdims=0)


def _floordiv(self: Any, other: Any) -> Any:
    """Sizes divide towards minus infinity, ONNX's Div towards zero; Mod has the divisor's sign."""
    return op.Div(op.Sub(self, op.Mod(self, other)), other)


def _split(value: Any, parts: int) -> list[Any]:
    return list(op.Split(value, axis=0, num_outputs=parts)) if parts > 1 else [value]
