"""Tensors made out of nothing, or out of sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .dtypes import to_torch, torch_dtype
from .operation import Operation
from .registry import Unsupported, operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("Constant")
def constant(op: Operation) -> Tensor:
    """The tensor, number or list in the node's one attribute."""
    for name, attribute in op.node.attributes.items():
        if name == "value":
            return to_torch(attribute.as_tensor())
        if name in ("value_float", "value_floats"):
            return torch.tensor(attribute.value, dtype=torch.float32)
        if name in ("value_int", "value_ints"):
            return torch.tensor(attribute.value, dtype=torch.int64)
    raise Unsupported("a constant that is sparse or a string")


@operator("ConstantOfShape", creates=True)
def constant_of_shape(op: Operation, shape: Tensor) -> Tensor:
    """One value in a given shape."""
    value = to_torch(op.node.attributes["value"].as_tensor()) if "value" in op.node.attributes else torch.zeros(1)
    sizes = op.sizes(0, shape)
    return op.call(torch.full, sizes, value.item(), dtype=value.dtype, device=op.device)


@operator("Range", creates=True, widens=True)
def range_(op: Operation, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Numbers from `start` up to `limit`, in steps."""
    integers = [op.integers(index) for index in range(3)]
    dtype = op.dtype(0) or op.output_dtype()
    if all(number is not None for number in integers) and dtype is not None:
        first, last, step = (number.items[0] for number in integers if number is not None)
        return op.call(torch.arange, first, last, step, dtype=dtype, device=op.device)
    return op.call(ranged, start, limit, delta, op.device)


@operator("EyeLike")
def eye_like(op: Operation, x: Tensor) -> Tensor:
    """Ones on a diagonal, in the shape of a matrix."""
    to = op.attribute("dtype", 0)
    return op.call(eye, x, op.attribute("k", 0), torch_dtype(to) if to else x.dtype)


def ranged(start: Tensor, limit: Tensor, delta: Tensor, device: torch.device) -> Tensor:
    """Numbers from `start` up to `limit`; the count and each number are computed as the specification says."""
    count = max(int(torch.ceil((limit.to(torch.float64) - start) / delta)), 0)
    if not start.is_floating_point():
        return (torch.arange(count, device=device) * delta.item() + start.item()).to(start.dtype)
    steps = torch.arange(count, dtype=start.dtype, device=device)
    return start.to(device) + steps * delta.to(device)


def eye(x: Tensor, k: int, dtype: torch.dtype) -> Tensor:
    """Ones on diagonal `k`, in the shape of `x`."""
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    return (torch.arange(x.shape[1], device=x.device) - rows == k).to(dtype)
