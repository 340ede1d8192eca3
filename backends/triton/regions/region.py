"""A fusion that is offered after the choice: where it could be done, and the program in which it is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir


@dataclass(frozen=True)
class Region:
    """A kind of fusion.

    Args:
        name: what reports call it.
        places: the distinct places of a program, in order of appearance: what is fused there and its sizes. Repeated
            blocks share one. Each is decided by itself, by timing the whole program with and without it.
        fuse: the program in which all places of one kind are fused; None where nothing is.
    """

    name: str
    places: Callable[[ir.Model], Sequence[Hashable]]
    fuse: Callable[[ir.Model, Any], ir.Model | None]


def everywhere(fuse: Callable[[ir.Model], ir.Model | None]) -> Region:
    """A fusion that is done at all its places or at none."""
    return Region(fuse.__name__.replace("_", " "), lambda _: (None,), lambda model, _: fuse(model))
