"""Launching the product of few rows whose programs ask for everything at once."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..counters import split_sums
from ..early_starts import NEVER, when
from ..kernels.whole_product import whole_product
from ..widths import parts
from .one_row import options
from .product import described, laid


def launch_whole(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    norm: Sequence[Tensor],
    epsilon: float,
    activation: str,
    after: str,
    candidate: Sequence[int],
) -> Tensor:
    """A product of few rows with a matrix, and LayerNorm of the rows ahead where there is a norm.

    Args:
        x: this and what follows as `library.affine.affine` takes them.
        w: (N, K); this, the bias and the norm must be constants where the kernel may start early.
        bias: (N).
        residual: as the result.
        norm: scale and shift, or nothing.
        epsilon: of the norm.
        activation: a name that `kernels.activations` knows, or "".
        after: another.
        candidate: `WHOLE`, rows and columns of a tile, warps, whether the copying engine brings the weights, parts of a
            row (records older than the last two do not say: it does not, and a row is one part).
    """
    _, tile, columns, warps, *more = candidate
    fetches, split = (*more, *(0, 1)[len(more) :])
    rows, (n, k) = prod(x.shape[:-1]), w.shape
    y = torch.empty((*x.shape[:-1], n), dtype=x.dtype, device=x.device)
    k0, k1 = parts(k // split)
    given = [w, bias, *norm]
    w, bias, *norm = (laid(w) if fetches else w.contiguous(), *(t.contiguous() for t in given[1:]))
    tiles = -(-rows // tile) * -(-n // columns)
    lie = all(a is b for a, b in zip(given, (w, bias, *norm), strict=True))  # else what copied them is the kernel ahead
    early = when(x, tiles * split) if lie else NEVER
    gamma, beta = norm if norm else (bias, bias)
    weights = (described(w, columns, k0), described(w, columns, k1 or k0)) if fetches else (w, w)
    kernel: Any = whole_product
    kernel[(tiles, split)](
        x.contiguous(),
        *weights,
        bias,
        gamma,
        beta,
        bias if residual is None else residual.expand(y.shape).contiguous(),
        y,
        *split_sums(x.device, tiles, tile * columns, split),
        epsilon,
        ROWS=rows,
        N=n,
        K=k,
        K0=k0,
        K1=k1,
        NORMED=len(norm) > 0,
        RESIDUAL=residual is not None,
        ACTIVATION=activation,
        AFTER=after,
        BM=tile,
        BN=columns,
        SPLIT=split,
        FETCHED=bool(fetches),
        EARLY=early,
        **options(warps, early),
    )
    return y
