"""Zeros in which programs of one kernel count who has come last; every launch leaves them as it found them.

Launches that share them must run one after the other: within a captured graph they do, so each graph has its own.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

Counters = dict[tuple[torch.device, int], Tensor]

_current: ContextVar[Counters] = ContextVar("counters")


@contextmanager
def own_counters() -> Generator[Counters]:
    """While this lasts, launches use counters of their own; whoever replays them must keep these."""
    made: Counters = {}
    token = _current.set(made)
    try:
        yield made
    finally:
        _current.reset(token)


def counters(device: torch.device, count: int) -> Tensor:
    """So many zeros; outside `own_counters` fresh ones each time."""
    known = _current.get(None)
    key = (device, count)
    if known is None or key not in known:
        zeros = torch.zeros(count, dtype=torch.int32, device=device)
        if known is None:
            return zeros
        known[key] = zeros
    return known[key]


def split_sums(device: torch.device, tiles: int, each: int, split: int) -> tuple[Tensor, Tensor]:
    """Room for the parts of sums that are split, and counters of their tiles; where they are not, nothing that is used.

    Args:
        device: theirs.
        tiles: how many.
        each: numbers of a tile.
        split: programs that share a tile.
    """
    partial = torch.empty((tiles * each * split if split > 1 else 1,), dtype=torch.float32, device=device)
    return partial, counters(device, tiles) if split > 1 else partial
