"""Operators on complex numbers that have no translation, written with real ones or with complex ones that have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

_PART = {torch.complex64: torch.float32, torch.complex128: torch.float64}


def _by_parts(operator: Any) -> Callable[..., Any]:
    """What only moves elements or adds them up: the real parts for themselves, and the imaginary ones."""

    def decomposition(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not self.is_complex():
            return NotImplemented
        real = operator(self.real, *map(_real, args), **kwargs)
        imaginary = operator(self.imag, *map(_imaginary, args), **kwargs)
        if isinstance(real, Tensor):
            return torch.complex(real, imaginary)
        return [torch.complex(a, b) for a, b in zip(real, imaginary, strict=True)]

    return decomposition


def _real(argument: Any) -> Any:
    return argument.real if isinstance(argument, Tensor) and argument.is_complex() else argument


def _imaginary(argument: Any) -> Any:
    if not isinstance(argument, Tensor):
        return argument
    if argument.is_complex():
        return argument.imag
    return torch.zeros_like(argument) if argument.is_floating_point() else argument  # indices and masks are for both


def pad(self: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """Of zeros, or with elements of its own."""
    return NotImplemented if value else _by_parts(aten.pad.default)(self, pad, mode)


def full(size: Sequence[Any], fill_value: complex, *, dtype: torch.dtype | None = None, **options: Any) -> Any:
    """One number everywhere."""
    if dtype is None and isinstance(fill_value, complex):
        dtype = torch.get_default_dtype().to_complex()
    if dtype is None or not dtype.is_complex:
        return NotImplemented
    number, kind, device = complex(fill_value), _PART[dtype], options.get("device")
    real = torch.full(size, number.real, dtype=kind, device=device)
    return torch.complex(real, torch.full(size, number.imag, dtype=kind, device=device))


def _all(value: float) -> Callable[..., Any]:
    def decomposition(size: Sequence[Any], *, dtype: torch.dtype | None = None, **options: Any) -> Any:
        return full(size, value, dtype=dtype, **options)

    return decomposition


def full_like(self: Tensor, fill_value: complex, *, dtype: torch.dtype | None = None, **options: Any) -> Any:
    """One number everywhere, in the shape of another tensor."""
    return full(self.shape, fill_value, dtype=dtype or self.dtype, device=self.device)


def _all_like(value: float) -> Callable[..., Any]:
    def decomposition(self: Tensor, *, dtype: torch.dtype | None = None, **options: Any) -> Any:
        return full_like(self, value, dtype=dtype)

    return decomposition


def new_full(
    self: Tensor, size: Sequence[Any], fill_value: complex, *, dtype: torch.dtype | None = None, **options: Any
) -> Any:
    """One number everywhere, of the type of another tensor."""
    return full(size, fill_value, dtype=dtype or self.dtype, device=self.device)


def _all_new(value: float) -> Callable[..., Any]:
    def decomposition(self: Tensor, size: Sequence[Any], *, dtype: torch.dtype | None = None, **options: Any) -> Any:
        return new_full(self, size, value, dtype=dtype)

    return decomposition


def fill(self: Tensor, value: Any) -> Any:
    """Every element the same number."""
    if not self.is_complex():
        return NotImplemented
    return (
        value.to(self.dtype).expand(self.shape).clone() if isinstance(value, Tensor) else torch.full_like(self, value)
    )


def masked_fill(self: Tensor, mask: Tensor, value: Any) -> Any:
    """A choice, which has a form of its own."""
    return torch.where(mask, fill(self, value), self) if self.is_complex() else NotImplemented


def copy(self: Tensor, src: Tensor, non_blocking: bool = False) -> Any:
    """The source, in the place's shape and type."""
    return src.to(self.dtype).expand(self.shape).clone() if self.is_complex() else NotImplemented


def _beside_number(operator: Any) -> Callable[..., Any]:
    """A real tensor beside a complex number becomes complex first."""

    def decomposition(self: Any, other: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, Tensor) or self.is_complex() or not isinstance(other, complex):
            return NotImplemented
        return operator(self.to(torch.promote_types(self.dtype, torch.complex64)), other, *args, **kwargs)

    return decomposition


def power(self: Tensor, exponent: Any) -> Any:
    """Squares as products, other powers by the angle."""
    if not self.is_complex() or isinstance(exponent, complex):
        return NotImplemented
    return self * self if exponent == 2 else torch.polar(self.abs() ** exponent, self.angle() * exponent)


