"""What several forms in one program are predicted to do: products of their errors count, noise does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tamago.compiler.approximate.losses import Curvature
from tamago.compiler.approximate.predicted import ENOUGH_EXAMPLES, FEWEST, MOST_TERMS, Predicted, jointly, predicted
from tamago.compiler.approximate.responses import MOST_DRAWS, Draws, Seen
from tamago.compiler.facts import Floats

COUNT, WIDTH = 96, 6


def normal(*shape: int, seed: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def one(gradient: Floats, error: Floats, **words: object) -> Predicted:
    """A place on one sample that holds many examples."""
    given: dict[str, object] = {"by_position": False, "examples": len(gradient)} | words
    return predicted([Seen(error, (gradient,), 0.5 / len(gradient), **given)], [error])  # type: ignore[arg-type]


def test_an_error_that_is_made_twice_counts_four_times() -> None:
    use = one(normal(COUNT, WIDTH, seed=0), normal(COUNT, WIDTH, seed=1))

    assert jointly([use, use]).rise == pytest.approx(4 * use.rise, rel=1e-5)
    assert jointly([use]).rise == pytest.approx(use.rise, rel=1e-5)


def test_errors_that_have_nothing_to_do_with_each_other_add() -> None:
    places = [one(normal(COUNT, WIDTH, seed=s), normal(COUNT, WIDTH, seed=s + 9)) for s in range(4)]

    assert jointly(places).rise == pytest.approx(sum(p.rise for p in places), rel=0.3)


def test_what_was_not_seen_together_adds() -> None:
    gradient, error = normal(COUNT, WIDTH, seed=0), normal(COUNT, WIDTH, seed=1)
    one_branch, other_branch = one(gradient, error, number=0), one(gradient, error, number=1)

    assert jointly([one_branch, other_branch]).rise == pytest.approx(2 * one_branch.rise, rel=1e-5)


@pytest.mark.parametrize("shape", [(8 * 12, WIDTH), (8, 12, WIDTH), (12, 8, WIDTH)])
def test_positions_of_one_example_add_before_they_are_squared(shape: tuple[int, ...]) -> None:
    """Laid out one after the other, or with the examples on the first or on the second axis."""
    ones = np.ones(shape)

    assert one(ones, ones, examples=8).rise == pytest.approx(0.5 / shape[0] * 8 * (12 * WIDTH) ** 2)


def test_positions_that_the_loss_judges_are_squared_one_by_one() -> None:
    ones = np.ones((8, 12, WIDTH))

    assert one(ones, ones, by_position=True).rise == pytest.approx(0.5 / 8 * 8 * 12 * WIDTH**2)


def test_what_is_folded_keeps_its_squares_and_those_of_sums() -> None:
    long = 5 * MOST_TERMS + 3
    gradient, error = np.ones((long, 1)), normal(long, 1, seed=0)
    use, other = one(gradient, error, by_position=True), one(gradient, normal(long, 1, seed=1), by_position=True)

    assert all(len(part) == MOST_TERMS for part in use.moved.values())
    assert jointly([use]).rise == pytest.approx(use.rise, rel=0.1)
    assert jointly([use, use]).rise == pytest.approx(4 * use.rise, rel=0.1)
    assert jointly([use, other]).rise == pytest.approx(use.rise + other.rise, rel=0.1)


def told(changes: Floats) -> Predicted:
    """Of a place whose examples' losses change so, and that has no curvature."""
    seen = [Seen(c, (np.zeros((1, 1)),), 0.5, False, np.ones((1, 1)), 1, i) for i, c in enumerate(changes)]
    return predicted(seen, [np.full((1, 1), c) for c in changes])


def test_a_mean_change_of_few_examples_counts_where_it_stands_above_its_noise() -> None:
    clear = told(1.0 + 0.1 * normal(2 * FEWEST, seed=0))

    assert jointly([clear]).rise == pytest.approx(1.0, rel=0.15)
    assert clear.rise == 0.0  # a choice among forms would pick those whose noise flatters them


def test_a_mean_change_that_is_noise_or_of_too_few_examples_does_not_count() -> None:
    noise = normal(2 * FEWEST, seed=0)

    assert jointly([told(noise - noise.mean() + 0.1)]).rise == 0.0
    assert jointly([told(np.ones(FEWEST - 1))]).rise == 0.0


@pytest.mark.parametrize("count", [FEWEST, 8, 32])
def test_noise_of_few_examples_rarely_counts(count: int) -> None:
    counted = [jointly([told(normal(count, seed=seed))]).rise > 0 for seed in range(300)]

    assert sum(counted) <= 0.1 * len(counted)  # upwards: 2.5 % of a normal distribution, more of so few


def test_a_fall_of_many_examples_is_not_less_than_nothing() -> None:
    fall = told(-1.0 + 0.1 * normal(ENOUGH_EXAMPLES, seed=0))

    assert fall.rise == jointly([fall]).rise == 0.0
    curved = one(np.ones((8, 3)), normal(8, 3, seed=0))
    assert curved.rise > 0.0
    assert jointly([curved, fall]).rise == pytest.approx(curved.rise)  # nor does it pay for others' rises


def test_directions_are_drawn_again_where_the_loss_has_few_terms() -> None:
    nothing = torch.zeros(())

    assert Draws(3, MOST_DRAWS).of(Curvature(nothing, 0.5, 1), 1) == 3
    assert Draws(1000, MOST_DRAWS).of(Curvature(nothing, 0.5, 1), 1) == MOST_DRAWS
    assert Draws(1000, MOST_DRAWS).of(Curvature(nothing, 0.5, 1000), 1) == 1
    assert Draws(1000, MOST_DRAWS).of(Curvature(nothing, 0.5, 1, drawn=False), 1) == 1
    assert Draws(64, MOST_DRAWS).of(Curvature(nothing, 0.5, 0), 32) == 2  # each example's square is one
