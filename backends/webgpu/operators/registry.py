"""Operators whose every element can be computed by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from ..expression import Element
from ..index import Subscript

Applies = Callable[[ir.Node], bool]


@dataclass(frozen=True)
class ElementRule:
    """An operator as a function of an element.

    Args:
        function: the element as WGSL of the result's type.
        cost: arithmetic for one element, in additions; 0: it only says where to read.
        pointwise: whether element i of the result reads element i of every input of its shape and nothing else of it.
        applies: whether a node is one that the function knows.
    """

    function: Callable[[Element], str]
    cost: int
    pointwise: bool
    applies: Applies


@dataclass(frozen=True)
class Move:
    """Where an element of the first input goes: for operators that keep every one of them, and none twice."""

    function: Callable[[ir.Node, Subscript], Subscript]


ELEMENTS: dict[str, ElementRule] = {}
MOVES: dict[str, Move] = {}


def element(
    *names: str, cost: int = 1, pointwise: bool = False, applies: Applies = lambda node: True
) -> Callable[[Callable[[Element], str]], Callable[[Element], str]]:
    """Declare operators (of the default domain, at the opset that tamago works in)."""

    def declare(function: Callable[[Element], str]) -> Callable[[Element], str]:
        for name in names:
            ELEMENTS[name] = ElementRule(function, cost, pointwise, applies)
        return function

    return declare


def move(*names: str) -> Callable[[Callable[[ir.Node, Subscript], Subscript]], None]:
    """Declare where elements go."""

    def declare(function: Callable[[ir.Node, Subscript], Subscript]) -> None:
        for name in names:
            MOVES[name] = Move(function)

    return declare
