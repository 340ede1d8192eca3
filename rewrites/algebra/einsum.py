"""Einsum of one or two operands as transposes, a matrix product and sums.

Indices are sorted by where they occur: in both operands and the result (batch), in both but not the result (summed by
the product), in one operand and the result (rows or columns), in one operand only (summed first).
"""

from __future__ import annotations

from math import prod

from ...compiler.facts import Dim, Shape
from ...compiler.rule import Expression, Skip, Term, Value, op, rule, var
from ..shape.axes import ints, is_identity
from ..shape.reshaping import reshape, reshape_expression

x, y, equation = var("x y equation")
Sizes = dict[str, Dim]


@rule(
    op.Einsum(x, equation=equation),
    drift="rounding",
    phase="canonicalise",
    peers="onnxoptimizer (opt-in), onnxsim",
    example=[
        {"x": "f32[2,3,4]", "equation": "bij->bji"},
        {"x": "f32[2,n,4]", "equation": "abc -> ca"},
        {"x": "f32[2,3]", "equation": "ij->"},
        {"x": "f32[2,3]", "equation": "ba"},
    ],
    refuse=[
        {"x": "f32[3,3]", "equation": "ii->i", "because": "twice"},
        {"x": "f32[2,3]", "equation": "...i->...", "because": "ellipsis"},
    ],
)
def einsum_of_one(x: Value, equation: str) -> Term:
    """Einsum(x) = Transpose(ReduceSum(x))."""
    (letters,), result = _parsed(equation, [x])
    return _ordered(*_summed(x, letters, result), result)


@rule(
    op.Einsum(x, y, equation=equation),
    drift="rounding",
    phase="canonicalise",
    peers="onnxoptimizer (opt-in), onnxsim",
    example=[
        {"x": "f32[2,3]", "y": "f32[3,4]", "equation": "ij,jk->ik"},
        {"x": "f32[2,3,4]", "y": "f32[2,5,4]", "equation": "bik,bjk->bij"},
        {"x": "f32[2,5,3,4]", "y": "f32[2,6,3,4]", "equation": "bqhd,bkhd->bhqk"},
        {"x": "f32[2,n,4]", "y": "f32[4,3]", "equation": "bij,jk"},
        # several indices make the rows, or are summed
        {"x": "f32[2,3,4,5]", "y": "f32[4,5,6]", "equation": "abcd,cde->abe"},
        {"x": "f32[2,3,4]", "y": "f32[5,4]", "equation": "bhd,kd->bkh"},
        {"x": "f32[n,m,3]", "y": "f32[3,4]", "equation": "abc,cd->dab"},
        {"x": "f32[n,3,4]", "y": "f32[4,2,5]", "equation": "abc,cde->abde"},
        # no index is summed, or one of one operand only
        {"x": "f32[2,3]", "y": "f32[4]", "equation": "ij,k->kij"},
        {"x": "f32[2,3]", "y": "f32[2]", "equation": "ij,i->ij"},
        {"x": "f32[2,3,4]", "y": "f32[4]", "equation": "ijk,k->i"},
        {"x": "f32[4]", "y": "f32[4]", "equation": "i,i->"},
    ],
    refuse=[
        {"x": "f32[1,3]", "y": "f32[3,4]", "equation": "...j,jk->...k", "because": "ellipsis"},
        {"x": "f32[2,n,m,3]", "y": "f32[2,3,4]", "equation": "zabc,zcd->zdab", "because": "unknown"},
        {"x": "f32[1,3]", "y": "f32[2,3]", "equation": "ij,ij->j", "because": "differs in size"},
    ],
)
def einsum_of_two(x: Value, y: Value, equation: str) -> Term:
    """Einsum(x, y) = Transpose(MatMul(Transpose(x), Transpose(y))), or a product where no index is summed."""
    (left, right), result = _parsed(equation, [x, y])
    sizes: Sizes = dict(zip(left, x.shape, strict=True))
    for letter, dim in zip(right, y.shape, strict=True):
        if sizes.setdefault(letter, dim) != dim or dim is None:
            raise Skip("a common index differs in size, or its size is not known")
    a, left = _summed(x, left, right + result)
    b, right = _summed(y, right, left + result)
    inner = "".join(c for c in left if c in right and c not in result)
    if not inner:
        return _multiplied(a, left, b, right, result)
    batch = "".join(c for c in result if c in left and c in right)
    rows = "".join(c for c in result if c in left and c not in right)
    columns = "".join(c for c in result if c in right and c not in left)
    whole = batch + rows + columns
    second = _grouped(b, right, batch, inner, columns, sizes)
    if not batch:  # one matrix for all: rows of several indices need not become one dimension, of unknown size perhaps
        batch, rows = rows[:-1], rows[-1:]
    product = op.MatMul(_grouped(a, left, batch, rows, inner, sizes), second)
    merged = (*(sizes[c] for c in batch), _size(rows, sizes), _size(columns, sizes))
    return _ordered(reshape_expression(product, merged, tuple(sizes[c] for c in whole)), whole, result)


