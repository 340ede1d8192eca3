"""Small corrections of a decomposed graph, before torch's ONNX translation reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def repair(module: torch.fx.GraphModule) -> None:
    """Correct `module` in place."""
    module.graph.eliminate_dead_code()
    module.recompile()
