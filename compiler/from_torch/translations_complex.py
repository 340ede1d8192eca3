"""ONNX forms of torch operators on complex numbers, which torch's exporter carries as a last axis (real, imaginary).

Most are the operator itself on the real tensor, with its dimensions counted around that axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18
from onnxscript.function_libs.torch_lib.ops import core

op: Any = opset18  # its own types describe eager arrays, not the values of a graph under construction
lib: Any = core

_PARTS = {14: ir.DataType.FLOAT, 15: ir.DataType.DOUBLE}  # complex64, complex128 by ONNX's number


def complex_translations() -> dict[Any, Callable[..., Any]]:
    """The function that builds the ONNX form of each operator, where an operand is complex."""
    aten = torch.ops.aten
    return {
        aten.unsqueeze.default: _unsqueeze,
        aten.expand.default: _expand,
        aten.select.int: _select,
        aten.index_select.default: _index_select,
        aten.index.Tensor: lib.aten_index,
        aten.reshape.default: lib.aten_view_complex,
        aten.repeat.default: _repeat,
        aten.constant_pad_nd.default: _pad,
        aten.where.self: _where,
        aten.exp.default: _exp,
        aten._conj_physical.default: _conjugate,
        aten.conj_physical.default: _conjugate,
        aten._to_copy.default: _to_copy,
        aten.alias.default: _same,
        aten.detach.default: _same,
        aten.mm.default: lib.aten_matmul_complex,
        aten.bmm.default: lib.aten_matmul_complex,
    }


def _around(dim: int) -> int:
    return dim - 1 if dim < 0 else dim


def _unsqueeze(self: Any, dim: int) -> Any:
    return op.Unsqueeze(self, op.Constant(value_ints=[_around(dim)]))


def _expand(self: Any, size: Sequence[Any], implicit: bool = False) -> Any:
    return lib.aten_expand(self, [*size, 2], implicit)


def _select(self: Any, dim: int, index: int) -> Any:
    return lib.aten_select(self, _around(dim), index)


def _index_select(self: Any, dim: int, index: Any) -> Any:
    return lib.aten_index_select(self, _around(dim), index)


def _repeat(self: Any, repeats: Sequence[Any]) -> Any:
    return lib.aten_repeat(self, [*repeats, 1])


def _pad(self: Any, pad: Sequence[Any], value: float = 0.0) -> Any:
    if value:
        raise NotImplementedError("complex numbers are padded with zeros only")
    return lib.aten_constant_pad_nd(self, [0, 0, *pad])


def _where(condition: Any, self: Any, other: Any) -> Any:
    return op.Where(op.Unsqueeze(condition, op.Constant(value_ints=[-1])), self, other)


def _exp(self: Any) -> Any:
    """exp(a + bi) = exp(a)·(cos b + i sin b)."""
    real, imaginary = op.Split(self, axis=-1, num_outputs=2)
    return op.Mul(op.Exp(real), op.Concat(op.Cos(imaginary), op.Sin(imaginary), axis=-1))


def _conjugate(self: Any) -> Any:
    return op.Mul(self, op.CastLike(op.Constant(value_floats=[1.0, -1.0]), self))


def _to_copy(self: Any, dtype: int = -1, **options: Any) -> Any:
    if dtype == -1:
        return op.Identity(self)
    if dtype not in _PARTS:
        raise NotImplementedError("a complex tensor is not made real by a cast; take .real")
    return op.Cast(self, to=_PARTS[dtype])


def _same(self: Any) -> Any:
    return op.Identity(self)
