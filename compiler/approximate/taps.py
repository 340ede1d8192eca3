"""Values inside a program while torch runs it, and zeros added to them whose gradients can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..beside import at_once
from ..streaming import is_too_large

if TYPE_CHECKING:
    from ..facts import Array


def arguments(program: Any, feeds: Mapping[str, Array]) -> list[Any]:
    """What a program from `torch_program` is called with for these inputs."""
    from ..torch_tensors import to_torch

    return [to_torch(np.asarray(feeds[name])) for name in program.meta["inputs"]]


def samples_at_once(model: ir.Model) -> int:
    """How many samples torch runs through a model at once: as many as its own threads leave processors for."""
    import torch

    return 1 if is_too_large(model) else at_once(torch.get_num_threads())


def taps(program: Any, inputs: set[str], outputs: set[str]) -> Any:
    """An interpreter that keeps named values (`seen`), and adds a zero to others, whose gradient can be asked for.

    Args:
        program: from `torch_program`.
        inputs: names of values to keep.
        outputs: names of values to tap.
    """
    import torch
    from torch import fx

    class Taps(fx.Interpreter):
        def __init__(self) -> None:
            super().__init__(program)
            self.seen: dict[str, torch.Tensor] = {}
            self.taps: dict[str, torch.Tensor] = {}

        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            name = n.meta.get("onnx_value")
            if name is None or not isinstance(value, torch.Tensor):
                return value
            if name in outputs and value.is_floating_point() and name not in self.taps:
                tap = torch.zeros_like(value, requires_grad=True)
                self.taps[name] = tap
                value = value.detach() + tap if not value.requires_grad else value + tap
            if name in inputs:
                self.seen[name] = value
            return value

    return Taps()
