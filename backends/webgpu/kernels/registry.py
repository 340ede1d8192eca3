"""Operators that have a loop, and the forms that it can be written in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from .writer import Writer

Form = Callable[["Writer"], None]


@dataclass(frozen=True)
class Kernel:
    """An operator's loop.

    Args:
        forms: ways to write it for a node, the one to take untuned first; those that a device's limits forbid are
            passed over.
        reads_often: whether an element of an input is read by many threads, so that little may be computed there.
        applies: whether a node is one that the forms know.
        starts_from: the number of the input that the result is a copy of before the kernel runs: that lies in a buffer,
            and what follows is another kernel's. None where the kernel writes every element.
    """

    forms: Callable[[ir.Node], Iterable[Form]]
    reads_often: bool
    applies: Callable[[ir.Node], bool]
    starts_from: Callable[[ir.Node], int | None] = lambda node: None


KERNELS: dict[tuple[str, str], Kernel] = {}


def kernel(
    *names: str,
    domain: str = "",
    reads_often: bool = False,
    applies: Callable[[ir.Node], bool] = lambda node: True,
    starts_from: Callable[[ir.Node], int | None] = lambda node: None,
) -> Callable[[Callable[[ir.Node], Iterable[Form]]], Callable[[ir.Node], Iterable[Form]]]:
    """Declare the forms of operators."""

    def declare(forms: Callable[[ir.Node], Iterable[Form]]) -> Callable[[ir.Node], Iterable[Form]]:
        for name in names:
            KERNELS[domain, name] = Kernel(forms, reads_often, applies, starts_from)
        return forms

    return declare


def only_first_output(node: ir.Node) -> bool:
    """Whether nothing but the first result is wanted."""
    return all(not v.name or not (v.uses() or v.is_graph_output()) for v in node.outputs[1:])
