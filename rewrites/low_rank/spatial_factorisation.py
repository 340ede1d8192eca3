"""A convolution along the height, then one along the width: a sum of separable kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...compiler.approximate.forms import activated
from ...compiler.approximate.method import Form, Inputs, X, method
from ...compiler.approximate.places import Place
from ...compiler.approximate.write import attributes_of
from ...compiler.facts import Floats
from ...compiler.rule import Skip, op
from .convolution_patches import patch_moments, ungrouped
from .directions import damped, output_directions
from .factors import bias_with_mean, float32, ranks_below
from .whitened_svd import balanced


@method(
    kinds=("convolution",),
    paper="Jaderberg et al., Speeding up Convolutional Neural Networks with Low Rank Expansions, BMVC 2014, "
    "arXiv:1405.3866; Xu et al., TRP: Trained Rank Pruning, IJCAI 2020, arXiv:2004.14566 (spatial-wise layout)",
)
def spatial_factorisation(place: Place, inputs: Inputs) -> Iterator[Form]:
    """f(W∗x + b) ≈ f(H∗(V∗x) + b′), V of k×1 and H of 1×k kernels: the first r terms of the SVD of W[(i,y),(x,o)].

    V is weighed by the covariance of columns of the input, H is the least squares of the outputs from V∗x, and b′ takes
    up the mean of what is left. One decomposition serves all ranks.
    """
    ungrouped(place)
    if len(place.shape) != 4 or 1 in place.shape[2:]:
        raise Skip("the kernel does not extend along both height and width")
    outputs, channels, height, width = place.shape
    across = int((place.attributes.get("strides") or (1, 1))[1])  # more positions along the width in the first one
    work = channels * height * across + outputs * width
    ranks = ranks_below(outputs * channels * height * width / work)
    seen = patch_moments(place, inputs.arrays)
    matrix = place.weight.reshape(outputs, -1).T.astype(np.float64)
    covariance = damped(seen.second, seen.ridge(matrix, ranks[len(ranks) // 2]))
    separated = place.weight.transpose(1, 2, 3, 0).reshape(channels * height, width * outputs)
    values, directions = output_directions(separated, _of_columns(covariance, place.shape))
    for rank in ranks:
        down, _ = balanced(separated, values[:rank], directions[:rank])
        spread = _spread(down, place.shape)
        weighed = spread.T @ covariance
        along = np.linalg.pinv(weighed @ spread, hermitian=True) @ weighed @ matrix  # a rank may not be there
        bias = bias_with_mean(place.bias, seen.mean, matrix, spread @ along)
        first = op.Conv(X, float32(down.T).reshape(rank, channels, height, 1), **_only(place, 0))
        kernels = float32(along.T).reshape(outputs, rank, 1, width)
        yield Form(f"rank {rank}", activated(place, op.Conv(first, kernels, bias, **_only(place, 1))))


def _of_columns(covariance: Floats, shape: tuple[int, ...]) -> Floats:
    """The mean covariance of (channel, y) over the kernel's columns."""
    _, channels, height, width = shape
    parts = covariance.reshape(channels, height, width, channels, height, width)
    return np.einsum("iyxjzx->iyjz", parts).reshape(channels * height, channels * height) / width


def _spread(down: Floats, shape: tuple[int, ...]) -> Floats:
    """What V makes of a patch, [channels · height · width, rank · width]."""
    _, channels, height, width = shape
    kernels = down.reshape(channels, height, -1)
    return np.einsum("iyk,xz->iyxkz", kernels, np.eye(width)).reshape(channels * height * width, -1)


def _only(place: Place, axis: int) -> dict[str, Any]:
    """The place's attributes along one spatial axis, a window of 1 along the other."""
    attributes = attributes_of(place)
    found: dict[str, Any] = {k: v for k, v in attributes.items() if k == "auto_pad"}
    for name in ("strides", "dilations"):
        if attributes.get(name):
            found[name] = [v if a == axis else 1 for a, v in enumerate(attributes[name])]
    if attributes.get("pads"):
        found["pads"] = [v if a % 2 == axis else 0 for a, v in enumerate(attributes["pads"])]
    return found
