"""torch operators that torch's ONNX translation lacks or gets wrong, written with ones that it has.

Each function computes what the operator does, in torch; while a graph is decomposed it is traced in the operator's
place, so shapes and dtypes follow by themselves, also for sizes that vary. Returning NotImplemented keeps the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import (
    arithmetic,
    complex_numbers,
    linear,
    ordering,
    pooling,
    products,
    quantization,
    reductions,
    shapes,
)

_FAMILIES = (
    arithmetic,
    complex_numbers,
    linear,
    ordering,
    pooling,
    products,
    quantization,
    reductions,
    shapes,
)


def decompositions() -> dict[Any, Callable[..., Any]]:
    """The decomposition of each operator."""
    table: dict[Any, Callable[..., Any]] = {}
    for family in _FAMILIES:
        table |= {target: either(function, table.get(target)) for target, function in family.TABLE.items()}
    return table


def either(first: Callable[..., Any], second: Callable[..., Any] | None) -> Callable[..., Any]:
    """The first decomposition; the second where the first declines."""
    if second is None:
        return first

    def decomposition(*args: Any, **kwargs: Any) -> Any:
        result = first(*args, **kwargs)
        return second(*args, **kwargs) if result is NotImplemented else result

    return decomposition
