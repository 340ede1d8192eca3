"""What is known of a value before it is run: dtype, shape, and its constant contents if it has any.

Facts are computed in Python and never by the e-graph: a rule's guard reads them, a rule's result is given them by
`inference.infer_node`, and two terms may only be called equal when their facts agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from .scratch import put_away

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]
Dim = int | str | None
Shape = tuple[Dim, ...]


def item_bytes(dtype: int | None) -> float:
    """Bytes of one element; a string counts as a pointer and a few characters, an unknown dtype as float32."""
    if dtype is None:
        return 4.0
    found = ir.DataType(dtype)
    return 16.0 if found in (ir.DataType.STRING, ir.DataType.UNDEFINED) else float(found.itemsize)


class Constant:
    """The contents of a constant in every instance of a block: one array when all instances share it.

    Arrays are made on first use, so a chain of folds costs nothing until its end is wanted; those of a large model are
    put away then. `owners` names where the
    bytes come from (an initializer's name per instance), so an unchanged weight is reused rather than written again.
    """

    def __init__(self, thunks: Sequence[Callable[[], Array]], owners: tuple[str, ...] | None = None) -> None:
        self._thunks = tuple(thunks)
        self._arrays: list[Array | None] = [None] * len(self._thunks)
        self.owners = owners

    @classmethod
    def of(cls, array: Array) -> Constant:
        """The same contents in every instance."""
        return cls([lambda: array])

    def __len__(self) -> int:
        return len(self._thunks)

    def array(self, instance: int) -> Array:
        """The contents in one instance; the shared array whatever the instance when all share it."""
        index = instance if len(self._thunks) > 1 else 0
        found = self._arrays[index]
        if found is None:
            found = self._thunks[index]()
            found = self._arrays[index] = found if self.owners else put_away(found)
        return found

    @cached_property
    def least(self) -> float:
        """The least of its numbers in the first instance."""
        return float(np.min(self.array(0)))


@dataclass(frozen=True)
class Fact:
    """dtype is an ONNX `TensorProto.DataType` number (None: unknown, or not a tensor); shape None: rank unknown."""

    dtype: int | None = None
    shape: Shape | None = None
    constant: Constant | None = field(default=None, compare=False)
    causal: bool = False  # a mask that hides what is above the diagonal, and nothing else
    hidden: bool = field(default=False, compare=False)  # it holds scores that a mask hides, or is such a mask

    @property
    def size(self) -> int | None:
        """Number of elements, or None while a dimension is unknown."""
        if self.shape is None:
            return None
        dims = [d for d in self.shape if isinstance(d, int)]
        return prod(dims) if len(dims) == len(self.shape) else None

    def join(self, other: Fact) -> Fact:
        """Both facts at once, for one value known in two ways.

        Raises:
            Contradiction: they cannot both be true of one value.
        """
        dtype = self.dtype if self.dtype is not None else other.dtype
        if other.dtype is not None and other.dtype != dtype:
            raise Contradiction(f"dtype {self.dtype} is not {other.dtype}")
        return replace(
            self,
            dtype=dtype,
            shape=_join_shape(self.shape, other.shape),
            constant=self.constant or other.constant,
            causal=self.causal or other.causal,
            hidden=self.hidden or other.hidden,
        )


class Contradiction(Exception):
    """Two facts about one value that cannot both be true: a rule was wrong, or a file lies about itself."""


def _join_shape(a: Shape | None, b: Shape | None) -> Shape | None:
    if a is None or b is None:
        return a if b is None else b
    if len(a) != len(b):
        raise Contradiction(f"rank {len(a)} is not {len(b)}")
    return tuple(_join_dim(p, q) for p, q in zip(a, b, strict=True))


def _join_dim(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int) and a != b:
        raise Contradiction(f"dimension {a} is not {b}")
    if isinstance(a, int) or b is None:
        return a
    # A number says more than a name; of two names either will do, the first is kept.
    return b if isinstance(b, int) or a is None else a
