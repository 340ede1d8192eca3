"""How long tiles are thought to take on a GPU that nobody has seen: good enough to try the likeliest first.

A browser tells neither cores nor registers of its GPU. The figures are those of a middling one; what they decide
is which tiles fill it, and which spend their time on something else than arithmetic.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import product

from ..types import BYTES
from .tile import Tile

CORES = 64
LANES = 128  # multiplications of a core at a time
REGISTERS = 65536  # of a core
PER_THREAD = 160  # registers, at most
MEMORY = 65536  # of a core, for workgroups
RESIDENT = 1536  # threads of a core
BANDWIDTH = 32  # bytes a core reads at a time
FAR = 3.0  # times the least cost: no estimate is as wrong as that

SIZES = (16, 32, 64, 128, 256)
DEPTHS = (8, 16, 32)
BLOCKS = ((4, 4), (8, 4), (4, 8), (8, 8))
SLICES = (1, 2, 4, 8)
RUN = 16  # products in half precision: longer ones might be off by 1 %, shorter ones turn into single too often


@lru_cache(maxsize=512)
def ranked(rows: int, columns: int, depth: int, batch: int, run: int = 0) -> tuple[Tile, ...]:
    """Tiles for a product, the likeliest first: with single sums, or with runs of so many products in half."""
    space = _space_of_runs(run) if run else _space()
    costs = {t: cost(t, rows, columns, depth, batch) for t in space if _suits(t, rows, columns, depth)}
    found = sorted(costs, key=lambda tile: costs[tile])
    return tuple(_varied([tile for tile in found if costs[tile] <= FAR * costs[found[0]]]))


def _varied(tiles: list[Tile]) -> list[Tile]:
    """The best of each outline, then the second best of each, and so on: neighbours take much the same time."""
    rank: dict[Tile, int] = {}
    seen: dict[tuple[int, int, bool], int] = {}
    for tile in tiles:
        outline = tile.rows, tile.columns, tile.slices > 1
        rank[tile] = seen[outline] = seen.get(outline, -1) + 1
    return sorted(tiles, key=lambda tile: rank[tile])  # stable: by cost among equals


@lru_cache(maxsize=1)
def _space() -> tuple[Tile, ...]:
    found: list[Tile] = []
    for rows, columns, depth, (high, wide), slices in product(SIZES, SIZES, DEPTHS, BLOCKS, SLICES):
        plain = Tile(rows, columns, depth, high, wide, False, slices)
        if not 32 <= plain.threads <= 512 or plain.memory > 49152 or (slices > 1 and plain.blocks > 64):
            continue
        if depth * high * wide > 1024 or depth // slices < 2:  # the loop over depths is written out
            continue
        found += [plain, Tile(rows, columns, depth, high, wide, True, slices)] if slices == 1 else [plain]
    return tuple(found)


@lru_cache(maxsize=4)
def _space_of_runs(run: int) -> tuple[Tile, ...]:
    """A piece is as many bytes, and its loop as many instructions, with twice the depth."""
    found: list[Tile] = []
    for rows, columns, depth, (high, wide) in product(SIZES, SIZES, DEPTHS, BLOCKS):
        if depth % run or depth * high * wide > 2048:
            continue
        plain = Tile(rows, columns, depth, high, wide, run=run)
        if 32 <= plain.threads <= 512 and plain.memory <= 49152:
            found += [plain, replace(plain, ahead=True)]
    return tuple(found)


def _suits(tile: Tile, rows: int, columns: int, depth: int) -> bool:
    wasteful = tile.rows > max(16, 2 * rows - 1) or tile.columns > max(16, 2 * columns - 1)
    return not wasteful and tile.depth < max(2 * depth, 16) and not (tile.ahead and depth < 4 * tile.depth)


def registers(tile: Tile) -> int:
    """Of a thread, roughly."""
    brought = (tile.rows + tile.columns) * tile.depth // tile.threads
    numbers = tile.high + tile.wide + brought
    if tile.run:  # two to a register, and the run's sums beside the others
        return tile.high * tile.wide * 3 // 2 + numbers // 2 + 24
    return tile.high * tile.wide + numbers + 24


def cost(tile: Tile, rows: int, columns: int, depth: int, batch: int) -> float:
    """Time, in no unit."""
    used = registers(tile)
    if used > PER_THREAD:
        return float("inf")
    groups = -(-rows // tile.rows) * -(-columns // tile.columns) * batch
    turns = -(-depth // tile.depth)
    busiest = -(-groups // CORES)  # workgroups of the busiest core
    resident = max(1, min(REGISTERS // (used * tile.threads), MEMORY // tile.memory, RESIDENT // tile.threads))
    active = min(busiest, resident)
    work = tile.high * tile.wide
    brought = (tile.rows + tile.columns) * tile.depth / 4 / tile.threads  # vectors of one turn
    each = work / 2 + 2 * work / tile.run if tile.run else work  # a pair at a time; the run's sum converted and added
    turn = tile.depth / tile.slices * (each + (tile.high + tile.wide) / 2) + brought * 8 + 20
    last = (tile.slices - 1) * work / 2 + 4 * work  # joining and storing
    filled = min(1.0, active * tile.threads * work**0.5 / (8 * 256))  # threads that hide each other's waiting
    arithmetic = busiest * tile.threads * (turns * turn + last) / LANES / filled
    waiting = (0 if tile.ahead else 300) + 60  # of a turn, where nobody else has something to do
    latency = -(-busiest // active) * turns * waiting * (1 if active == 1 else 0.3)
    traffic = busiest * turns * tile.depth * (tile.rows + tile.columns) * BYTES[tile.kind] / BANDWIDTH
    return max(arithmetic, traffic) + latency
