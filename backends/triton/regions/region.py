"""A fusion that is offered after the choice: where it could be done, and the program in which it is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import onnx_ir as ir

from ....compiler.fold import remove_unused
from ....compiler.ir import unique_names
from ....compiler.optimise import Names

P = TypeVar("P", bound=Hashable)
Pairs = Callable[[ir.Graph], Iterator[tuple[ir.Node, ir.Node, P]]]  # two nodes that could be one, and what they are


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


def distinct(model: ir.Model, pairs: Pairs[P]) -> list[P]:
    """The different places of a model, in order of appearance."""
    return list(dict.fromkeys(place for *_, place in pairs(model.graph)))


def fused(
    model: ir.Model, place: P, pairs: Pairs[P], write: Callable[[ir.Graph, ir.Node, ir.Node, P, Names], None]
) -> ir.Model | None:
    """The model with all pairs of one place written as one node; None where there are none."""
    result = model.clone()
    found = [(first, second) for first, second, there in pairs(result.graph) if there == place]
    if not found:
        return None
    fresh = Names(unique_names(result.graph))
    for first, second in found:
        write(result.graph, first, second, place, fresh)
    remove_unused(result.graph)
    return result
