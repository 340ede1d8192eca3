"""Does the new program compute what the original computes? A failed check is an error, never a warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .errors import EXIT_FAILED_CHECK, TamagoError
from .facts import Array
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
        return self.error <= self.allowed


def compare(names: Sequence[str], wanted: Sequence[object], found: Sequence[object]) -> list[Difference]:
    """One difference for each output; sequences and maps must be equal."""
    return [_difference(n, w, f) for n, w, f in zip(names, wanted, found, strict=True)]


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


def require(differences: Sequence[Difference]) -> float:
    """The largest error.

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
                todo="please report this model; `--drift none` leaves out rules that round",
                exit_code=EXIT_FAILED_CHECK,
            )
    return max((d.error for d in differences), default=0.0)


def make_feeds(graph: ir.Graph, seed: int, sizes: Mapping[str, int]) -> dict[str, Array] | None:
    """Random inputs of the graph's dtypes and shapes.

    Args:
        graph: whose inputs to make.
        seed: of the generator.
        sizes: numbers for named dimensions; others are 1 (a batch most often).

    Returns:
        An array for each input, or None when some input is not a tensor of numbers.
    """
    generator = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in graph.inputs:
        if value.name in graph.initializers:
            continue
        shape = dims(value)
        if value.dtype is None or value.dtype == ir.DataType.STRING or shape is None:
            return None
        if not isinstance(value.type, ir.TensorType):
            return None
        numbers = [d if isinstance(d, int) else sizes.get(str(d), 1) for d in shape]
        feeds[value.name or ""] = _random(numbers, value.dtype, generator)
    return feeds


def _random(shape: Sequence[int], dtype: ir.DataType, generator: np.random.Generator) -> Array:
    numpy_dtype = dtype.numpy()
    if dtype == ir.DataType.BOOL:
        return generator.integers(0, 2, shape).astype(bool)
    if dtype.is_integer():
        return generator.integers(0, 2, shape).astype(numpy_dtype)
    return generator.standard_normal(shape).astype(numpy_dtype)
