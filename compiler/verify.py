"""Does the new program compute what the original computes? A failed check is an error, never a warning."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .errors import EXIT_FAILED_CHECK, TamagoError
from .facts import Array, Dim
from .ir import dims

# Largest |difference| over the largest |value| of an output. Reassociation in a deep network costs a few hundred units
# in the last place; a wrong rewrite costs orders of magnitude more.
TOLERANCE = {
    np.dtype(np.float64): 1e-8,
    np.dtype(np.float32): 1e-3,
    np.dtype(np.float16): 2e-2,
}
DEFAULT_TOLERANCE = 5e-2  # bfloat16 and narrower


@dataclass(frozen=True)
class Difference:
    """How far one output is from the original's: relative to the largest value, and whether that is allowed."""

    name: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the error is within what is allowed."""
        return self.error <= self.allowed


def compare(
    names: Sequence[str], wanted: Sequence[object], found: Sequence[object], stacked: Collection[str] = ()
) -> list[Difference]:
    """One difference for each output; sequences and maps must be equal.

    Args:
        names: of the outputs.
        wanted: theirs.
        found: the other program's.
        stacked: names of those that a loop stacks.
    """
    pairs = zip(names, wanted, found, strict=True)
    return [
        Difference(n, 0.0, 0.0) if n in stacked and _never_turned(w, f) else _difference(n, w, f) for n, w, f in pairs
    ]


def _difference(name: str, wanted: object, found: object) -> Difference:
    if not isinstance(wanted, np.ndarray) or not isinstance(found, np.ndarray):
        return Difference(name, _structure_error(wanted, found), 0.0)
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return Difference(name, float("inf"), 0.0)
    kind = "f" if wanted.dtype.kind == "V" or "float" in str(wanted.dtype) else wanted.dtype.kind
    if kind not in "fc":
        return Difference(name, 0.0 if bool(np.array_equal(wanted, found)) else float("inf"), 0.0)
    allowed = TOLERANCE.get(wanted.dtype, DEFAULT_TOLERANCE)
    return Difference(name, relative_error(wanted, found), allowed)


def _never_turned(wanted: object, found: object) -> bool:
    """Whether a loop of no turns stacked nothing: ONNX Runtime makes that [0] where it does not know the shape."""
    if not isinstance(wanted, np.ndarray) or not isinstance(found, np.ndarray) or wanted.dtype != found.dtype:
        return False
    return wanted.shape == (0,) and found.shape[:1] == (0,)


def _structure_error(wanted: object, found: object) -> float:
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return max((_difference("", w, f).error for w, f in zip(wanted, found, strict=True)), default=0.0)
    return 0.0 if repr(wanted) == repr(found) else float("inf")


def relative_error(wanted: Array, found: Array) -> float:
    """Largest difference over largest finite magnitude; infinite where NaN or infinity stand in other places."""
    a = wanted.astype(np.complex128 if wanted.dtype.kind == "c" else np.float64)
    b = found.astype(a.dtype)
    finite = np.isfinite(a)
    if not bool(np.array_equal(finite, np.isfinite(b))):
        return float("inf")
    if not bool(np.array_equal(a[~finite], b[~finite], equal_nan=True)):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.max(np.abs(a[finite])))
    worst = float(np.max(np.abs(a[finite] - b[finite])))
    return worst / scale if scale > 0 else (0.0 if worst == 0 else float("inf"))


NOISE = 8.0  # times the model's own rounding noise that a reordering of its arithmetic may cost


def allow_noise(differences: Sequence[Difference], own: Sequence[Difference]) -> list[Difference]:
    """Differences, allowed as much more as the model itself is unsteady.

    Args:
        differences: new program against the original.
        own: the original run without the runtime's own optimisation against the same original: a model whose output
            moves when nothing but the order of its arithmetic changes cannot be held to a tighter bound.
    """
    return [
        Difference(d.name, d.error, max(d.allowed, NOISE * o.error) if np.isfinite(o.error) else d.allowed)
        for d, o in zip(differences, own, strict=True)
    ]


def require(differences: Sequence[Difference], *, elsewhere: str = "") -> float:
    """The largest error.

    Args:
        differences: of all outputs.
        elsewhere: a target whose own arithmetic cannot be the reason; empty where there is none.

    Raises:
        TamagoError: V001, an output differs by more than its dtype allows.
    """
    for d in differences:
        if not d.passed:
            raise TamagoError(
                "V001",
                "the optimised model does not compute what the original does",
                where=f"output {d.name!r}",
                why=f"relative error {d.error:.3g}, allowed {d.allowed:.3g}",
                todo="please report this model: bit-identical rules alone make it no better"
                + (f'; until then, use target "{elsewhere}"' if elsewhere else ""),
                exit_code=EXIT_FAILED_CHECK,
            )
    return max((d.error for d in differences), default=0.0)


def fits_declaration(graph: ir.Graph, outputs: Sequence[object]) -> bool:
    """Whether results have the sizes that the file declares: inputs for which they do not are none of this model."""
    for value, found in zip(graph.outputs, outputs, strict=True):
        shape = dims(value)
        if shape is None or not isinstance(found, np.ndarray):
            continue
        if not has_sizes(found, shape):
            return False
    return True


def has_sizes(array: Array, shape: Sequence[Dim]) -> bool:
    """Whether an array has the rank and the fixed sizes of a shape."""
    return array.ndim == len(shape) and not any(
        isinstance(d, int) and d >= 0 and d != n for d, n in zip(shape, array.shape, strict=True)
    )


def are_numbers(outputs: Sequence[object]) -> bool:
    """Whether results prove anything: NaN and infinity alone agree with those of many a wrong program."""
    floats = [o for o in outputs if isinstance(o, np.ndarray) and (o.dtype.kind in "fc" or "float" in str(o.dtype))]
    filled = [o for o in floats if o.size]
    return len(filled) < len(outputs) or any(bool(np.isfinite(o.astype(np.complex128)).any()) for o in filled)


def has_free_dimensions(graph: ir.Graph) -> bool:
    """Whether some input's size is for the caller to choose."""
    return any(not isinstance(d, int) for v in graph.inputs if v.shape is not None for d in v.shape)


