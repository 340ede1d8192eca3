"""A value takes another's place, in what reads it and among the graph's outputs, which keep their names."""

from __future__ import annotations

import onnx_ir as ir

from .optimise import Names


def replace(old: ir.Value, new: ir.Value, fresh: Names) -> None:
    """Let everything that read the old value read the new one."""
    name = old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if new.is_graph_output():
        old.name, new.name = fresh(f"{name}/before"), name
