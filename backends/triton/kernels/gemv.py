"""y = act(norm(x)·Wᵀ + b) (⊙ norm(x)·Gᵀ) + r for one row x: a step of decoding, bound by the bytes of W.

Every program owns a few rows of W and reads them once, whole tiles in flight at a time. RMSNorm costs no pass of its
own: rms(x)⁻¹ is one number and the product is linear, so Σ x² is summed beside the product and multiplies its result.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .activations import activate

DEFAULT = (4, 1024, 4)  # rows, columns, warps
ROWS, COLUMNS, WARPS = (2, 4, 8, 16), (512, 1024, 2048, 4096), (4, 8)
FEWEST, MOST = 16, 128  # elements of a tile that a thread holds: fewer leave memory idle, more spill


def candidates(k: int, *, gated: bool) -> list[tuple[int, int, int]]:
    """Settings worth measuring for rows of k weights: a tile's rows, its columns, warps."""
    widest = max(c for c in (256, *COLUMNS) if c < 2 * max(k, 256))
    found: list[tuple[int, int, int]] = []
    for rows in ROWS:
        for columns in (c for c in (256, *COLUMNS) if c <= widest and (c >= 512 or c == widest)):
            for warps in WARPS:
                held = rows * columns * (2 if gated else 1) // (32 * warps)
                if FEWEST <= held <= MOST or (columns == widest and held < FEWEST and rows == ROWS[-1]):
                    found.append((rows, columns, warps))
    return found


@triton.jit
def gemv(
    x,
    w,
    gate,
    scale,
    bias,
    residual,
    y,
    eps,
    N: tl.constexpr,
    K: tl.constexpr,
    NORM: tl.constexpr,
    GATED: tl.constexpr,
    BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: `BN` rows of the weights (and of the gate's), all of K.

    Args:
        x: (K), w and gate: (N, K) row by row, scale: (K) of the norm, bias, residual and y: (N).
        EARLY: start before the kernel ahead has ended, and wait for it only when the first weights are under way.
    """
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    columns = tl.arange(0, BK)
    inside = (rows < N)[:, None] & (columns < K)[None, :]
    places = rows[:, None].to(tl.int64) * K + columns[None, :]
    tile = tl.load(w + places, inside, 0.0)
    beside = tl.load(gate + places, inside, 0.0) if GATED else tile
    if EARLY:
        gdc_launch_dependents()
        gdc_wait()
    product = tl.zeros((BN, BK), tl.float32)
    gating = tl.zeros((BN, BK), tl.float32)
    squares = tl.zeros((BK,), tl.float32)
    for start in tl.static_range(0, K, BK):
        if start > 0:
            inside = (rows < N)[:, None] & (start + columns < K)[None, :]
            tile = tl.load(w + places + start, inside, 0.0)
            beside = tl.load(gate + places + start, inside, 0.0) if GATED else tile
        part = tl.load(x + start + columns, start + columns < K, 0.0).to(tl.float32)
        if NORM:
            squares += part * part
            part *= tl.load(scale + start + columns, start + columns < K, 0.0).to(tl.float32)
        product += tile.to(tl.float32) * part[None, :]
        if GATED:
            gating += beside.to(tl.float32) * part[None, :]
    total = tl.sum(product, 1)
    factor = 1.0
    if NORM:
        factor = 1.0 / tl.sqrt(tl.sum(squares, 0) / K + eps)
        total *= factor
    if BIAS:
        total += tl.load(bias + rows, rows < N, 0.0).to(tl.float32)
    total = activate(total, ACTIVATION)
    if GATED:
        total *= tl.sum(gating, 1) * factor
    if RESIDUAL:
        total += tl.load(residual + rows, rows < N, 0.0).to(tl.float32)
    tl.store(y + rows, total.to(y.dtype.element_ty), rows < N)
