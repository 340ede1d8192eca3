"""What kernels may ask of a device."""

from __future__ import annotations

from dataclasses import dataclass

EVERYWHERE = 128 << 20  # bytes that every device binds at once


@dataclass(frozen=True)
class Limits:
    """Of one kernel; the defaults are those that every device of WebGPU has.

    Args:
        memory: bytes that its threads share.
        threads: how many they are.
        buffers: that a kernel binds.
        software: whether a processor plays the device: there threads that wait for each other cost more than anything.
        binding: bytes of a buffer that larger weights are split to.
        most: bytes of the largest buffer there can be; None: whoever runs the plan knows.
        turns: of a thread's loops, all together; None: as many as there are.
    """

    memory: int = 16384
    threads: int = 256
    buffers: int = 8
    software: bool = False
    binding: int = EVERYWHERE
    most: int | None = None
    turns: int | None = None
