"""What kernels may ask of a device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of one workgroup; the defaults are those that every device of WebGPU has.

    Args:
        memory: bytes that its threads share.
        threads: how many they are.
        buffers: that a kernel binds.
        software: whether a processor plays the device: there threads that wait for each other cost more than anything.
    """

    memory: int = 16384
    threads: int = 256
    buffers: int = 8
    software: bool = False
