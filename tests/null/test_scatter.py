"""The predicted scatter of a form: the variance over examples of what it changes their own loss by."""

from __future__ import annotations

import numpy as np
import pytest

from tamago.compiler.approximate.predicted import FEWEST_EXAMPLES, predicted
from tamago.compiler.approximate.responses import Seen
from tamago.compiler.facts import Floats

COUNT, WIDTH = 64, 5


def seen(slope: Floats | None) -> Seen:
    nothing = np.zeros((COUNT, WIDTH))
    return Seen(nothing, (nothing,), 0.5, False, slope)


def logistic(z: Floats, label: Floats) -> Floats:
    """Each example's loss."""
    return np.log1p(np.exp(-label * z.sum(1)))


def test_the_scatter_is_the_variance_of_the_examples_own_changes() -> None:
    generator = np.random.default_rng(0)
    z, label = generator.normal(size=(COUNT, WIDTH)), generator.choice([-1.0, 1.0], COUNT)
    error = 1e-4 * generator.normal(size=(COUNT, WIDTH))
    # As autograd gives it: of the mean over the examples.
    slope = (-label / (1 + np.exp(label * z.sum(1))) / COUNT)[:, None] * np.ones((1, WIDTH))

    scatter = predicted([seen(slope)], [error]).scatter

    changes = logistic(z + error, label) - logistic(z, label)
    assert scatter == pytest.approx(float(np.var(changes, ddof=1)), rel=1e-2)


def test_samples_stacked_or_one_by_one_scatter_alike() -> None:
    generator = np.random.default_rng(1)
    slope, error = generator.normal(size=(COUNT, WIDTH)), generator.normal(size=(COUNT, WIDTH))

    stacked = predicted([seen(slope / COUNT)], [error]).scatter
    alone = predicted([seen(slope[i : i + 1]) for i in range(COUNT)], [error[i : i + 1] for i in range(COUNT)]).scatter

    assert stacked == pytest.approx(alone)


def test_no_scatter_is_read_from_too_few_examples_or_from_no_loss() -> None:
    error = np.ones((COUNT, WIDTH))
    few = FEWEST_EXAMPLES - 1

    assert predicted([seen(None)], [error]).scatter == 0.0
    assert predicted([seen(error[:1])] * few, [error[:1]] * few).scatter == 0.0
