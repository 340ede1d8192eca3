"""Random numbers and dropout.

Numbers come from torch's generators (`torch.manual_seed`), so they are not those another runtime draws; the attribute
`seed` is not used, or each call would return the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .dtypes import torch_dtype
from .operation import Operation
from .registry import Unsupported, operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("Dropout", folds=False)
def dropout(op: Operation, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None) -> object:
    """`x` and a full mask in inference; random zeros in training, which only opset ≥ 12 can ask for."""
    if op.version < 12:
        return x, torch.ones_like(x, dtype=torch.bool) if op.version >= 10 else torch.ones_like(x)
    known = op.number(2)
    active = bool(known) if known is not None or training is None else training
    rate = 0.5 if ratio is None else op.number(1)
    if active is False or rate == 0.0:
        return x, torch.ones_like(x, dtype=torch.bool)
    if active is True and rate is not None and not op.wants(1):
        return functional.dropout(x, rate, True)
    found = op.call(masked_dropout, x, ratio if rate is None else rate, active)
    return found[0], found[1]


@operator("RandomNormal", "RandomUniform", folds=False, creates=True)
def random(op: Operation) -> Tensor:
    """Random numbers of a given shape."""
    dtype = torch_dtype(op.attribute("dtype", 1))
    sizes = list(op.required("shape"))
    return drawn(op, op.call(torch.empty, sizes, dtype=dtype, device=op.device))


@operator("RandomNormalLike", "RandomUniformLike", folds=False)
def random_like(op: Operation, x: Tensor) -> Tensor:
    """Random numbers of another tensor's shape, and type unless one is given."""
    to = op.attribute("dtype", 0)
    return drawn(op, torch.empty_like(x, dtype=torch_dtype(to)) if to else torch.empty_like(x))


@operator("Bernoulli", folds=False)
def bernoulli(op: Operation, x: Tensor) -> Tensor:
    """Zeros and ones, with the given probabilities of one."""
    to = op.attribute("dtype", 0)
    return torch.bernoulli(x).to(torch_dtype(to)) if to else torch.bernoulli(x)


@operator("Multinomial", folds=False)
def multinomial(op: Operation, x: Tensor) -> Tensor:
    """Classes drawn from unnormalised log-probabilities."""
    drawn_classes = torch.multinomial(torch.softmax(x, -1), op.attribute("sample_size", 1), replacement=True)
    return drawn_classes.to(torch_dtype(op.attribute("dtype", 6)))


def drawn(op: Operation, empty: Tensor) -> Tensor:
    """Numbers of the node's distribution in the shape of `empty`."""
    if "Normal" in op.node.op_type:
        mean, scale = op.attribute("mean", 0.0), op.attribute("scale", 1.0)
        return torch.add(torch.mul(torch.randn_like(empty), scale), mean)
    if "Uniform" not in op.node.op_type:
        raise Unsupported("unknown distribution")
    low, high = op.attribute("low", 0.0), op.attribute("high", 1.0)
    return torch.add(torch.mul(torch.rand_like(empty), high - low), low)


def masked_dropout(x: Tensor, ratio: Tensor | float, training: Tensor | bool) -> tuple[Tensor, Tensor]:
    """Dropout with its mask; whether to drop, and how much, may be known only when the program runs."""
    rate = float(ratio)
    if not bool(training) or rate == 0.0:
        return x, torch.ones_like(x, dtype=torch.bool)
    mask = torch.rand_like(x) >= rate
    return torch.where(mask, x / (1.0 - rate), torch.zeros_like(x)), mask
