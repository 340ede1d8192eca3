"""What a program says about the operands of a call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx


def constant(module: fx.GraphModule, argument: Any) -> Tensor | None:
    """The constant that an argument is; None where it is computed."""
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    found: Any = module
    for name in str(argument.target).split("."):
        found = getattr(found, name)
    return found if isinstance(found, torch.Tensor) else None
