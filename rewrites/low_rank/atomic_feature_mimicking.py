"""Atomic feature mimicking (AFM): low rank of what a layer puts out, about its mean, which the bias takes up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from ...compiler.approximate.method import Form, Inputs, X, method
from ...compiler.approximate.places import Place
from ...compiler.facts import Array, Floats
from ...compiler.rule import Expression, Skip, op
from ..quantization.symmetric import columns_int8, rows_int8
from .directions import output_directions
from .factors import FRACTIONS, bias_with_mean, break_even, float32, ranks_below, two_int8_products, two_products
from .moments import moments_of
from .whitened_svd import balanced

FLOAT = int(ir.DataType.FLOAT)
SEEN = 0.5  # weight of the rows that calibration looked up, by how often; the rest is shared by all rows


@method(
    kinds=("linear", "embedding"),
    paper="Yu & Wu, Compressing Transformers: Features Are Low-Rank, but Weights Are Not!, AAAI 2023; "
    "Yu et al., Unified Low-rank Compression Framework for CTR Prediction, KDD 2024, arXiv:2405.18146 (embeddings)",
)
def atomic_feature_mimicking(place: Place, inputs: Inputs) -> Iterator[Form]:
    """x·W + b ≈ (x·W·U)·Uᵀ + b·UUᵀ + μ(I − UUᵀ), U the first eigenvectors of the outputs' covariance, μ their mean.

    The bias that is added is b + E[x]·W·(I − UUᵀ). An embedding's outputs are its rows: E[i] ≈ ((E − μ)·U)[i]·Uᵀ + μ.
    """
    if place.kind == "embedding":
        yield from _tables(place, inputs)
        return
    if place.bias is None:
        raise Skip("no bias is added that could take up the mean: whitened_svd covers it")
    ranks = ranks_below(break_even(place.shape))
    seen = moments_of(inputs.arrays).centred()
    ridge = seen.ridge(place.weight, ranks[len(ranks) // 2])
    values, directions = output_directions(place.weight, seen.second, ridge)
    for rank in ranks:
        left, right = balanced(place.weight, values[:rank], directions[:rank])
        bias = bias_with_mean(place.bias, seen.mean, place.weight, left @ right)
        yield Form(f"rank {rank}", two_products(left, right, bias))
        yield Form(f"rank {rank}, int8", two_int8_products(left, right, bias, wide=place.wide))


def _tables(place: Place, inputs: Inputs) -> Iterator[Form]:
    """Rows of fewer columns, then what turns them back; a scale for each column of codes is part of that."""
    rows, width = place.shape
    most = (rows - 1) * width / (rows + width)
    ranks = [r for r in (int(f * width) for f in FRACTIONS) if 0 < r < most]
    if not ranks:
        raise Skip(f"a table of {rows} rows and its factor save nothing from rank {most:.0f} on")
    table = place.weight.astype(np.float64)
    if not np.all(np.isfinite(table)):
        raise Skip("the table holds values that are not finite")
    weights = look_up_weights(inputs.arrays, rows)
    mean = weights @ table
    offsets = table - mean
    _, vectors = np.linalg.eigh((offsets.T * weights) @ offsets)
    for rank in ranks:
        basis = vectors[:, ::-1][:, :rank]
        short = float32(offsets @ basis)
        by_rows, by_columns = rows_int8(short), columns_int8(short)
        decoded = op.Mul(_floats(op.Gather(by_rows[0], X)), op.Gather(by_rows[1], X))
        yield Form(f"rank {rank}", _turned_back(op.Gather(short, X), basis, mean))
        yield Form(f"rank {rank}, 8 bit, a scale for each row", _turned_back(decoded, basis, mean))
        yield Form(
            f"rank {rank}, 8 bit, a scale for each column",
            _turned_back(_floats(op.Gather(by_columns[0], X)), basis * by_columns[1], mean),
        )


def _floats(codes: Expression) -> Expression:
    return op.Cast(codes, to=FLOAT)


def _turned_back(rows: Expression, basis: Floats, mean: Floats) -> Expression:
    """E'·Uᵀ + μ."""
    return op.Add(op.MatMul(rows, float32(basis.T)), float32(mean))


def look_up_weights(arrays: tuple[Array, ...], rows: int) -> Floats:
    """How much each row's error counts, summing to 1: half by how often calibration looked it up, half for being there.

    Args:
        arrays: indices; those below zero count from the end.
        rows: of the table.
    """
    counts = np.zeros(rows)
    for ids in arrays:
        counts += np.bincount(np.mod(ids.reshape(-1).astype(np.int64), rows), minlength=rows)
    even = np.full(rows, 1 / rows)
    total = counts.sum()
    return even if not total else SEEN * counts / total + (1 - SEEN) * even
