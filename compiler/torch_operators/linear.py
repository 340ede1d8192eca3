"""Matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .elementwise import aligned
from .operation import Operation
from .registry import operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("MatMul", widens=True)
def matmul(op: Operation, a: Tensor, b: Tensor) -> Tensor:
    """Product of matrices, batched over the axes before the last two."""
    return torch.matmul(a, b)


@operator("Gemm", widens=True)
def gemm(op: Operation, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """`alpha·A·B + beta·C`; a `Linear` layer where it is one."""
    alpha, beta = op.attribute("alpha", 1.0), op.attribute("beta", 1.0)
    trans_a, trans_b = bool(op.attribute("transA", 0)), bool(op.attribute("transB", 0))
    if trans_b and not trans_a and alpha == 1.0 and is_bias(op, beta):
        return functional.linear(a, b, c)
    a, b = torch.t(a) if trans_a else a, torch.t(b) if trans_b else b
    if c is None or beta == 0.0:
        product = torch.mm(a, b)
        return product if alpha == 1.0 else torch.mul(product, number(op, alpha))
    if op.version < 7:
        c = aligned(op, a, c)
    return torch.addmm(c, a, b, beta=number(op, beta), alpha=number(op, alpha))


@operator("Einsum")
def einsum(op: Operation, *tensors: Tensor) -> Tensor:
    """Einstein's summation."""
    return torch.einsum(op.required("equation"), *tensors)


@operator("Det")
def det(op: Operation, x: Tensor) -> Tensor:
    """Determinants of the matrices in the last two axes."""
    return torch.linalg.det(x)


def is_bias(op: Operation, beta: float) -> bool:
    """Whether C is absent, or a vector with an element for each row of B."""
    if len(op.node.inputs) < 3 or op.node.inputs[2] is None:
        return True
    b, c = op.node.inputs[1], op.node.inputs[2]
    if beta != 1.0 or b is None or b.shape is None or c.shape is None or c.shape.rank() != 1:
        return False
    return isinstance(c.shape[0], int) and c.shape[0] == b.shape[0]


def number(op: Operation, factor: float) -> float | int:
    """A factor in the kind of number that the type of A takes."""
    return int(factor) if op.floating(0) is False else factor
