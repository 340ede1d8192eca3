"""What one kernel does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class Group:
    """What one kernel does.

    Args:
        root: the operator with a loop; None: every element by itself.
        path: from the root's result to the kernel's: nodes that move elements, values that are computed from those so
            far.
        result: what it stores.
        inlined: the node that computes each value that lies in no buffer.
        ahead: whether it reads nothing but weights, so that doing it once is enough.
    """

    root: ir.Node | None
    path: tuple[ir.Node | ir.Value, ...]
    result: ir.Value
    inlined: Mapping[ir.Value, ir.Node]
    ahead: bool = False

    @property
    def label(self) -> str:
        """For people."""
        last = self.result.producer()
        names = [n.name or n.op_type for n in (self.root, last) if n is not None]
        return " … ".join(dict.fromkeys(names))
