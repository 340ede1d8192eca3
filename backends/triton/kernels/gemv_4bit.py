"""The product of one row with weights of 4 bits, a scale for every 128: bound by the bytes of the codes.

A code becomes a float without a conversion: put into the mantissa of 2⁷ or 2¹¹ it is worth 2ᵉ + code, and two of them
stand where they are needed after one shift. What is too much, 2ᵉ + 8 for codes around 8, is the same for every row of W
and is taken from x alone. `pack` lays codes out so that neighbouring words multiply neighbouring elements of x.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .activations import activate

GROUP = 128  # weights that share a scale
WORDS = GROUP // 8


@triton.jit
def gemv_4bit(
    x,
    w,
    w_scales,
    gate,
    gate_scales,
    norm,
    bias,
    residual,
    y,
    eps,
    low,
    high,
    N: tl.constexpr,
    K: tl.constexpr,
    NORM: tl.constexpr,
    GATED: tl.constexpr,
    BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BN: tl.constexpr,
    BG: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: `BN` rows of the weights (and of the gate's), `BG` groups at a time, the next ones under way.

    Args:
        x: (K), w and gate: int32 (N, K/8) as `pack` lays them out, their scales: (N, K/128), norm: (K), the rest: (N).
        EARLY: start before the kernel ahead has ended, and wait for it only when the first weights are under way.
    """
    rows = (tl.program_id(0) * BN + tl.arange(0, BN))[:, None]
    groups = tl.arange(0, BG)
    word = tl.arange(0, 16)
    first = groups[:, None] * 128 + word[None, :]
    live = rows < N
    at = (rows * (K // 128) + groups[None, :])[:, :, None] + 0 * word[None, None, :]
    places = at * 16 + word[None, None, :]
    inside = (live & (groups < K // 128)[None, :])[:, :, None]
    tile, by = tl.load(w + places, inside, 0), tl.load(w_scales + at, inside, 0.0)
    if GATED:
        tile2, by2 = tl.load(gate + places, inside, 0), tl.load(gate_scales + at, inside, 0.0)
    if EARLY:
        gdc_launch_dependents()
        gdc_wait()
    product = tl.zeros((BN, BG, 16), tl.float32)
    gating = tl.zeros((BN, BG, 16), tl.float32)
    squares = tl.zeros((BG, 16), tl.float32)
    for start in tl.static_range(0, K // 128, BG):
        if start + BG < K // 128:
            then = (live & (start + BG + groups < K // 128)[None, :])[:, :, None]
            ahead = tl.load(w + places + (start + BG) * 16, then, 0)
            ahead_by = tl.load(w_scales + at + start + BG, then, 0.0)
            if GATED:
                ahead2 = tl.load(gate + places + (start + BG) * 16, then, 0)
                ahead2_by = tl.load(gate_scales + at + start + BG, then, 0.0)
        extra = tl.zeros((BG, 16), tl.float32)
        part = tl.zeros((BN, BG, 16), tl.float32)
        part2 = tl.zeros((BN, BG, 16), tl.float32)
        for i in tl.static_range(8):
            place = start * 128 + first + i * 16
            xi = tl.load(x + place, place < K, 0.0).to(tl.float32)
            if NORM:
                squares += xi * xi
                xi *= tl.load(norm + place, place < K, 0.0).to(tl.float32)
            extra += xi * _too_much(i)
            part += _code(tile, i, low, high) * xi[None, :, :]
            if GATED:
                part2 += _code(tile2, i, low, high) * xi[None, :, :]
        product += (part - extra[None, :, :]) * by.to(tl.float32)
        if GATED:
            gating += (part2 - extra[None, :, :]) * by2.to(tl.float32)
        if start + BG < K // 128:
            tile, by = ahead, ahead_by
            if GATED:
                tile2, by2 = ahead2, ahead2_by
    total = tl.sum(tl.sum(product, 2), 1)
    factor = 1.0
    if NORM:
        factor = 1.0 / tl.sqrt(tl.sum(squares) / K + eps)
        total *= factor
    row = tl.program_id(0) * BN + tl.arange(0, BN)
    if BIAS:
        total += tl.load(bias + row, row < N, 0.0).to(tl.float32)
    total = activate(total, ACTIVATION)
    if GATED:
        total *= tl.sum(tl.sum(gating, 2), 1) * factor
    if RESIDUAL:
        total += tl.load(residual + row, row < N, 0.0).to(tl.float32)
    tl.store(y + row, total.to(y.dtype.element_ty), row < N)


@triton.jit
def _code(words, i: tl.constexpr, low, high):
    """The i-th code of each word, and 2⁷ or 2¹¹ too much: shifts of 16, 8, 0, −8 and −16 serve two codes each."""
    shift: tl.constexpr = 16 - 8 * ((i + 1) // 2)
    if shift >= 0:
        bits = words << shift
    else:
        bits = words >> -shift
    if i % 2 == 0:
        bits = (bits & 0x000F0000) | low
    else:
        bits = (bits & 0x0000F000) | high
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _too_much(i: tl.constexpr):
    """What `_code` is above the signed weight, in steps: codes stand 8 above it."""
    if i % 2 == 0:
        return 136.0
    return 2056.0
