"""Pipelines that threads make while the device measures others.

A driver takes a tenth of a second for a large kernel. A device that waits for it falls asleep, and what is measured
then is how it wakes: products of 2048³ took five times as long on an H100.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .device import Device
from .plan import Kernel
from .run import pipeline_of

WORKERS = min(8, os.cpu_count() or 1)


class Pipelines:
    """A plan's pipelines, by the numbers of its kernels.

    Args:
        kernels: of the plan.
        device: where they run.
    """

    def __init__(self, kernels: tuple[Kernel, ...], device: Device) -> None:
        self._kernels, self._device = kernels, device
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="tamago-pipeline")
        self._made: dict[int, Future[tuple[Any, Any]]] = {}

    def want(self, number: int) -> None:
        """Have a kernel's pipeline made; nothing where it was asked for before."""
        if number not in self._made:
            self._made[number] = self._pool.submit(pipeline_of, self._kernels[number], self._device)

    def get(self, number: int) -> tuple[Any, Any]:
        """A kernel's pipeline and the layout of its bindings.

        Raises:
            Exception: whatever the driver said of it.
        """
        self.want(number)
        return self._made[number].result()

    def close(self) -> None:
        """Make no more of them."""
        self._pool.shutdown(wait=True, cancel_futures=True)
