"""Launching products with weights of 4 or 8 bits: one row or a few."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor

from ..counters import counters
from ..early_starts import may_start_early
from ..kernels import rows_nbits as few_rows
from ..kernels.arranged_rows import arranged_rows
from ..kernels.gemv_nbits import LONGEST, default, gemv_nbits, quads
from ..kernels.rows_nbits import MOST_ROWS
from ..library.nbits import Packed
from .one_row import options

__all__ = ["MOST_ROWS", "launch_nbits"]


def launch_nbits(
    x: Tensor,
    w: Packed,
    gate: Packed | None,
    norm: Tensor | None,
    residual: Tensor | None,
    epsilon: float,
    activation: str,
    bits: int,
    block: int,
    candidate: Sequence[int] | None,
    *,
    early: bool | None = None,
) -> Tensor:
    """One row, or up to `MOST_ROWS`, times a matrix.

    Args:
        x: up to `MOST_ROWS` rows of K; this and what follows as `library.nbits.linear_nbits` takes them.
        w: N rows.
        gate: like w.
        norm: (K).
        residual: broadcasts to (…, N).
        epsilon: of the norm.
        activation: a name that `kernels.activations` knows, or "".
        bits: 4 or 8.
        block: weights that share a scale.
        candidate: the rows of x that it was measured for, then the kernel's settings.
        early: as for `launch_gemv`; weights that the kernel ahead computes must be awaited.
    """
    n, k = len(w.codes), x.shape[-1]
    rows = x.numel() // k
    y = torch.empty((*x.shape[:-1], n), dtype=x.dtype, device=x.device)
    residual = None if residual is None else residual.expand(y.shape).contiguous()
    if candidate is not None and (candidate[0] == 1) is not (rows == 1):
        candidate = None
    settings = None if candidate is None else candidate[1:]
    # Settings are chosen for constant weights alone; see `library.linear`.
    early = (may_start_early(x) and candidate is not None) if early is None else early
    fused = {
        "ZEROS": w.zeros is not None,
        "NORM": norm is not None,
        "GATED": gate is not None,
        "RESIDUAL": residual is not None,
        "ACTIVATION": activation,
        "EARLY": early,
    }
    sizes = {"N": n, "K": k, "BITS": bits, "BLOCK": block}
    second = (None, None, None) if gate is None else gate
    if rows == 1 and k <= LONGEST:
        tile, programs, warps = settings or default(n, k, bits, block)
        operands = _operands(x, _words(w.codes), *w[1:], _words(second[0]), *second[1:], norm, residual, y)
        kernel: Any = gemv_nbits
        sizes |= {"BN": tile, "BQ": quads(k, bits, block), "PROGRAMS": programs}
        kernel[(programs,)](*operands, epsilon, **sizes, **fused, ASSEMBLED=x.is_cuda, **options(warps, early))
        return y
    rows_of_tile, split, blocks, warps, stages = settings or few_rows.default(bits, block)
    steps, tiles = ceil(k / (blocks * block)), ceil(n / rows_of_tile)
    arranged = (
        x.new_empty(steps * blocks * block * 16 * blocks),
        *_floats(x, *[steps * 16 * blocks] * 3),
    )
    (given, scale) = _operands(x, norm)
    sizes |= {"BLOCKS": blocks}
    few: Any = arranged_rows
    arranging = {"K": k, "BITS": bits, "BLOCK": block, "BLOCKS": blocks, "NORM": norm is not None, "EARLY": early}
    few[(steps,)](given, scale, *arranged, rows, **arranging, **options(4, early))
    held = tiles * rows_of_tile * 16 * blocks * split * (1 if gate is None else 2) if split > 1 else 1
    operands = _operands(_units(w.codes), *w[1:], _units(second[0]), *second[1:], residual, y)
    kernel = few_rows.rows_nbits
    kernel[(tiles, split)](
        *arranged,
        *operands,
        *_floats(x, held),
        counters(x.device, tiles),
        epsilon,
        rows,
        **sizes,
        **fused,
        BN=rows_of_tile,
        SPLIT=split,
        STAGES=stages,
        ASSEMBLED=x.is_cuda,
        **options(warps, early),
    )
    return y


def _floats(x: Tensor, *counts: int) -> list[Tensor]:
    """Room for so many numbers in single precision."""
    return [torch.empty(count, dtype=torch.float32, device=x.device) for count in counts]


def _units(packed: Tensor | None) -> Tensor | None:
    """Bytes as the 16-bit units they lie in."""
    return None if packed is None else _in_words(packed).view(torch.int16)


def _in_words(packed: Tensor) -> Tensor:
    """Bytes that begin where a word does; a view may begin anywhere."""
    packed = packed.contiguous()
    return packed.clone() if packed.storage_offset() % 4 else packed


def _words(packed: Tensor | None) -> Tensor | None:
    """Bytes as the 32-bit words they lie in."""
    return None if packed is None else _in_words(packed).view(torch.int32)


def _operands(*tensors: Tensor | None) -> list[Tensor]:
    """All of them in memory row by row; something in the place of what is left out, which no kernel reads."""
    given = [None if t is None else t.contiguous() for t in tensors]
    something = next(t for t in given if t is not None)
    return [something if t is None else t for t in given]
