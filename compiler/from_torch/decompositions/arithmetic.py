"""Element-wise operators that torch's ONNX translation lacks or gets wrong, written with ones that it has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    pass

aten = torch.ops.aten


def _as_fraction(operator: Any) -> Callable[..., Any]:
    """An integer tensor beside a fraction: brought to a fraction first, where torch's type promotion stumbles."""

    def decomposition(self: Tensor, other: Any, *args: Any, **kwargs: Any) -> Any:
        whole = isinstance(other, float) and not (self.is_floating_point() or self.is_complex())
        return operator(self.to(torch.get_default_dtype()), other, *args, **kwargs) if whole else NotImplemented

    return decomposition


def add(self: Tensor, other: Tensor | float, *, alpha: float = 1) -> Any:
    """Of booleans: either."""
    if isinstance(other, float):
        return _as_fraction(aten.add.Tensor)(self, other, alpha=alpha)
    both = isinstance(other, Tensor) and self.dtype == other.dtype == torch.bool
    return self | other if both and alpha else NotImplemented


def rounded(self: Tensor) -> Any:
    """Integers are whole already."""
    return NotImplemented if self.is_floating_point() else self


def masked_fill(self: Tensor, mask: Tensor, value: Any) -> Any:
    """Of booleans: a choice, which has a form of its own."""
    if self.dtype != torch.bool:
        return NotImplemented
    value = value.to(torch.bool) if isinstance(value, Tensor) else torch.full_like(self, bool(value))
    return torch.where(mask, value, self)


def fmax(self: Tensor, other: Tensor) -> Tensor:
    """The larger number, a NaN counting as none."""
    return torch.where(self.isnan() | (other > self), other, self) if self.is_floating_point() else self.maximum(other)


def fmin(self: Tensor, other: Tensor) -> Tensor:
    """The smaller number, a NaN counting as none."""
    return torch.where(self.isnan() | (other < self), other, self) if self.is_floating_point() else self.minimum(other)


def hypot(self: Tensor, other: Tensor) -> Tensor:
    """The length of the hypotenuse, without overflow."""
    a, b = self.abs(), other.abs()
    longer = torch.maximum(a, b)
    ratio = torch.minimum(a, b) / torch.where(longer == 0, torch.ones_like(longer), longer)
    return longer * (1 + ratio * ratio).sqrt()


def signbit(self: Tensor) -> Tensor:
    """Whether the sign is negative, that of -0 included."""
    return (self < 0) | ((self == 0) & (self.reciprocal() < 0)) if self.is_floating_point() else self < 0


def copysign(self: Tensor, other: Tensor | float) -> Tensor:
    """One's magnitude with the other's sign."""
    sign = other if isinstance(other, Tensor) else scalar_like(other, self)
    size = (self if self.is_floating_point() else self.to(torch.float32)).abs()
    return torch.where(signbit(sign), -size, size)


def scalar_like(value: float, like: Tensor) -> Tensor:
    """A number as a tensor, of the type that it has beside another."""
    kind = torch.float32 if isinstance(value, float) and not like.is_floating_point() else like.dtype
    return torch.full((), value, dtype=kind, device=like.device)


def atan2(self: Tensor, other: Tensor) -> Any:
    """The angle of a point; torch's translation is half a turn off on the negative axis, and undefined at 0."""
    if not (self.is_floating_point() and other.is_floating_point()):
        kind = torch.promote_types(torch.promote_types(self.dtype, other.dtype), torch.float32)
        return atan2(self.to(kind), other.to(kind))
    away = torch.where((self == 0) & (other == 0), torch.ones_like(other), other)
    half_turn = copysign(torch.full_like(away, math.pi), self)
    return torch.atan(self / away) + torch.where(signbit(other), half_turn, torch.zeros_like(half_turn))


def log_sigmoid(self: Tensor) -> Tensor:
    """Without underflow: log σ(x) = min(x, 0) - log(1 + exp(-|x|)) (torch takes the logarithm of 0 below -104)."""
    return self.clamp(max=0) - (-self.abs()).exp().log1p()


def log_sigmoid_forward(self: Tensor) -> tuple[Tensor, Tensor]:
    """As above, with what the backward pass would need."""
    return log_sigmoid(self), torch.empty(0, dtype=self.dtype, device=self.device)


def rrelu(
    self: Tensor,
    noise: Tensor,
    lower: float = 0.125,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Any = None,
) -> Any:
    """In evaluation mode the slope is the middle of its range."""
    if training:
        return NotImplemented
    return torch.nn.functional.leaky_relu(self, (lower + upper) / 2), noise


_WITH_FRACTIONS = (
    aten.add.Scalar,
    aten.sub.Tensor,
    aten.sub.Scalar,
    aten.rsub.Scalar,
    aten.mul.Tensor,
    aten.mul.Scalar,
    aten.div.Tensor,
    aten.div.Scalar,
)

TABLE: dict[Any, Callable[..., Any]] = {
    **{operator: _as_fraction(operator) for operator in _WITH_FRACTIONS},
    aten.add.Tensor: add,
    aten.ceil.default: rounded,
    aten.floor.default: rounded,
    aten.round.default: rounded,
    aten.trunc.default: rounded,
    aten.masked_fill.Scalar: masked_fill,
    aten.masked_fill.Tensor: masked_fill,
    aten.fmax.default: fmax,
    aten.fmin.default: fmin,
    aten.hypot.default: hypot,
    aten.signbit.default: signbit,
    aten.copysign.Tensor: copysign,
    aten.copysign.Scalar: copysign,
    aten.atan2.default: atan2,
    aten.log_sigmoid.default: log_sigmoid,
    aten.log_sigmoid_forward.default: log_sigmoid_forward,
    aten.rrelu_with_noise_functional.default: rrelu,
}