def root(self: Tensor) -> Any:
    """Half the angle."""
    return torch.polar(self.abs().sqrt(), self.angle() / 2) if self.is_complex() else NotImplemented


def logarithm(self: Tensor) -> Any:
    """By length and angle: log z = log|z| + i·arg z."""
    return torch.complex(self.abs().log(), self.angle()) if self.is_complex() else NotImplemented


def sine(self: Tensor) -> Any:
    """sin(a + bi) = sin a·cosh b + i·cos a·sinh b."""
    if not self.is_complex():
        return NotImplemented
    a, b = self.real, self.imag
    return torch.complex(a.sin() * b.cosh(), a.cos() * b.sinh())


def cosine(self: Tensor) -> Any:
    """cos(a + bi) = cos a·cosh b - i·sin a·sinh b."""
    if not self.is_complex():
        return NotImplemented
    a, b = self.real, self.imag
    return torch.complex(a.cos() * b.cosh(), -(a.sin() * b.sinh()))


def equal(self: Tensor, other: Tensor) -> Any:
    """In both parts."""
    if not (self.is_complex() and other.is_complex()):
        return NotImplemented
    return (self.real == other.real) & (self.imag == other.imag)


def is_nan(self: Tensor) -> Any:
    """In either part."""
    return self.real.isnan() | self.imag.isnan() if self.is_complex() else NotImplemented


def norm(self: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Of the absolute values."""
    return aten.linalg_vector_norm.default(self.abs(), *args, **kwargs) if self.is_complex() else NotImplemented


def einsum(equation: str, tensors: Sequence[Tensor], *, path: Any = None) -> Any:
    """The sum of one real product for each choice of parts, k imaginary parts giving the factor i to the k."""
    if not any(tensor.is_complex() for tensor in tensors):
        return NotImplemented
    choices = [[(t.real, 0), (t.imag, 1)] if t.is_complex() else [(t, 0)] for t in tensors]
    sums: list[Any] = [0, 0]
    for chosen in product(*choices):
        turns = sum(imaginary for _, imaginary in chosen)
        term = torch.einsum(equation, [part for part, _ in chosen])
        sums[turns % 2] = sums[turns % 2] + (-term if turns % 4 > 1 else term)
    return torch.complex(*sums)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    """Written out."""
    if not input.is_complex():
        return NotImplemented
    result = input @ weight.transpose(-1, -2)
    return result if bias is None else result + bias


def addmm(self: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Any:
    """Written out, for matrices and for batches of them."""
    return self * beta + (mat1 @ mat2) * alpha if self.is_complex() else NotImplemented


def addcmul(self: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Any:
    """Written out."""
    return self + tensor1 * tensor2 * value if self.is_complex() else NotImplemented


_MOVING = (
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.unbind.int,
    aten.cumsum.default,
    aten.slice_scatter.default,
    aten.select_scatter.default,
    aten.index_put.default,
    aten.gather.default,
    aten.scatter.src,
    aten.scatter_add.default,
    aten.tril.default,
    aten.triu.default,
    aten.diagonal.default,
    aten.unfold.default,
)

TABLE: dict[Any, Callable[..., Any]] = {
    **{operator: _by_parts(operator) for operator in _MOVING},
    **{op: _beside_number(op) for op in (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor)},
    aten.full.default: full,
    aten.zeros.default: _all(0),
    aten.ones.default: _all(1),
    aten.full_like.default: full_like,
    aten.zeros_like.default: _all_like(0),
    aten.ones_like.default: _all_like(1),
    aten.new_full.default: new_full,
    aten.new_zeros.default: _all_new(0),
    aten.new_ones.default: _all_new(1),
    aten.pad.default: pad,
    aten.fill.Scalar: fill,
    aten.fill.Tensor: fill,
    aten.masked_fill.Scalar: masked_fill,
    aten.masked_fill.Tensor: masked_fill,
    aten.copy.default: copy,
    aten.pow.Tensor_Scalar: power,
    aten.sqrt.default: root,
    aten.log.default: logarithm,
    aten.sin.default: sine,
    aten.cos.default: cosine,
    aten.eq.Tensor: equal,
    aten.isnan.default: is_nan,
    aten.linalg_vector_norm.default: norm,
    aten.einsum.default: einsum,
    aten.linear.default: linear,
    aten.addmm.default: addmm,
    aten.baddbmm.default: addmm,
    aten.addcmul.default: addcmul,
}
