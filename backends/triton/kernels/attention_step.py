"""One step of attention over a cache: rotate q and k, write k and v at the position, attend to all before it.

A program takes one head of keys, all heads of queries that share it, and a part of the cache. The part that ends last
puts the others' results together (flash decoding, Dao et al. 2023), so the step is one kernel. What the cache held
before does not depend on the kernel ahead: its first block is on its way before that one has ended.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

PARTS, SLOTS, WARPS = (1, 2, 4, 8, 16), (32, 64, 128, 256), (4, 8)
FEWEST, MOST = 32, 256  # elements of keys and values that a thread holds, those under way included


def default(size: int) -> tuple[int, int, int]:
    """Settings for heads of this size where nothing was measured: what a thread holds then fits in its registers."""
    return 4, max(16, min(128, 8192 // size)), 4


def candidates(length: int, size: int) -> list[tuple[int, int, int]]:
    """Settings worth measuring for a cache of so many slots and heads of this size: parts, slots of a block, warps."""
    found: list[tuple[int, int, int]] = []
    for parts in PARTS:
        for slots in SLOTS:
            if slots > max(32, length) or parts * slots > 2 * length:
                continue
            # a block of keys and one of values, two of each under way
            found += [(parts, slots, w) for w in WARPS if FEWEST <= 4 * slots * size // (32 * w) <= MOST]
    return found or [(1, 32, 4)]


@triton.jit
def attention_step(
    q,
    k,
    v,
    cos,
    sin,
    position,
    keys,
    values,
    y,
    partial,
    arrived,
    scale,
    HEADS: tl.constexpr,
    SHARED: tl.constexpr,
    D: tl.constexpr,
    LENGTH: tl.constexpr,
    PARTS: tl.constexpr,
    BL: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: a head of keys and one part of the cache.

    Args:
        q: the new token's queries, (HEADS·SHARED, D), k and v: its keys and values, (HEADS, D).
        cos, sin: (LENGTH, D/2), position: (1), int64.
        keys, values: the cache, (HEADS, LENGTH, D), written at the position.
        y: (HEADS·SHARED, D). partial: (HEADS, PARTS, ROWS, D + 2) float32. arrived: (HEADS), zeros, and again after.
    """
    ROWS: tl.constexpr = 16 if SHARED < 16 else SHARED
    HALF: tl.constexpr = D // 2
    head, part = tl.program_id(0), tl.program_id(1)
    row, half, every = tl.arange(0, ROWS), tl.arange(0, HALF), tl.arange(0, D)
    now = tl.minimum(tl.maximum(tl.load(position), 0), LENGTH - 1).to(tl.int32)  # never writes outside the cache
    span = tl.cdiv(tl.cdiv(now, PARTS), BL) * BL
    start, end = part * span, tl.minimum((part + 1) * span, now)
    slot = tl.arange(0, BL)
    base = head * LENGTH * D
    at_keys = keys + base + slot[None, :] * D + half[:, None]
    at_values = values + base + slot[:, None] * D + every[None, :]
    live = start + slot < end
    k1 = tl.load(at_keys + start * D, live[None, :], 0.0)
    k2 = tl.load(at_keys + start * D + HALF, live[None, :], 0.0)
    old = tl.load(at_values + start * D, live[:, None], 0.0)
    c = tl.load(cos + now * HALF + half).to(tl.float32)
    s = tl.load(sin + now * HALF + half).to(tl.float32)
    if EARLY:
        gdc_launch_dependents()
        gdc_wait()
    mine = (row < SHARED)[:, None]
    at = q + (head * SHARED + row)[:, None] * D + half[None, :]
    q1, q2 = tl.load(at, mine, 0.0).to(tl.float32), tl.load(at + HALF, mine, 0.0).to(tl.float32)
    kind = keys.dtype.element_ty
    # rotate half: (a, b) → (a·cos − b·sin, b·cos + a·sin)
    r1 = ((q1 * c[None, :] - q2 * s[None, :]) * scale).to(kind)
    r2 = ((q2 * c[None, :] + q1 * s[None, :]) * scale).to(kind)
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    weight = tl.zeros((ROWS,), tl.float32)
    out = tl.zeros((ROWS, D), tl.float32)
    if part == 0:  # the new token
        new = k + head * D
        a, b = tl.load(new + half).to(tl.float32), tl.load(new + HALF + half).to(tl.float32)
        n1, n2 = (a * c - b * s).to(kind), (b * c + a * s).to(kind)
        nv = tl.load(v + head * D + every).to(kind)
        tl.store(keys + base + now * D + half, n1)
        tl.store(keys + base + now * D + HALF + half, n2)
        tl.store(values + base + now * D + every, nv)
        top = tl.sum(r1.to(tl.float32) * n1.to(tl.float32)[None, :] + r2.to(tl.float32) * n2.to(tl.float32)[None, :], 1)
        weight += 1.0
        out += nv.to(tl.float32)[None, :]
    for first in range(start, end, BL):
        # float32 stays float32: without a word said it would be tf32
        score = tl.dot(r1, k1, input_precision="ieee") + tl.dot(r2, k2, input_precision="ieee")
        score = tl.where((first + slot < end)[None, :], score, float("-inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        probability = tl.exp(score - higher[:, None])
        shrink = tl.exp(top - higher)
        block = old
        following = first + BL + slot < end
        k1 = tl.load(at_keys + (first + BL) * D, following[None, :], 0.0)
        k2 = tl.load(at_keys + (first + BL) * D + HALF, following[None, :], 0.0)
        old = tl.load(at_values + (first + BL) * D, following[:, None], 0.0)
        out = out * shrink[:, None] + tl.dot(probability.to(kind), block, input_precision="ieee")
        weight = weight * shrink + tl.sum(probability, 1)
        top = higher
    target = y + (head * SHARED + row)[:, None] * D + every[None, :]
    if PARTS == 1:
        tl.store(target, (out / weight[:, None]).to(y.dtype.element_ty), mine)
    else:
        place = partial + ((head * PARTS + part) * ROWS + row) * (D + 2)
        tl.store(place[:, None] + every[None, :], out, mine)
        tl.store(place + D, top)
        tl.store(place + D + 1, weight)
        tl.debug_barrier()
        before = tl.atomic_add(arrived + head, 1, sem="acq_rel")
        if before == PARTS - 1:
            tl.store(arrived + head, 0)
            top = tl.full((ROWS,), float("-inf"), tl.float32)
            weight = tl.zeros((ROWS,), tl.float32)
            out = tl.zeros((ROWS, D), tl.float32)
            for other in tl.static_range(PARTS):
                place = partial + ((head * PARTS + other) * ROWS + row) * (D + 2)
                its = tl.load(place + D, cache_modifier=".cg")
                higher = tl.maximum(top, its)
                # a part with nothing in it has −∞ and counts for nothing; the first one is never empty
                shrink = tl.exp(top - higher)
                grow = tl.exp(its - higher)
                out = out * shrink[:, None]
                out += grow[:, None] * tl.load(place[:, None] + every[None, :], mine, 0.0, cache_modifier=".cg")
                weight = weight * shrink + grow * tl.load(place + D + 1, cache_modifier=".cg")
                top = higher
            tl.store(target, (out / weight[:, None]).to(y.dtype.element_ty), mine)
