"""A program of half precision in single: what its own rounding costs, and so what may be asked of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_aggregate

from .library.convolution import HALVES


def widen(module: fx.GraphModule) -> None:
    """Constants and conversions to half precision become single; integers and other floats stay what they are."""
    for part in module.modules():
        if not isinstance(part, fx.GraphModule):
            continue
        for node in part.graph.nodes:
            node.args, node.kwargs = (map_aggregate(a, _wider) for a in (node.args, node.kwargs))
        part.recompile()
    for part in module.modules():
        for values in (part._buffers, part._parameters):  # pyright: ignore[reportPrivateUsage]
            _widen_all(values)


def wide(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Halves in single precision, others as they are."""
    return [t.float() if t.dtype in HALVES else t for t in tensors]


def _wider(argument: Any) -> Any:
    return torch.float32 if argument in HALVES else argument


def _widen_all(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Tensor) and value.dtype in HALVES:
            values[name] = value.float()
