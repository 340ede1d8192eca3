"""What values a program really computes: inputs for the trials of a block in the middle of it.

Made-up inputs will do where every size is known. With free dimensions a block reads sizes that other nodes computed,
and only a run of the model has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from .deadline import OutOfTime
from .errors import TamagoError
from .facts import Array
from .fold import remove_unused

Run = Callable[[Mapping[str, Array]], Sequence[Any]]


@dataclass(frozen=True)
class Observer:
    """Runs a model up to the values asked for.

    Args:
        model: as it stands when asked.
        feeds: its inputs.
        lower: a model as something that can be run, outputs in the graph's order.
    """

    model: ir.Model
    feeds: Mapping[str, Array]
    lower: Callable[[ir.Model], Run]

    def __call__(self, values: Sequence[ir.Value]) -> dict[str, Array] | None:
        """The values' arrays by name; None where one is no tensor or not of the main graph, or the run fails."""
        names = [v.name or "" for v in values]
        given = {n: self.feeds[n] for n in names if n in self.feeds}
        wanted = [n for n in names if n not in given]
        if not wanted:
            return given
        part = self.model.clone()
        made = {v.name: v for node in part.graph for v in node.outputs}
        if any(n not in made for n in wanted):
            return None
        part.graph.outputs[:] = [made[n] for n in wanted]
        remove_unused(part.graph)
        try:
            arrays = self.lower(part)(self.feeds)
        except (TamagoError, OutOfTime):
            return None
        if not all(isinstance(a, np.ndarray) for a in arrays):
            return None
        return given | dict(zip(wanted, arrays, strict=True))
