"""Room around what launches allocate, so that a kernel that writes past the end of its result is seen."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor

SENTINEL, BEYOND = 7.0, 4096  # what lies beyond, and how many of it


class Guarded:
    """While it lasts, each new tensor is the beginning of a larger one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._rooms: list[tuple[int, Tensor]] = []
        monkeypatch.setattr(torch, "empty", self._empty)

    def _empty(
        self,
        shape: tuple[int, ...],
        *,
        dtype: torch.dtype,
        device: torch.device,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> Tensor:
        count = prod(shape)
        room = torch.full((count + BEYOND,), SENTINEL, dtype=dtype, device=device)
        self._rooms.append((count, room))
        if memory_format != torch.channels_last:
            return room[:count].view(shape)
        n, channels, height, width = shape
        return room[:count].view(n, height, width, channels).permute(0, 3, 1, 2)

    def untouched(self) -> bool:
        """Whether something was allocated, and nothing beyond it was written to."""
        return bool(self._rooms) and all(bool((room[count:] == SENTINEL).all()) for count, room in self._rooms)
