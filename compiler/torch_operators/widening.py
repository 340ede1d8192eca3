"""Unsigned integers of 16 bits and more, which torch stores but does not compute on: rules run on `int64` instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch

from .dtypes import STORAGE_ONLY
from .registry import Registration
from .values import Value, described


def widened(tensors: Sequence[Any], values: list[Value | None], registration: Registration) -> list[Any]:
    """Arguments with integers that torch cannot compute on turned to `int64`."""
    if not registration.widens:
        return list(tensors)
    pairs = zip(tensors, values, strict=True)
    return [
        tensor.to(torch.int64) if tensor is not None and value is not None and value.dtype in STORAGE_ONLY else tensor
        for tensor, value in pairs
    ]


def narrowed(result: Any, node: ir.Node, values: list[Value | None], registration: Registration) -> Any:
    """Results turned back to the type the graph declares, where `widened` changed it."""
    changed = [value for value in values if value is not None and value.dtype in STORAGE_ONLY]
    if not registration.widens or not changed:
        return result
    results = list(result) if isinstance(result, tuple | list) else [result]
    for index, (output, content) in enumerate(zip(node.outputs, results, strict=False)):
        dtype = described(output).dtype
        if dtype in STORAGE_ONLY and content is not None:
            results[index] = content.to(dtype)
    return results
