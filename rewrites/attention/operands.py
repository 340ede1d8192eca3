"""What attention's rules ask of their operands, and how they bring them into the layout of ONNX's Attention."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ...compiler.causal_masks import FAR
from ...compiler.facts import Array, Dim
from ...compiler.rule import Expression, Skip, Term, Value, op
from ..shape.axes import ints
from ..shape.dimensions import same_dim

# No runtime here has Attention for another dtype; bfloat16 runs on GPUs alone, as such models do.
KERNEL_DTYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def require_kernel_dtype(*values: Value) -> None:
    """Refuse dtypes that Attention and RotaryEmbedding have no kernel for, and mixtures.

    Raises:
        Skip: an operand is none of float32, float16 and bfloat16, or they differ.
    """
    if values[0].dtype not in KERNEL_DTYPES or len({v.dtype for v in values}) > 1:
        raise Skip("the operands are not all float32 or all of one half precision")


def require_not_empty(*values: Value) -> None:
    """Refuse empty tensors: kernels of Attention reject them, products do not.

    Raises:
        Skip: a dimension is zero.
    """
    if any(dim == 0 for value in values for dim in value.shape):
        raise Skip("an operand is empty")


def require_last(axis: int, rank: int) -> None:
    """Refuse a softmax or a concatenation along another axis than the last.

    Raises:
        Skip: it is.
    """
    if axis not in (-1, rank - 1):
        raise Skip("the axis is not the last")


def require_same(a: Dim, b: Dim, what: str) -> None:
    """Refuse dimensions that are not known to be equal.

    Raises:
        Skip: they are not.
    """
    if not same_dim(a, b):
        raise Skip(f"{what} are not known to be equal")


def require_number(dim: Dim, what: str) -> int:
    """A dimension as a number.

    Raises:
        Skip: it is not known.
    """
    if not isinstance(dim, int):
        raise Skip(f"{what} is not known")
    return dim


def one_number(constant: Value, like: Value) -> float:
    """The number a constant of one element holds, which broadcasts without making its partner larger.

    Raises:
        Skip: it is not one number, or has more dimensions than its partner.
    """
    if constant.size != 1 or constant.rank > like.rank:
        raise Skip("the factor is not one number")
    return constant.scalar


def lowest(dtype: int | None) -> Array:
    """The lowest finite number: what exporters write for minus infinity."""
    found = ir.DataType(dtype or ir.DataType.FLOAT).numpy()
    return np.asarray(ml_dtypes.finfo(found).min, dtype=found)


def is_far(numbers: Array) -> bool:
    """Whether what is hidden by them weighs exactly 0 beside anything that is not."""
    least = max(float(ml_dtypes.finfo(numbers.dtype).min), FAR)
    return bool(np.all(np.asarray(numbers, np.float64) <= least))


def hides_no_row(mask: Value) -> bool:
    """Whether every row of an additive mask is known to let something be seen; those of a causal one see themselves."""
    return mask.fact.causal or mask.every(_shows_something)


def _shows_something(mask: Array) -> bool:
    """Whether every row (last axis) of an additive mask has an entry above the lowest number, and none is NaN."""
    if mask.ndim == 0 or mask.size == 0:
        return False
    best = np.max(np.asarray(mask, dtype=np.float64), axis=-1)
    return bool(np.all(best > float(ml_dtypes.finfo(mask.dtype).min)))  # a NaN fails the comparison


def raised(mask: Value) -> Term:
    """A mask that hides no row; or a finite constant one with the lowest number replaced by the next one above.

    ONNX Runtime's Attention answers 0 for a row whose scores are all at or below the lowest number; a softmax answers
    the mean. One step above, it answers the mean too; no score that is not itself near the lowest number can
    tell the difference, because x + lowest rounds to lowest.

    Raises:
        Skip: the mask is not constant, or holds infinities or NaN.
    """
    if hides_no_row(mask):
        return mask
    if not mask.every(lambda array: bool(np.all(np.isfinite(array)))):
        raise Skip("a row of the mask may hide every key")
    bottom = lowest(mask.dtype)
    if mask.every(lambda array: bool(np.all(np.greater(array, bottom)))):
        return mask
    return op.Max(mask, np.nextafter(bottom, np.zeros_like(bottom)))


def fit_mask(mask: Term, shape: tuple[Dim, ...], q: Value, k: Value) -> Term:
    """An additive mask as Attention takes it: its last two dimensions those of the scores, not broadcast.

    Args:
        mask: broadcasts to the scores.
        shape: the mask's own.
        q: queries (…, L, D).
        k: keys (…, D, S).

    Raises:
        Skip: a dimension is not known to be 1 or that of the scores.
    """
    scores = (*q.shape[:-1], k.shape[-1])
    if len(shape) > len(scores):
        raise Skip("the mask has more dimensions than the scores")
    for theirs, ours in zip(reversed(shape), reversed(scores), strict=False):
        if theirs != 1 and not same_dim(theirs, ours):
            raise Skip("a dimension of the mask is not known to be that of the scores")
    if len(shape) >= 2 and same_dim(shape[-1], scores[-1]) and same_dim(shape[-2], scores[-2]):
        return mask
    rows, keys = scores[-2], scores[-1]
    if isinstance(rows, int) and isinstance(keys, int):
        return op.Expand(mask, ints(rows, keys))
    last = q.rank - 1
    sizes = op.Concat(op.Shape(q, start=last - 1, end=last), op.Shape(k, start=last), axis=0)
    return op.Expand(mask, sizes)


def attention(q: Value, k: Value, v: Value, mask: Term | None, attributes: Mapping[str, float]) -> Expression:
    """softmax(q k + mask) v as Attention; of rank 2 and 3 every matrix becomes a head of its own.

    Args:
        q: queries (batch…, L, D).
        k: keys, transposed: (batch…, D, S).
        v: values (batch…, S, V).
        mask: None or (L, S) or (batch…, L, S), see `fit_mask`.
        attributes: of Attention.

    Raises:
        Skip: the ranks or batches differ, an operand is empty, a weight, or of a dtype without kernel.
    """
    require_kernel_dtype(q, k, v)
    require_not_empty(q, k, v)
    if k.is_const or v.is_const:
        raise Skip("the keys or values are weights")
    if not 2 <= q.rank <= 4 or k.rank != q.rank or v.rank != q.rank:
        raise Skip("queries, keys and values are not of one rank from 2 to 4")
    for place in range(q.rank - 2):
        require_same(q.shape[place], k.shape[place], "the batches of queries and keys")
        require_same(q.shape[place], v.shape[place], "the batches of queries and values")
    swap = (*range(q.rank - 2), q.rank - 1, q.rank - 2)
    operands: list[Term] = [q, op.Transpose(k, perm=swap), v]
    if mask is not None:
        operands.append(mask)
    if q.rank == 4:
        return op.Attention(*operands, **attributes)
    axes = ints(1) if q.rank == 3 else ints(0, 1)
    raised_rank = [op.Unsqueeze(operand, axes) for operand in operands[:3]]
    if mask is not None:
        raised_rank.append(_mask_of_heads(mask, q.rank))
    return op.Squeeze(op.Attention(*raised_rank, **attributes), axes)


def _mask_of_heads(mask: Term, rank: int) -> Term:
    """The mask of scores (batch, L, S) as one of (batch, 1, L, S): where it has a batch, the head stands behind."""
    if rank == 2:
        return mask
    return op.Unsqueeze(op.Expand(mask, ints(1, 1, 1)), ints(1))
