"""A convolution into fewer channels, then a pointwise one back to all of them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from ...compiler.approximate.forms import activated
from ...compiler.approximate.method import Form, Inputs, X, method
from ...compiler.approximate.places import Place
from ...compiler.approximate.write import attributes_of
from ...compiler.rule import op
from .convolution_patches import patch_moments, ungrouped
from .directions import output_directions
from .factors import bias_with_mean, break_even, float32, ranks_below
from .whitened_svd import balanced


@method(
    kinds=("convolution",),
    paper="Zhang et al., Accelerating Very Deep Convolutional Networks, TPAMI 2016, arXiv:1505.06798 (outputs' PCA); "
    "Xu et al., TRP: Trained Rank Pruning, IJCAI 2020, arXiv:2004.14566 (channel-wise layout)",
)
def channel_factorisation(place: Place, inputs: Inputs) -> Iterator[Form]:
    """f(W∗x + b) ≈ f(Vᵣ∗(VᵣᵀW∗x) + b + (I − VᵣVᵣᵀ)W∗E[x]), with V the eigenvectors of the covariance of W∗x.

    The convolution itself makes r channels, a pointwise one all outputs of them. One decomposition serves all ranks.
    """
    ungrouped(place)
    outputs, width = place.shape[0], prod(place.shape[1:])
    ranks = ranks_below(break_even((width, outputs)))
    seen = patch_moments(place, inputs.arrays)
    matrix = place.weight.reshape(outputs, width).T
    ridge = seen.ridge(matrix, ranks[len(ranks) // 2])
    values, directions = output_directions(matrix, seen.second, ridge)
    pointwise = [1] * (len(place.shape) - 2)
    for rank in ranks:
        left, right = balanced(matrix, values[:rank], directions[:rank])
        bias = bias_with_mean(place.bias, seen.mean, matrix, left @ right)
        narrow = op.Conv(X, float32(left.T).reshape(rank, *place.shape[1:]), **attributes_of(place))
        wide = op.Conv(narrow, float32(right.T).reshape(outputs, rank, *pointwise), bias)
        yield Form(f"rank {rank}", activated(place, wide))
