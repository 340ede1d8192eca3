"""What a fusion was worth in a whole program, kept in the store: the same program is not timed again on a device.

Times depend on operators, shapes and wiring, not on what weights hold; whether two programs compute the same does, so
that is for who recalls a record to check.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from ...compiler.blocks import instance_of
from ...compiler.ir import is_opaque, owners
from ...compiler.price import Stored
from ...compiler.record_name import record_name
from .records import fingerprint as shipped_records

KEY_VERSION = 1


@dataclass(frozen=True)
class FusionRecords:
    """Milliseconds without and with fusions, of programs at one set of input shapes.

    Args:
        store: where they are kept.
        environment: device and versions.
        shapes: of the inputs.
        inner: whether they are parts of a program: pictures lie otherwise then.
    """

    store: Stored
    environment: str
    shapes: tuple[tuple[Any, ...], ...]
    inner: bool

    def key(self, fusion: str, without: ir.Model, fused: ir.Model) -> str | None:
        """The name of the record of a fusion in a program; None where that has nodes that nothing is known of."""
        programs = [_identity(model.graph) for model in (without, fused)]
        if None in programs:
            return None
        kernels = shipped_records()  # with other settings a fusion may be worth something else
        return record_name(
            ["fusion", KEY_VERSION, self.environment, kernels, self.shapes, self.inner, fusion, programs]
        )

    def recall(self, key: str | None) -> list[float] | None:
        """What was measured of a program and the same with a fusion; None where nothing was."""
        known = None if key is None else self.store.verdict(key)
        times = None if known is None else known.get("milliseconds")
        return [float(t) for t in times] if isinstance(times, list) and len(times) == 2 else None

    def keep(self, key: str | None, fusion: str, times: Sequence[float]) -> None:
        """Keep a measurement. A fusion that failed or differed has no time: it is tried again."""
        if key is not None and np.isfinite(times).all():
            self.store.put_verdict(key, {"fusion": fusion, "milliseconds": list(times)})


def _identity(graph: ir.Graph) -> str | None:
    """What a program does and how, by whatever names; None where a node is known by itself alone."""
    nodes = list(graph)
    if any(map(is_opaque, nodes)):
        return None
    _, _, identity = instance_of(graph, nodes, owners(graph))
    return identity.hex()
