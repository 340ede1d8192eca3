"""Sums whose terms several programs have: each leaves its part, whoever comes last adds them up, in one order."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def joined(total, partial, arrived, tile, tiles, SPLIT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """Whether this program came last of those of its tile, and if it did, what all of them have together.

    Args:
        total: (BM, BN) float32, this program's part, the one that `program_id(1)` numbers.
        partial: (SPLIT, tiles, BM, BN) float32. arrived: (tiles), zeros, and again after.
    """
    everything = tl.arange(0, BM)[:, None] * BN + tl.arange(0, BN)[None, :]
    own = (tl.program_id(1) * tiles + tile) * (BM * BN)
    tl.store(partial + own + everything, total)
    tl.debug_barrier()
    last = tl.atomic_add(arrived + tile, 1, sem="acq_rel") == SPLIT - 1
    if last:
        tl.store(arrived + tile, 0)
        total = tl.zeros((BM, BN), tl.float32)
        for part in range(SPLIT):
            place = (part * tiles + tile) * (BM * BN)
            total += tl.load(partial + place + everything, cache_modifier=".cg")
    return last, total
