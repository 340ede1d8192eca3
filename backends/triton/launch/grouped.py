"""Launching the kernel of two products whose groups of warps walk by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..kernels.grouped_settings import ROWS, groups, registers
from ..widths import parts
from .product import laid, processors


def launch_grouped(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    v: Tensor,
    c: Tensor,
    residual: Tensor | None,
    norm: Sequence[Tensor],
    epsilon: float,
    activation: str,
    candidate: Sequence[int],
) -> Tensor:
    """Both products in one launch, and LayerNorm of the rows ahead where there is a norm.

    Args:
        x: this and what follows as `library.mlp.mlp` takes them.
        w: (H, K).
        b: (H).
        v: (O, H).
        c: (O).
        residual: as the result.
        norm: scale and shift, or nothing.
        epsilon: of the norm.
        activation: a name that `kernels.activations` knows.
        candidate: `GROUPED`, hidden units of a block, blocks on their way.
    """
    from ..kernels.grouped_mlp import grouped_mlp

    _, block, stages = candidate
    rows, (hidden, inner), out = prod(x.shape[:-1]), w.shape, v.shape[0]
    y = torch.empty((*x.shape[:-1], out), dtype=x.dtype, device=x.device)
    (k0, k1), (o0, o1) = parts(inner), parts(out)
    flat = y.view(rows, out)
    summed = flat if residual is None else residual.expand(y.shape).reshape(rows, out)
    programs = min(processors(x.device), -(-rows // (ROWS * groups(stages))))
    gamma, beta = (t.contiguous() for t in norm) if len(norm) > 0 else (b, b)
    kernel: Any = grouped_mlp
    kernel[(programs,)](
        *_in_two(x.reshape(rows, inner), [ROWS, k0], [ROWS, k1 or k0]),
        *_in_two(w, [block, k0], [block, k1 or k0]),
        *_in_two(v, [o0, block], [o1 or o0, block]),
        *_in_two(summed, [ROWS, o0], [ROWS, o1 or o0]),
        *_in_two(flat, [ROWS, o0], [ROWS, o1 or o0]),
        b.contiguous(),
        c.contiguous(),
        gamma,
        beta,
        epsilon,
        ROWS=rows,
        K=inner,
        H=hidden,
        O=out,
        K0=k0,
        K1=k1,
        O0=o0,
        O1=o1,
        RESIDUAL=residual is not None,
        NORMED=len(norm) > 0,
        ACTIVATION=activation,
        BM=ROWS,
        BH=block,
        STAGES=stages,
        PROGRAMS=programs,
        REGISTERS=registers(stages),
        num_warps=4,
    )
    return y


def _in_two(matrix: Tensor, first: list[int], second: list[int]) -> tuple[Any, Any]:
    """A matrix in tiles of two sizes."""
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    dtype = gl.bfloat16 if matrix.dtype == torch.bfloat16 else gl.float16
    layout: Any = gl.NVMMASharedLayout.get_default_for
    matrix = laid(matrix)
    sizes, strides = list(matrix.shape), [matrix.shape[1], 1]
    one, two = (TensorDescriptor(matrix, sizes, strides, t, layout(t, dtype)) for t in (first, second))
    return one, two
