"""What one ONNX value is while its FX graph is being built."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch
from torch.fx import Proxy

from .dtypes import torch_dtype
from .registry import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

# A folded constant larger than this would take the place of the operator that makes it for no gain.
FOLD_LIMIT = 4096


@dataclass(frozen=True)
class Integers:
    """A scalar or vector of integers of which each is known: as a number, or as the FX node that yields it.

    Shapes travel in this form, as Python integers rather than tensors, so that a computed `Reshape` neither waits for
    a device nor hides the symbolic sizes from `torch.export`.

    Attributes:
        items: Python integers (or booleans), or proxies of such.
        scalar: rank 0 rather than 1.
        dtype: element type when a tensor is made of them.
    """

    items: list[int]
    scalar: bool = False
    dtype: torch.dtype = torch.int64

    @property
    def known(self) -> bool:
        """Whether every item is a number now."""
        return not any(isinstance(item, Proxy) for item in self.items)

    def nested(self) -> int | list[int]:
        """The argument for `torch.tensor`."""
        return self.items[0] if self.scalar else self.items


@dataclass
class Value:
    """A value in one or several of its forms.

    Attributes:
        proxy: the FX node that yields it as a tensor (or list of tensors, for an ONNX sequence).
        constant: its content, when known now.
        weight: the constant is an initializer of floating point, which must stay a buffer and not be folded away.
        trainable: it becomes a parameter.
        integers: its elements, when they are known one by one.
        host: `proxy` lies on the CPU whatever the model's device.
        rank: rank, where known.
        dtype: torch's element type, where known.
        name: ONNX name.
        variants: tensors already made of the other forms, by place.
    """

    proxy: Proxy | None = None
    constant: Tensor | None = None
    weight: bool = False
    trainable: bool = False
    integers: Integers | None = None
    host: bool = False
    rank: int | None = None
    dtype: torch.dtype | None = None
    name: str = ""
    variants: dict[str, Proxy] = field(default_factory=dict[str, Proxy])

    @property
    def foldable(self) -> bool:
        """Whether a rule may be evaluated on it now."""
        return self.constant is not None and not self.weight and self.constant.numel() <= FOLD_LIMIT

    @property
    def shared(self) -> bool:
        """Whether a sub-graph takes it as an argument instead of owning a copy."""
        return self.constant is not None and not self.foldable

    def elements(self) -> Integers | None:
        """Its integers one by one, from whichever form holds them."""
        if self.integers is not None:
            return self.integers
        constant = self.constant
        if constant is None or constant.dim() > 1 or constant.is_floating_point() or constant.is_complex():
            return None
        if constant.numel() > FOLD_LIMIT:
            return None
        items = constant.reshape(-1).tolist()
        return Integers(items, constant.dim() == 0, constant.dtype)


def described(value: ir.Value) -> Value:
    """What the IR says about a value."""
    known = Value(name=value.name or "", rank=None if value.shape is None else value.shape.rank())
    if isinstance(value.type, ir.TensorType) and value.type.dtype != ir.DataType.UNDEFINED:
        try:
            known.dtype = torch_dtype(value.type.dtype)
        except Unsupported:
            known.dtype = None
    return known
