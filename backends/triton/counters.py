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
