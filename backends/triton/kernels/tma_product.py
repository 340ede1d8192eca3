"""y = after(act(x·Wᵀ + b) + r) of many rows, for compute capability 9.0: tiles are fetched by the copying engine (TMA).

Programs stay: each walks tiles of the result, and the loop over tiles and inner blocks is one, so that the next tile's
blocks are on their way while a tile's activation is computed. No thread computes an address or waits for a load it
issued itself. What is done to the result keeps tensor cores waiting: two programs share a processor where their tiles
are small enough, and one multiplies while the other activates.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .activations import activate
from .early import await_ahead, let_follow
from .hopper import PROCESSORS

LEAST = 1 << 31  # multiplications: fewer are over before a pipeline is full
ALIGNED = 8  # elements: rows and addresses of what is fetched are multiples of 16 bytes
GROUP = 8  # as for `convolution`: tiles of rows that share columns follow one another
MOST_CANDIDATES = 10
MEMORY = 227 * 1024  # bytes of a processor's memory, all that its programs may take together
KEPT = 1024  # bytes of it for each program that are the system's
BARRIERS = 256  # bytes: of the stages
# Tile (rows, columns, inner), parts in which it is written, stages, warps, programs of a processor.
SETTINGS = (
    (128, 128, 64, 4, 3, 4, 2),
    (128, 128, 64, 4, 3, 8, 2),
    (128, 256, 64, 2, 4, 8, 1),
    (128, 256, 64, 4, 3, 8, 1),
    (256, 128, 64, 2, 4, 8, 1),
    (256, 128, 64, 2, 3, 8, 1),
    (128, 128, 32, 2, 5, 4, 2),
    (128, 128, 64, 2, 5, 8, 1),
    (64, 256, 64, 4, 2, 4, 2),
    (64, 128, 64, 2, 4, 4, 2),
    (128, 64, 64, 1, 4, 4, 2),
    (128, 64, 64, 1, 2, 4, 3),
)


def takes(rows: int, n: int, k: int) -> bool:
    """Whether the kernel is made for a product of these sizes."""
    return n % ALIGNED == 0 and k % ALIGNED == 0 and min(rows, n, k) > 0


def candidates(rows: int, n: int, k: int, *, residual: bool) -> list[tuple[int, ...]]:
    """Settings worth measuring, those with the fewest waves of equal work first; none where the product is small.

    Args:
        rows: of x.
        n: columns of the result.
        k: inner elements.
        residual: whether a third matrix is read.
    """
    if not takes(rows, n, k) or rows * n * k < LEAST:
        return []
    fitting = [c for c in SETTINGS if shared(c, residual=residual) <= MEMORY // c[-1] - KEPT and c[1] < 2 * n]
    return sorted(fitting, key=lambda c: _work(rows, n, c))[:MOST_CANDIDATES]


def shared(candidate: tuple[int, ...], *, residual: bool) -> int:
    """Bytes of a processor's memory that a program takes: its stages, and a part on its way out, and one in."""
    rows, columns, inner, parts, stages, *_ = candidate
    return 2 * stages * (rows + columns) * inner + 2 * rows * columns // parts * (2 if residual else 1) + BARRIERS


def _work(rows: int, n: int, candidate: tuple[int, ...]) -> int:
    """Elements of the result that the busiest processor makes, those beyond the edges among them."""
    high, wide, *_, programs = candidate
    tiles = -(-rows // high) * -(-n // wide)
    return -(-tiles // (PROCESSORS * programs)) * programs * high * wide


def registers(warps: int, programs: int) -> int:
    """What a thread may have at most, so that so many programs share a processor."""
    return min(255, 65536 // (32 * warps * programs) // 8 * 8)


@triton.jit
def tma_product(
    x,
    w,
    bias,
    residual,
    y,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
    AFTER: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    PARTS: tl.constexpr,
    GROUP: tl.constexpr,
    PROGRAMS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One program: every `PROGRAMS`th tile of `BM` rows and `BN` columns of the result.

    Args:
        x: descriptor of (M, K) in blocks of (BM, BK), w: of (N, K) in blocks of (BN, BK).
        bias: (N), a pointer.
        residual, y: descriptors of (M, N) in blocks of (BM, BN / PARTS).
        EARLY: as `early` has it.
    """
    ROWS: tl.constexpr = (M + BM - 1) // BM
    COLUMNS: tl.constexpr = (N + BN - 1) // BN
    STEPS: tl.constexpr = (K + BK - 1) // BK
    await_ahead(EARLY)
    for tile in tl.range(tl.program_id(0), ROWS * COLUMNS, PROGRAMS, flatten=True):
        first = (tile // (GROUP * COLUMNS)) * GROUP
        height = tl.minimum(ROWS - first, GROUP)
        within = tile % (GROUP * COLUMNS)
        row = (first + within % height) * BM
        column = (within // height) * BN
        total = tl.zeros((BM, BN), tl.float32)
        for step in range(STEPS):
            a = x.load([row, step * BK])
            b = w.load([column, step * BK])
            total = tl.dot(a, b.T, total)
        if PARTS == 1:
            _write(total, bias, residual, y, row, column, N, RESIDUAL, ACTIVATION, AFTER, BN)
        else:
            low, high = _halves(total, BM, BN)
            _write_halves(low, bias, residual, y, row, column, N, RESIDUAL, ACTIVATION, AFTER, BM, BN // 2, PARTS // 2)
            _write_halves(
                high, bias, residual, y, row, column + BN // 2, N, RESIDUAL, ACTIVATION, AFTER, BM, BN // 2, PARTS // 2
            )
    let_follow(EARLY)


@triton.jit
def _write_halves(
    total,
    bias,
    residual,
    y,
    row,
    column,
    N: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
    AFTER: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Columns from `column` on, as a whole or, with two `PARTS`, one half after the other."""
    if PARTS == 1:
        _write(total, bias, residual, y, row, column, N, RESIDUAL, ACTIVATION, AFTER, BN)
    else:
        low, high = _halves(total, BM, BN)
        _write(low, bias, residual, y, row, column, N, RESIDUAL, ACTIVATION, AFTER, BN // 2)
        _write(high, bias, residual, y, row, column + BN // 2, N, RESIDUAL, ACTIVATION, AFTER, BN // 2)


@triton.jit
def _halves(total, BM: tl.constexpr, BN: tl.constexpr):
    """The left and the right columns: a thread keeps what it has."""
    return tl.split(tl.permute(tl.reshape(total, (BM, 2, BN // 2)), (0, 2, 1)))


@triton.jit
def _write(
    total,
    bias,
    residual,
    y,
    row,
    column,
    N: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ACTIVATION: tl.constexpr,
    AFTER: tl.constexpr,
    BN: tl.constexpr,
):
    places = column + tl.arange(0, BN)
    total += tl.load(bias + places, places < N, 0.0).to(tl.float32)[None, :]
    total = activate(total, ACTIVATION, HALF=True)
    if RESIDUAL:
        total += residual.load([row, column]).to(tl.float32)
    total = activate(total, AFTER, HALF=True)
    y.store([row, column], total.to(y.dtype))