def _parsed(equation: str, operands: list[Value]) -> tuple[list[str], str]:
    """Each operand's letters, and the result's."""
    text = equation.replace(" ", "")
    if "." in text:
        raise Skip("the equation has an ellipsis")
    inputs, arrow, result = text.partition("->")
    letters = inputs.split(",")
    if not arrow:
        result = "".join(sorted(c for c in set(inputs) - {","} if inputs.count(c) == 1))
    if any(len(set(term)) < len(term) for term in letters):
        raise Skip("an operand has an index twice")
    if len(letters) != len(operands) or any(len(t) != v.rank for t, v in zip(letters, operands, strict=True)):
        raise Skip("the equation does not fit the operands")
    return letters, result


def _summed(x: Value, letters: str, keep: str) -> tuple[Term, str]:
    """Without the indices that nothing else has."""
    gone = [i for i, letter in enumerate(letters) if letter not in keep]
    if not gone:
        return x, letters
    return op.ReduceSum(x, ints(*gone), keepdims=0), "".join(c for c in letters if c in keep)


def _ordered(term: Term, letters: str, wanted: str) -> Term:
    perm = tuple(letters.index(c) for c in wanted)
    return term if is_identity(perm) else op.Transpose(term, perm=perm)


def _multiplied(a: Term, left: str, b: Term, right: str, result: str) -> Term:
    """No index is summed: both operands broadcast to the result."""
    return op.Mul(_spread(a, left, result), _spread(b, right, result))


def _spread(term: Term, letters: str, result: str) -> Term:
    """In the result's order, with dimensions of size 1 for the indices it lacks."""
    ordered = _ordered(term, letters, "".join(c for c in result if c in letters))
    missing = [i for i, c in enumerate(result) if c not in letters]
    return op.Unsqueeze(ordered, ints(*missing)) if missing else ordered


def _size(letters: str, sizes: Sizes) -> Dim:
    """Of the dimension that several indices make together; 1 for none."""
    dims = [sizes[c] for c in letters]
    numbers = [d for d in dims if isinstance(d, int)]
    return dims[0] if len(dims) == 1 else prod(numbers) if len(numbers) == len(dims) else None


def _grouped(term: Term, letters: str, batch: str, second: str, third: str, sizes: Sizes) -> Expression | Value:
    """As (batch…, second, third), the last two merged or made of their indices."""
    ordered = _ordered(term, letters, batch + second + third)
    source: Shape = tuple(sizes[c] for c in batch + second + third)
    target: Shape = (*(sizes[c] for c in batch), _size(second, sizes), _size(third, sizes))
    if isinstance(ordered, Value):
        return reshape(ordered, target)
    return reshape_expression(ordered, source, target)
