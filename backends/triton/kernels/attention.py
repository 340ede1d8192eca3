"""y = softmax(q·kᵀ·scale + mask)·v over whole sequences: flash attention (Dao et al. 2022), one launch.

A program takes a tile of queries of one head of one text and walks over the keys; no scores are ever stored. Queries,
keys and values are read where they lie: slices of one product's result need no copies.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .early import await_ahead, let_follow
from .hopper import PROCESSORS, SHARED

MOST_CANDIDATES = 11
TILES = (  # queries, keys, warps
    *((16, 32, 1), (16, 64, 1), (16, 32, 2), (16, 64, 2), (16, 64, 4), (16, 128, 4)),
    *((32, 32, 2), (32, 64, 2), (32, 64, 4), (32, 128, 4)),
    *((64, 32, 4), (64, 64, 4), (64, 128, 4), (128, 32, 4), (128, 64, 4), (128, 64, 8), (128, 128, 8)),
)
TENSOR_ROWS = 64  # from so many on the operands of products stay in that memory
MOST_HELD = (143, 128)  # numbers of a thread with fewer rows, places included; of one with as many
START, STEP, ELEMENT = 2000, 350, 12  # cycles of a program, of a step's chain, of an element in a thread
WARPS = 4  # that a processor works on at once
BOOLEAN, ADDED = 1, 2  # kinds of masks; 0: none
LOG2E = 1.4426950408889634  # exp(x) = 2^(x·log₂e), and the device has an instruction for powers of two


def width_of(size: int) -> int:
    """Elements of a row of a tile: a power of two that holds a head."""
    return max(16, 1 << (size - 1).bit_length())


def candidates(heads: int, queries: int, keys: int, size: int, *, causal: bool) -> list[tuple[int, int, int, int]]:
    """Settings worth measuring: queries and keys of a tile, warps, stages.

    Of all that a processor holds, those for which the busiest one has the least to do.

    Args:
        heads: of queries, of all texts together.
        queries: of a text.
        keys: of a text.
        size: of a head.
        causal: whether half of the keys are hidden.
    """
    width = width_of(size)
    tiles: list[tuple[float, int, int, int, int]] = []
    for rows, columns, warps in TILES:
        if (rows > 16 and rows >= 2 * queries) or (columns > 32 and columns >= 2 * keys):
            continue
        if _held(rows, columns, warps, width) > MOST_HELD[rows >= TENSOR_ROWS]:
            continue
        steps = -(-keys // columns)
        stages = next((s for s in (3, 2) if _bytes(rows, columns, width, s) <= SHARED), 0)
        if not stages:
            continue
        walked = steps / 2 if causal and keys > columns else steps
        each = ELEMENT * rows * (columns + width) / (32 * warps)
        waiting = -(-heads * -(-queries // rows) // PROCESSORS)
        at_once = min(waiting, 16 // warps, SHARED // _bytes(rows, columns, width, stages))
        step = STEP + each * max(1, at_once * warps / WARPS)
        tiles.append((-(-waiting // at_once) * (START + walked * step), rows, columns, warps, stages))
    found: list[tuple[int, int, int, int]] = []
    for place, (_, rows, columns, warps, stages) in enumerate(sorted(tiles)):
        found.append((rows, columns, warps, stages))
        if place < 3 and keys > 2 * columns and _bytes(rows, columns, width, stages + 1) <= SHARED:
            found.append((rows, columns, warps, stages + 1))
    return found[:MOST_CANDIDATES]


def _bytes(rows: int, columns: int, width: int, stages: int) -> int:
    return 2 * width * (rows + 2 * columns * stages)


def _held(rows: int, columns: int, warps: int, width: int) -> int:
    """Scores and sums of a thread, and where few rows leave a warp many columns, the places that it reads."""
    sums = rows * (columns + width) // (32 * warps)
    return sums if rows >= TENSOR_ROWS else sums + columns * width // (64 * warps)


@triton.jit
def _rows(at, row, element, LENGTH: tl.constexpr, SIZE: tl.constexpr, BR: tl.constexpr, BD: tl.constexpr):
    """A tile of rows, zeros beyond their number and beyond their size; nothing is asked where nothing is beyond."""
    if SIZE == BD and LENGTH % BR == 0:
        tile = tl.load(at)
    elif SIZE == BD:
        tile = tl.load(at, (row < LENGTH)[:, None], 0.0)
    else:
        tile = tl.load(at, (row < LENGTH)[:, None] & (element < SIZE)[None, :], 0.0)
    return tile


@triton.jit
def attention(
    q,
    k,
    v,
    mask,
    y,
    factor,
    HEADS: tl.constexpr,
    SHARED: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    SIZE: tl.constexpr,
    QB: tl.constexpr,
    QH: tl.constexpr,
    QS: tl.constexpr,
    KB: tl.constexpr,
    KH: tl.constexpr,
    KS: tl.constexpr,
    VB: tl.constexpr,
    VH: tl.constexpr,
    VS: tl.constexpr,
    MB: tl.constexpr,
    MH: tl.constexpr,
    MS: tl.constexpr,
    MK: tl.constexpr,
    YB: tl.constexpr,
    YH: tl.constexpr,
    YS: tl.constexpr,
    CAUSAL: tl.constexpr,
    MASK: tl.constexpr,
    LOG2E: tl.constexpr,
    BQ: tl.constexpr,
    BK: tl.constexpr,
    BD: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: `BQ` queries of one head of one text.

    Args:
        q, y: (B, HEADS, QUERIES, SIZE) with strides QB, QH, QS, 1 and YB, YH, YS, 1.
        k, v: (B, HEADS/SHARED, KEYS, SIZE) with strides KB, KH, KS, 1 and VB, VH, VS, 1.
        mask: (B, HEADS, QUERIES, KEYS) with strides MB, MH, MS, MK, bytes or numbers as `MASK` says.
        factor: of the scores: their scale times log₂e.
        EARLY: as `early` has it.
    """
    TILES: tl.constexpr = (QUERIES + BQ - 1) // BQ
    program = tl.program_id(0)
    tile = program % TILES
    if CAUSAL:
        tile = TILES - 1 - tile  # those with most to do start first
    head = program // TILES % HEADS
    text = program // (TILES * HEADS)
    query = tile * BQ + tl.arange(0, BQ)
    key = tl.arange(0, BK)
    element = tl.arange(0, BD)
    mine = q + text * QB + head * QH + query[:, None] * QS + element[None, :]
    at_keys = k + text * KB + head // SHARED * KH + key[:, None] * KS + element[None, :]
    at_values = v + text * VB + head // SHARED * VH + key[:, None] * VS + element[None, :]
    await_ahead(EARLY)
    a = _rows(mine, query, element, QUERIES, SIZE, BQ, BD)
    top = tl.full((BQ,), float("-inf"), tl.float32)
    weight = tl.zeros((BQ,), tl.float32)
    out = tl.zeros((BQ, BD), tl.float32)
    end = KEYS
    if CAUSAL:
        end = tl.minimum(KEYS, (tile + 1) * BQ)
    for first in range(0, end, BK):
        b = _rows(at_keys + first * KS, first + key, element, KEYS, SIZE, BK, BD)
        score = tl.dot(a, tl.trans(b))
        if MASK > 0:
            score *= factor
            at_mask = mask + text * MB + head * MH + query[:, None] * MS + (first + key)[None, :] * MK
            said = tl.load(at_mask, (query < QUERIES)[:, None] & (first + key < KEYS)[None, :], 0)
            if MASK == 1:
                score = tl.where(said != 0, score, float("-inf"))
            else:
                said = said.to(tl.float32)
                # the least of float32 means to hide, too, but stays a number: where all are hidden so, none is
                score += tl.where(said == float("-inf"), said, tl.maximum(said, -1e38) * LOG2E)
        if KEYS % BK != 0:
            score = tl.where((first + key < KEYS)[None, :], score, float("-inf"))
        if CAUSAL:
            score = tl.where(query[:, None] >= (first + key)[None, :], score, float("-inf"))
        if MASK > 0:
            higher = tl.maximum(top, tl.max(score, 1))
            zero = tl.where(higher == float("-inf"), 0.0, higher)  # nothing is to be seen yet
            probability = tl.exp2(score - zero[:, None])
        else:  # the factor is positive: one instruction multiplies and subtracts
            higher = tl.maximum(top, tl.max(score, 1) * factor)
            zero = higher
            probability = tl.exp2(score * factor - zero[:, None])
        shrink = tl.exp2(top - zero)
        top = higher
        weight = weight * shrink + tl.sum(probability, 1)
        c = _rows(at_values + first * VS, first + key, element, KEYS, SIZE, BK, BD)
        out = tl.dot(probability.to(c.dtype), c, out * shrink[:, None])
    let_follow(EARLY)
    if MASK > 0:
        weight = tl.where(weight == 0.0, 1.0, weight)  # a query that may see no key yields zeros
    out = out / weight[:, None]
    target = y + text * YB + head * YH + query[:, None] * YS + element[None, :]
    tl.store(target, out.to(y.dtype.element_ty), (query < QUERIES)[:, None] & (element < SIZE)[None, :])
