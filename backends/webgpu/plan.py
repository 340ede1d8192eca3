"""What a host runs: buffers, kernels and the order of dispatches. Python's runner and the browser's read the same plan.

Kernels are WGSL without `enable` lines, for hosts differ in those: `features` says what they use, and each host's
printer puts its own lines in front. Shapes are baked in: a plan is for one set of input shapes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT = 2
F16 = "f16"  # arithmetic in half precision
SUBGROUPS = "subgroups"


@dataclass(frozen=True)
class Kernel:
    """One WGSL module; its entry point is `main`.

    Args:
        source: WGSL.
        written: which of its bindings, numbered 0, 1, … in group 0, it writes; the others it reads.
        features: what of F16 and SUBGROUPS it uses.
    """

    source: str
    written: tuple[bool, ...]
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """A kernel that can do a dispatch's work, and how many workgroups of it do."""

    kernel: int
    workgroups: tuple[int, int, int]


@dataclass(frozen=True)
class Dispatch:
    """One step on the device.

    Args:
        label: the nodes whose work it does.
        buffers: numbers of those bound to its bindings, in order.
        choices: kernels that do it; the first is taken where none was measured to be faster.
    """

    label: str
    buffers: tuple[int, ...]
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Copy:
    """Bytes from one buffer to another, both from their start."""

    source: int
    target: int
    bytes: int


@dataclass(frozen=True)
class Interface:
    """An input or output of the model.

    Args:
        name: the model's.
        buffer: where it lies.
        shape: of its elements, row-major.
        dtype: the model's element type, by ONNX's lower-case name (float32, int64, bool, …).
        stored: how its elements lie in the buffer: f32, f16, i32 or u32.
    """

    name: str
    buffer: int
    shape: tuple[int, ...]
    dtype: str
    stored: str


@dataclass(frozen=True)
class Plan:
    """A program for a device.

    Args:
        buffers: bytes of each storage buffer, multiples of 4.
        weights: tensor name by buffer that is filled once, before the first run.
        kernels: distinct modules.
        steps: what is done in order, in every run.
        inputs: written by the caller before a run.
        outputs: read by the caller after it.
        state: input name by the output that takes its place in the next run: the host keeps it on the device.
        setup: steps that read weights alone; they are done once, before the first run.
    """

    buffers: tuple[int, ...]
    weights: Mapping[int, str]
    kernels: tuple[Kernel, ...]
    steps: tuple[Dispatch | Copy, ...]
    inputs: tuple[Interface, ...]
    outputs: tuple[Interface, ...]
    state: Mapping[str, str] = field(default_factory=dict[str, str])
    setup: tuple[Dispatch | Copy, ...] = ()

    @property
    def spent(self) -> frozenset[int]:
        """Buffers that nothing reads after the setup."""
        used = {b for s in self.steps for b in ((s.source, s.target) if isinstance(s, Copy) else s.buffers)}
        used |= {i.buffer for i in (*self.inputs, *self.outputs)}
        return frozenset(range(len(self.buffers))) - used

    @property
    def features(self) -> frozenset[str]:
        """All that its kernels use."""
        return frozenset(f for kernel in self.kernels for f in kernel.features)

    @property
    def dispatches(self) -> list[Dispatch]:
        """The steps of a run that run a kernel."""
        return [step for step in self.steps if isinstance(step, Dispatch)]

    @property
    def fingerprint(self) -> str:
        """Of all that it says: what was measured for it is kept under this."""
        return fingerprint(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        setup, steps = (
            [{"copy": asdict(s)} if isinstance(s, Copy) else {"dispatch": asdict(s)} for s in part]
            for part in (self.setup, self.steps)
        )
        return {
            "format": FORMAT,
            "features": sorted(self.features),
            "buffers": list(self.buffers),
            "weights": {str(buffer): name for buffer, name in self.weights.items()},
            "kernels": [asdict(kernel) for kernel in self.kernels],
            "setup": setup,
            "steps": steps,
            "spent": sorted(self.spent),
            "inputs": [asdict(i) for i in self.inputs],
            "outputs": [asdict(o) for o in self.outputs],
            "state": dict(self.state),
        }


def fingerprint(data: Mapping[str, Any]) -> str:
    """Of plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
