"""What is found on the shorter side of a weight is what the direct formulas give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tamago.compiler.rule import Skip
from tamago.rewrites.low_rank.directions import damped, kept_by_directions, output_directions
from tamago.rewrites.low_rank.moments import RIDGES, moments_of
from tamago.rewrites.low_rank.welore import heavy_rank, shorter_side, singular_vectors

Array = np.ndarray[Any, Any]

SHAPES = [(48, 48), (64, 24), (24, 64), (24, 200), (1, 8), (8, 1), (2, 2)]


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def decaying(width: int, outputs: int, seed: int = 0) -> Array:
    """A weight whose singular values all differ: its singular vectors are its own."""
    u, _, v = np.linalg.svd(floats(width, outputs, seed=seed), full_matrices=False)
    return ((u * 0.9 ** np.arange(len(v))) @ v).astype(np.float32)


def moment(width: int, rows: int = 512, seed: int = 1) -> Array:
    x = floats(rows, width, seed=seed) * np.arange(1, width + 1) ** -0.5
    return x.T @ x / rows


def directly(weight: Array, seen: Array, ridge: float, other: Array, rank: int) -> float:
    """tr(VᵣᵀWᵀMWVᵣ), V the right singular vectors of SᵀW."""
    root = np.linalg.cholesky(damped(seen, ridge)).T
    _, values, v = np.linalg.svd(root @ weight.astype(np.float64), full_matrices=False)
    kept = v[:rank][values[:rank] > 1e-7 * values[0]]
    outputs = weight.astype(np.float64) @ kept.T
    return float(np.trace(outputs.T @ other @ outputs))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("part", [0.25, 0.5, 1.0])
def test_what_directions_keep_is_what_the_svd_says(shape: tuple[int, int], part: float) -> None:
    weight, rank = decaying(*shape), max(int(part * min(shape)), 1)
    seen, other = moment(shape[0]), moment(shape[0], seed=2)
    ridges = [0.0, 0.3, 2.0]

    found = kept_by_directions(weight, seen, ridges, other, rank)

    assert found == pytest.approx([directly(weight, seen, r, other, rank) for r in ridges], rel=1e-9)


@pytest.mark.parametrize("shape", [(64, 24), (24, 64), (32, 32)])
@pytest.mark.parametrize("rank", [4, 8, 20])
def test_a_weight_of_low_rank_keeps_no_more_than_it_has(shape: tuple[int, int], rank: int) -> None:
    weight = floats(shape[0], 8, seed=3) @ floats(8, shape[1], seed=4)
    seen, other = moment(shape[0]), moment(shape[0], seed=2)

    found = kept_by_directions(weight, seen, [0.0, 1.0], other, rank)

    assert found == pytest.approx([directly(weight, seen, r, other, rank) for r in (0.0, 1.0)], rel=1e-6)


@pytest.mark.parametrize("shape", [(64, 24), (24, 64)])
def test_fewer_rows_than_features_and_rows_with_a_mean_keep_what_the_svd_says(shape: tuple[int, int]) -> None:
    weight = decaying(*shape)
    few, biased = floats(6, shape[0], seed=5), floats(40, shape[0], seed=6) + 30.0

    for rows, other in ((few, biased), (biased, few)):
        seen, judged = rows.T @ rows / len(rows), other.T @ other / len(other)
        found = kept_by_directions(weight, seen, [0.0, 4.0], judged, 5)
        assert found == pytest.approx([directly(weight, seen, r, judged, 5) for r in (0.0, 4.0)], rel=1e-6)


@pytest.mark.parametrize("shape", [(64, 24), (24, 64), (24, 24)])
def test_the_ridge_is_the_one_that_directions_by_themselves_suggest(shape: tuple[int, int]) -> None:
    weight = decaying(*shape)
    for seed in range(6):
        seen = moments_of([floats(16, shape[0], seed=10 * seed + i) for i in range(4)])
        first, other = seen.halves
        judged = weight.T.astype(np.float64) @ other.second @ weight
        kept: list[float] = []
        for ridge in RIDGES:
            _, v = output_directions(weight, first.second, ridge * shape[0] / first.count)
            kept.append(float(np.trace(v[:6] @ judged @ v[:6].T)))
        assert seen.ridge(weight, 6) == RIDGES[int(np.argmax(kept))] * shape[0] / seen.count


def test_rows_of_zeros_are_refused_and_make_the_largest_ridge() -> None:
    zeros = np.zeros((8, 8))
    with pytest.raises(Skip, match="nothing but zeros"):
        kept_by_directions(decaying(8, 4), zeros, [0.0], zeros, 2)
    assert moments_of([zeros, zeros]).ridge(decaying(8, 4), 2) == RIDGES[-1] * 8 / 16


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_of_the_shorter_side_are_the_weights(shape: tuple[int, int]) -> None:
    weight = decaying(*shape)
    u, values, v = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    squared = shorter_side(weight)
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(squared)[::-1], 0))
    rank = int(np.sum(values >= 0.1 * values[0]))

    left, right = singular_vectors(weight, squared, rank)

    assert roots == pytest.approx(values, rel=1e-9, abs=1e-7 * values[0])
    assert [heavy_rank(roots, k) for k in (0.175, 0.26)] == [heavy_rank(values, k) for k in (0.175, 0.26)]
    wanted = (u[:, :rank] * values[:rank]) @ v[:rank]
    assert (left * roots[:rank]) @ right == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert np.abs(np.sum(left * u[:, :rank], axis=0)) == pytest.approx(np.ones(rank))


@pytest.mark.parametrize("shape", [(64, 24), (24, 64)])
def test_a_weight_of_low_rank_has_its_vectors_and_no_others(shape: tuple[int, int]) -> None:
    weight = (floats(shape[0], 3, seed=3) @ floats(3, shape[1], seed=4)).astype(np.float32)
    squared = shorter_side(weight)
    values = np.linalg.svd(weight.astype(np.float64), compute_uv=False)

    left, right = singular_vectors(weight, squared, 3)

    assert heavy_rank(np.sqrt(np.maximum(np.linalg.eigvalsh(squared)[::-1], 0)), 0.175) == heavy_rank(values, 0.175)
    assert (left * values[:3]) @ right == pytest.approx(weight.astype(np.float64), abs=1e-5)
    assert left.T @ left == pytest.approx(np.eye(3), abs=1e-12)
    assert right @ right.T == pytest.approx(np.eye(3), abs=1e-12)
