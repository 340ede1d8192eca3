"""The sizes that `tamago web` is told: shapes of inputs, and the numbers that a named dimension takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import product

import onnx_ir as ir

from ..errors import TamagoError
from ..facts import Dim
from ..ir import dims
from ..sizes import Sizes, settle, shape_at

Shapes = Mapping[str, tuple[int | str, ...]]  # by input; a word is a dimension that has several sizes
Ranges = Mapping[str, tuple[int, ...]]  # what a dimension may be, by its name
MOST = 1 << 31  # shaders have integers of 32 bits


def read_sizes(words: list[str]) -> dict[str, tuple[int, ...]]:
    """Numbers by dimension, from `sequence=32,128`.

    Raises:
        TamagoError: W005 what is no number, W011 a dimension or a number twice.
    """
    found: dict[str, tuple[int, ...]] = {}
    for word in words:
        name, _, text = word.rpartition("=")
        try:
            numbers = tuple(int(number) for number in text.split(","))
        except ValueError:
            numbers = ()
        if not name or not numbers or min(numbers) < 0 or max(numbers) >= MOST:
            raise TamagoError("W005", "sizes cannot be read", where=word, todo="write them as --sizes NAME=32,128")
        if name in found or len(set(numbers)) < len(numbers):
            what = f"the sizes of '{name}' are" if name in found else "a size is"
            raise TamagoError("W011", f"{what} given twice", where=word)
        found[name] = numbers
    return found


def read_shapes(words: list[str], named: Collection[str] = ()) -> dict[str, tuple[int | str, ...]]:
    """Shapes by input, from `name=1,3,224,224`, or `name=1,sequence` where `sequence` is named.

    Raises:
        TamagoError: W005 what is no shape, W011 an input twice.
    """
    found: dict[str, tuple[int | str, ...]] = {}
    for word in words:
        name, _, text = word.rpartition("=")
        try:
            shape = tuple(size if size in named else int(size) for size in text.split(",") if size)
        except ValueError:
            name, shape = "", ()
        if not name or any(isinstance(size, int) and size < 0 for size in shape):
            todo = "write it as --shape NAME=1,3,224,224"
            raise TamagoError("W005", "a shape cannot be read", where=word, todo=todo)
        if name in found:
            todo = f"for several sizes: --shape {name}=1,n --sizes n=32,128, or the model's own name of the dimension"
            raise TamagoError("W011", f"the shape of '{name}' is given twice", where=word, todo=todo)
        found[name] = shape
    return found


def set_shapes(model: ir.Model, shapes: Shapes, ranges: Ranges) -> None:
    """Give inputs what is known before the search, which it helps; whether shapes fit is for the plan to say.

    Args:
        model: changed in place: shapes only.
        shapes: that were given.
        ranges: dimensions that stay free where they have several sizes.

    Raises:
        TamagoError: W006 an input that is not there, W011 what contradicts the file or itself, W012 a dimension that no
            input has.
    """
    inputs = {value.name: value for value in model.graph.inputs}
    sizes = {name: numbers[0] for name, numbers in ranges.items() if len(numbers) == 1}
    for name, shape in shapes.items():
        if name not in inputs:
            todo = f"it has {', '.join(str(n) for n in inputs)}"
            raise TamagoError("W006", f"the model has no input '{name}'", todo=todo)
        known = dims(inputs[name])
        declared = shape if known is None else known
        pairs = list(zip(declared, shape, strict=False))
        for dim, size in pairs:
            _check_one_voice(name, dim, size, ranges)
        if len(declared) == len(shape) and all(not isinstance(d, int) or d == s for d, s in pairs):
            inputs[name].shape = ir.Shape(shape)
            sizes |= {d: s for d, s in pairs if isinstance(d, str) and isinstance(s, int)}
    _check_named(model.graph, ranges)
    settle(model, sizes)


def _check_one_voice(name: str, dim: Dim, size: int | str, ranges: Ranges) -> None:
    """Raise W011 where a shape says something else of a dimension than its name does."""
    if isinstance(dim, int) and isinstance(size, str):
        raise TamagoError("W011", f"a dimension of '{name}' is {dim} in the file: it cannot have several sizes")
    if not isinstance(dim, str) or dim == size:
        return
    if isinstance(size, str):
        todo = f"use its name: --sizes {dim}=…"
        raise TamagoError("W011", f"a dimension of '{name}' is '{dim}' in the file, not '{size}'", todo=todo)
    if dim in ranges:
        todo = f"leave it to --sizes: --shape {name}=…,{dim},…"
        raise TamagoError("W011", f"--shape and --sizes both say what '{dim}' is", where=name, todo=todo)


def _check_named(graph: ir.Graph, ranges: Ranges) -> None:
    found = {d for value in graph.inputs for d in dims(value) or () if isinstance(d, str)}
    names = found | {str(symbol) for d in found for symbol in _symbols(d)}
    for name in ranges:
        if name not in names:
            todo = f"its inputs have {', '.join(sorted(found))}" if found else f"name one: --shape INPUT=1,{name}"
            raise TamagoError("W012", f"no input has a dimension '{name}'", todo=todo)


def _symbols(dim: str) -> Collection[object]:
    """Names in a product or sum of them."""
    try:
        return ir.SymbolicDim(dim).free_symbols()
    except (ValueError, TypeError, SyntaxError, ArithmeticError):
        return ()


def every_size(ranges: Ranges) -> list[Sizes]:
    """Each dimension's sizes with each of the others', in the order given."""
    return [dict(zip(ranges, numbers, strict=True)) for numbers in product(*ranges.values())]


def shapes_at(graph: ir.Graph, shapes: Shapes, size: Sizes) -> dict[str, tuple[int, ...]]:
    """Shapes of a graph's inputs at a size, as far as they are known."""
    found: dict[str, tuple[int, ...]] = {}
    for value in graph.inputs:
        shape = shapes.get(value.name or "", dims(value))
        numbers = None if shape is None else [d for d in shape_at(shape, size) if isinstance(d, int)]
        if shape is not None and numbers is not None and len(numbers) == len(shape):
            found[value.name or ""] = tuple(numbers)
    return found
