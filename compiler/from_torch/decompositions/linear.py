"""Solving linear equations, and LSTMs with a projection: what ONNX has no operator for at all, written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

LARGEST = 16  # rows of a system that is written out, step by step


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Any:
    """X with A·X = B (or X·A = B), by Gauss and Jordan's elimination with partial pivoting.

    `A` [..., n, n]; `B` [..., n, k], or a vector [..., n].
    """
    n: int | torch.SymInt = A.shape[-1]
    if isinstance(n, torch.SymInt) or n > LARGEST:
        return NotImplemented
    if not left:
        transposed = solve(A.transpose(-1, -2), B.transpose(-1, -2))
        return transposed if transposed is NotImplemented else transposed.transpose(-1, -2)
    # torch takes B for vectors when it has one dimension, or A's shape without its last one.
    vector = B.dim() == 1 or (A.dim() - 1 == B.dim() and A.shape[:-1] == B.shape)
    sides = B.unsqueeze(-1) if vector else B
    batch = torch.broadcast_shapes(A.shape[:-2], sides.shape[:-2])
    rows = torch.cat([A.expand(*batch, n, n), sides.expand(*batch, n, sides.shape[-1])], -1)
    place = torch.arange(n, device=A.device).unsqueeze(-1)
    for step in range(n):
        size = torch.where(place[:, 0] >= step, rows[..., step].abs(), -1.0)
        pivot = size.argmax(-1, keepdim=True).unsqueeze(-1)
        chosen = rows.gather(-2, pivot.expand(*batch, 1, rows.shape[-1]))
        # The pivot's row and this step's change places.
        rows = torch.where(place == pivot, rows[..., step : step + 1, :], rows)
        chosen = chosen / chosen[..., step : step + 1]
        rows = torch.where(place == step, chosen, rows - rows[..., step : step + 1] * chosen)
    result = rows[..., n:]
    return result.squeeze(-1) if vector else result


def inverse(A: Tensor) -> Any:
    """The inverse of each matrix."""
    return solve(A, torch.eye(A.shape[-1], dtype=A.dtype, device=A.device))


def inverse_checked(A: Tensor, *, check_errors: bool = False) -> Any:
    """The inverse, and that all went well: a singular matrix gives infinities, and no exception."""
    result = inverse(A)
    done = torch.zeros(A.shape[:-2], dtype=torch.int32, device=A.device)
    return result if result is NotImplemented else (result, done)


def lstm(
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    """With a projection, the steps one after the other."""
    from torch._decomp.decompositions import lstm_impl

    if hx[0].shape[2] == hx[1].shape[2]:
        return NotImplemented
    return lstm_impl(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)


TABLE: dict[Any, Callable[..., Any]] = {
    aten.linalg_solve.default: solve,
    aten.linalg_inv.default: inverse,
    aten.inverse.default: inverse,
    aten.linalg_inv_ex.default: inverse_checked,
    aten.lstm.input: lstm,
}
