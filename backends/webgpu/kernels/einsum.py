"""Einsum: a thread for each result, a loop over what is summed."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from string import ascii_letters

import onnx_ir as ir

from ..expression import shape_of
from ..index import Index
from ..types import computed
from .registry import Form, kernel
from .writer import Writer


@dataclass(frozen=True)
class Equation:
    """The letters of each operand's axes, those of the result, and the size of each letter."""

    operands: tuple[str, ...]
    result: str
    sizes: dict[str, int]


def equation_of(node: ir.Node) -> Equation:
    """The equation, an ellipsis written out in letters that it does not use."""
    text = node.attributes["equation"].as_string().replace(" ", "")
    shapes = [shape_of(v) for v in node.inputs if v is not None]
    left, _, right = text.partition("->")
    terms = left.split(",")
    free = [c for c in ascii_letters if c not in text]
    widest = max((len(s) - len(t) + 3 for t, s in zip(terms, shapes, strict=True) if "..." in t), default=0)
    dots = "".join(free[:widest])
    written: list[str] = []
    for term, shape in zip(terms, shapes, strict=True):
        count = len(shape) - len(term) + 3
        written.append(term.replace("...", dots[widest - count :] if count else ""))
    if "->" not in text:
        once = sorted(c for c in set("".join(written)) - set(dots) if "".join(written).count(c) == 1)
        right = "..." * bool(dots) + "".join(once)
    sizes: dict[str, int] = {}
    for term, shape in zip(written, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(sizes.get(letter, 1), size)
    return Equation(tuple(written), right.replace("...", dots), sizes)


def _einsum(w: Writer) -> None:
    e, shader = w.root, w.shader
    equation = equation_of(e.node)
    at = shader.subscript(w.a_thread_each(prod(e.shape)), e.shape)
    place: dict[str, Index] = dict(zip(equation.result, at, strict=True))
    summed = [c for c in equation.sizes if c not in place]
    shape = [equation.sizes[c] for c in summed]
    shader.line(f"var sum = {e.literal(0)};")
    with shader.block(f"for (var k = 0; k < {prod(shape)}; k++)"):
        place |= dict(zip(summed, shader.subscript("k", shape), strict=True))
        terms = [e.input(number, [place[c] for c in term]) for number, term in enumerate(equation.operands)]
        shader.line(f"sum += {' * '.join(terms)};")
    w.store(at, "sum")


def _counts(node: ir.Node) -> bool:
    return computed(node.outputs[0].dtype) != "bool"


@kernel("Einsum", reads_often=True, applies=_counts)
def einsum(node: ir.Node) -> list[Form]:
    """A thread for each result."""
    return [_einsum]