LARGEST_MADE_UP = 1 << 22  # elements of all inputs together, where sizes are for us to choose
FREE_SIZES = ((2, 2), (1, 1), (3, 7), (2, 16), (1, 64), (1, 256), (1, 512), (1, 1024), (1, 16000))


def trials(graph: ir.Graph, feeds: Mapping[str, Array] | None = None) -> Iterator[Mapping[str, Array]]:
    """The caller's inputs first; then made-up ones, of several sizes where dimensions are free.

    Many models refuse lengths that are too short or no multiple of something: larger ones are tried until some run.
    """
    if feeds is not None:
        yield feeds
    schemes = [(batch, length, middle) for middle in (False, True) for batch, length in FREE_SIZES]
    for seed, (batch, length, middle) in enumerate(schemes):
        shapes, free = _shapes(graph, batch, length, middle), has_free_dimensions(graph)
        if shapes is None:
            return
        if free and sum(map(math.prod, shapes.values())) > LARGEST_MADE_UP:
            continue  # a long sound for one model is a picture of gigabytes for another
        made = make_feeds(graph, seed, batch, length, middle=middle)
        if made is not None:
            yield made
        if not free:
            return


def make_feeds(
    graph: ir.Graph, seed: int, batch: int = 1, length: int = 1, *, middle: bool = False
) -> dict[str, Array] | None:
    """Random inputs of the graph's dtypes and shapes.

    Indices into a constant table stay within it; other integers are 0 and 1.

    Args:
        graph: whose inputs to make.
        seed: of the generator.
        batch: size of a free first dimension, and of every other dimension of its name.
        length: size of other free dimensions.
        middle: nameless dimensions between the first and the last are batches too (states of recurrent nets).

    Returns:
        An array for each input, or None when some input is not a tensor of numbers.
    """
    generator = np.random.default_rng(seed)
    shapes = _shapes(graph, batch, length, middle)
    if shapes is None:
        return None
    return {
        value.name or "": _random(shape, value.dtype, generator, _table_size(value), _compared_with(value))
        for value, shape in shapes.items()
        if value.dtype is not None
    }


def _shapes(graph: ir.Graph, batch: int, length: int, middle: bool) -> dict[ir.Value, list[int]] | None:
    """The shapes of the inputs that are to be given, None where one is not a tensor of numbers; see `make_feeds`."""
    inputs = [v for v in graph.inputs if v.name not in graph.initializers]
    batches = {d for v in inputs for d in (dims(v) or ())[:1] if isinstance(d, str)}
    shapes: dict[ir.Value, list[int]] = {}
    for value in inputs:
        shape = dims(value)
        if shape is None or value.dtype is None or value.dtype == ir.DataType.STRING:
            return None
        if not isinstance(value.type, ir.TensorType):
            return None
        inner = range(1, len(shape) - 1) if middle else ()
        nameless = {0, *inner}
        shapes[value] = [_size(d, i in nameless, batches, batch, length) for i, d in enumerate(shape)]
    return shapes


def _size(dim: Dim, nameless_batch: bool, batches: set[str], batch: int, length: int) -> int:
    if isinstance(dim, int):
        return dim
    return batch if dim in batches or (dim is None and nameless_batch) else length


def _table_size(value: ir.Value) -> int:
    """How many rows the smallest constant table has that the value looks up in; 2 when it looks up in none."""
    sizes = [
        int(rows)
        for node, position in value.uses()
        if node.op_type == "Gather" and position == 1 and (table := node.inputs[0]) is not None
        if table.const_value is not None and table.shape is not None
        if (axis := node.attributes["axis"].as_int() if "axis" in node.attributes else 0) < len(table.shape)
        if isinstance(rows := table.shape[axis], int)
    ]
    return min(sizes, default=2)


def _compared_with(value: ir.Value) -> list[int]:
    """Numbers that an integer input is compared with: a sampling rate, a mode."""
    others = [
        other for node, _ in value.uses() if node.op_type == "Equal" for other in node.inputs if other is not value
    ]
    tensors = [v.const_value for v in others if v is not None and v.const_value is not None and v.const_value.size == 1]
    producers = [v.producer() for v in others if v is not None]
    constants = [n.attributes["value"].as_tensor() for n in producers if n is not None and "value" in n.attributes]
    return [int(t.numpy().reshape(-1)[0]) for t in (*tensors, *constants) if t.size == 1]


def _random(
    shape: Sequence[int], dtype: ir.DataType, generator: np.random.Generator, rows: int, known: Sequence[int]
) -> Array:
    if known and dtype.is_integer():
        return generator.choice(np.asarray(known), shape).astype(dtype.numpy())
    if dtype == ir.DataType.BOOL:
        return generator.integers(0, 2, shape).astype(bool)
    if dtype.is_integer():
        return generator.integers(0, max(rows, 1), shape).astype(dtype.numpy())
    return generator.standard_normal(shape).astype(dtype.numpy())
