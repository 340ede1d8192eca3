"""Launching the product of many rows whose tiles are fetched by the copying engine.

What the engine is told of a matrix (address, sizes, tile) goes along with a launch, so a captured graph keeps it, and
nothing is allocated for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ..early_starts import when
from ..kernels import tma_product as product
from ..kernels.hopper import PROCESSORS
from .one_row import options

BYTES = 2 * product.ALIGNED  # that addresses are multiples of


def may_fetch(x: Tensor, w: Tensor) -> bool:
    """Whether the kernel is made for the device and for these sizes: rows of x, (..., K), with w, (N, K, ...)."""
    return hopper(x.device) and product.takes(x.numel() // w.shape[1], w.shape[0], w.shape[1])


def hopper(device: torch.device) -> bool:
    """Whether it has the instructions of compute capability 9.0."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) == (9, 0)


def hopper_at_hand() -> bool:
    """Whether the current device is one of these."""
    return hopper(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def launch_fetched_affine(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    activation: str,
    after: str,
    candidate: Sequence[int],
) -> Tensor:
    """A product of many rows with a matrix.

    Args:
        x: this and what follows as `library.convolution.affine` takes them.
        w: (N, K).
        bias: (N).
        residual: as the result.
        activation: a name that `kernels.activations` knows, or "".
        after: another.
        candidate: `TMA`, then what `kernels.tma_product.SETTINGS` has.
    """
    y = torch.empty((*x.shape[:-1], w.shape[0]), dtype=x.dtype, device=x.device)
    residual = None if residual is None else residual.expand(y.shape).reshape(-1, w.shape[0])
    _launch(x.reshape(-1, w.shape[1]), w, bias, residual, y.view(-1, w.shape[0]), activation, after, candidate)
    return y


def launch_fetched_convolution(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    activation: str,
    after: str,
    candidate: Sequence[int],
) -> Tensor:
    """A convolution of one tap, neither strided nor padded: a product of as many rows as there are pixels.

    Args:
        x: this and what follows as `library.convolution.convolution` takes them.
        w: (O, C, 1, 1).
        bias: (O).
        residual: as the result.
        activation: a name that `kernels.activations` knows, or "".
        after: another.
        candidate: as for `launch_fetched_affine`.
    """
    residual = None if residual is None else residual.expand(x.shape[0], w.shape[0], *x.shape[2:]).permute(0, 2, 3, 1)
    weight = w.reshape(w.shape[0], w.shape[1])
    y = launch_fetched_affine(x.permute(0, 2, 3, 1), weight, bias, residual, activation, after, candidate)
    return y.permute(0, 3, 1, 2)


def _launch(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    y: Tensor,
    activation: str,
    after: str,
    candidate: Sequence[int],
) -> None:
    _, rows, columns, inner, parts, stages, warps, programs = candidate
    (m, n), k = y.shape, x.shape[1]
    written = described(y, rows, columns // parts)
    most = processors(x.device) * programs
    launched = min(most, -(-m // rows) * -(-n // columns))
    early = when(x, launched)
    kernel: Any = product.tma_product
    kernel[(launched,)](
        described(x, rows, inner),
        described(w, columns, inner),
        bias.contiguous(),
        written if residual is None else described(residual, rows, columns // parts),
        written,
        M=m,
        N=n,
        K=k,
        RESIDUAL=residual is not None,
        ACTIVATION=activation,
        AFTER=after,
        BM=rows,
        BN=columns,
        BK=inner,
        PARTS=parts,
        GROUP=product.GROUP,
        PROGRAMS=most,
        EARLY=early,
        num_stages=stages,
        **options(warps, early),
        maxnreg=product.registers(warps, programs),
    )


def described(matrix: Tensor, rows: int, columns: int) -> TensorDescriptor:
    """A matrix in tiles."""
    matrix = laid(matrix)
    return TensorDescriptor(matrix, list(matrix.shape), [matrix.shape[1], 1], [rows, columns])


def laid(matrix: Tensor) -> Tensor:
    """A matrix that the engine reads; a copy where it does not lie row by row from an address that the engine takes."""
    matrix = matrix.contiguous()
    return matrix.clone() if matrix.data_ptr() % BYTES else matrix


def processors(device: torch.device) -> int:
    """How many there are; where there is no device, those of the one that settings are thought out for."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else PROCESSORS
