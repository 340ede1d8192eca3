"""Whether kernels start before the ones ahead of them have ended: a choice for a whole program, made by timing it.

At batch 1 on an H100 MobileNetV2 takes 0.098 ms so and 0.119 ms else, EfficientNet-B0 0.194 and 0.212, but ResNet-50
0.300 and 0.270: programs that wait beside those that work are not spread over the processors as evenly as programs that
find them free. So `run.Program` captures both ways what is done with such kernels in microseconds; the faster stays.
Those of one row, whose weights are read while they wait, always start early.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

NEVER, AT_ONCE, AT_THE_END = 0, 1, 2  # when the kernel behind may start; NEVER: this one does not start early, either
MOST_WAVES = 4  # programs of a processor, one after the other: with more, starting is no matter


@dataclass
class Starts:
    """`early`: whether kernels do. `asked`: how many of them could."""

    early: bool
    asked: int = 0


_starts: ContextVar[Starts | None] = ContextVar("starts", default=None)


@contextmanager
def starting(*, early: bool) -> Generator[Starts]:
    """Launches within start early, where they can, or not."""
    starts = Starts(early)
    token = _starts.set(starts)
    try:
        yield starts
    finally:
        _starts.reset(token)


def when(x: Tensor, programs: int) -> int:
    """When the kernel behind one of so many programs may start, and whether this one starts early.

    At once where each program has a processor to itself; of more, those that wait would take the place of those that
    work.
    """
    starts = _starts.get()
    if starts is None or not may_start_early(x):
        return NEVER
    processors = torch.cuda.get_device_properties(x.device).multi_processor_count
    if programs > MOST_WAVES * processors:
        return NEVER
    starts.asked += 1
    if not starts.early:
        return NEVER
    return AT_ONCE if programs <= processors else AT_THE_END


def may_start_early(x: Tensor) -> bool:
    """Whether the device lets a kernel start before the one ahead has ended."""
    nvidia = torch.version.cuda is not None  # another vendor's capability counts otherwise
    return x.is_cuda and nvidia and torch.cuda.get_device_capability(x.device) >= (9, 0)
