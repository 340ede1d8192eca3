"""What the owner's loss is taken for: which output tells classes apart, along which axis, and in what form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    log_softmax,
    mse_loss,
    nll_loss,
)

import tamago
from tamago.compiler.approximate.budget import Budget
from tamago.compiler.approximate.calibration import Sample
from tamago.compiler.approximate.judge import Judge
from tamago.compiler.approximate.losses import NO_LABEL, Classes, LossModel, loss_model
from tamago.compiler.approximate.reference import Reference

ROWS, CLASSES = 6, 5


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labels_of(logits: torch.Tensor, axis: int = -1) -> torch.Tensor:
    return logits.argmax(axis)


def taken(loss: Any, outputs: list[torch.Tensor], target: Any) -> LossModel:
    def structure(found: Any) -> Any:
        return found[0] if len(found) == 1 else list(found)

    return loss_model(Budget(loss=loss), structure, outputs, Sample({}, target))


def likelihood_of_probabilities(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return nll_loss(outputs.log(), target)


@pytest.mark.parametrize("loss", ["cross-entropy", likelihood_of_probabilities])
def test_a_model_that_ends_with_softmax_is_judged_by_its_logarithms(loss: Any) -> None:
    logits = 3 * normal(ROWS, CLASSES)
    outputs, target = [torch.softmax(logits, -1)], labels_of(normal(ROWS, CLASSES, seed=1))

    found = taken(loss, outputs, target)

    assert found.kind == "cross-entropy"
    assert found.classes == Classes(probabilities=True)
    assert found.value(outputs, target) == pytest.approx(float(cross_entropy(logits, target)), rel=1e-5)
    assert "probabilities" in found.classes.describe(["y"])


def test_logits_are_taken_as_they_are() -> None:
    logits = normal(ROWS, CLASSES)
    for outputs in ([logits], [log_softmax(logits, -1)], [logits.abs()]):
        target = labels_of(outputs[0])

        found = taken("cross-entropy", outputs, target)

        assert found.classes == Classes()
        assert found.value(outputs, target) == pytest.approx(float(cross_entropy(outputs[0], target)))
        assert found.classes.describe(["y"]) == ""


def test_a_function_that_takes_probabilities_for_logits_is_what_it_is() -> None:
    outputs, target = [torch.softmax(3 * normal(ROWS, CLASSES), -1)], labels_of(normal(ROWS, CLASSES))

    found = taken(cross_entropy, outputs, target)

    assert found.kind == "cross-entropy"
    assert not found.classes.probabilities


def test_the_divergence_of_probabilities_is_that_of_their_logits() -> None:
    before, after = 3 * normal(ROWS, CLASSES), 3 * normal(ROWS, CLASSES) + 0.1 * normal(ROWS, CLASSES, seed=1)
    wanted = float(kl_div(log_softmax(after, -1), log_softmax(before, -1), reduction="batchmean", log_target=True))

    for outputs, originals in (([after], [before]), ([after.softmax(-1)], [before.softmax(-1)])):
        found = taken("kl", originals, None)

        assert found.divergence(outputs, originals) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_several_outputs_that_labels_fit_the_one_that_knows_them_is_taken(order: tuple[int, int]) -> None:
    both = [4 * normal(ROWS, CLASSES), normal(ROWS, 64, seed=1)]
    target, outputs = labels_of(both[0]), [both[i] for i in order]

    found = taken("cross-entropy", outputs, target)

    assert found.classes.output == order.index(0)
    assert ("logits", "features")[order[found.classes.output]] == "logits"
    assert repr("b") in found.classes.describe(["a", "b"]) or found.classes.output == 0


@pytest.mark.parametrize("loss", ["cross-entropy", cross_entropy])
@pytest.mark.parametrize("width", [7, CLASSES])
def test_classes_of_pictures_are_in_the_second_axis(loss: Any, width: int) -> None:
    outputs = [4 * normal(2, CLASSES, 4, width)]
    target = labels_of(outputs[0], 1)

    found = taken(loss, outputs, target)

    assert (found.kind, found.classes.axis) == ("cross-entropy", 1)
    assert found.value(outputs, target) == pytest.approx(float(cross_entropy(outputs[0], target)))
    assert "axis 1" in found.classes.describe(["y"])


def test_classes_of_positions_are_in_the_last_axis() -> None:
    outputs = [4 * normal(2, 4, CLASSES)]

    assert taken("cross-entropy", outputs, labels_of(outputs[0])).classes == Classes()


def test_without_labels_pictures_have_classes_second_unless_they_add_up_last() -> None:
    logits = normal(2, CLASSES, 4, 7)

    assert taken("kl", [logits], None).classes == Classes(0, 1)
    assert taken("kl", [logits.softmax(1)], None).classes == Classes(0, 1, probabilities=True)
    assert taken("kl", [logits.softmax(-1)], None).classes == Classes(0, -1, probabilities=True)
    assert taken("kl", [logits[0]], None).classes == Classes()


def test_what_does_not_count_has_no_curvature() -> None:
    logits = normal(ROWS, CLASSES).requires_grad_()
    target = labels_of(logits).clone()
    target[2:] = NO_LABEL

    found = taken(cross_entropy, [logits], target)
    curvature = found.curvature([logits], target, torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(curvature.scalar, logits)

    assert found.kind == "cross-entropy"
    assert curvature.factor == pytest.approx(0.5 / 2)
    assert (gradient[:2] != 0).all()
    assert (gradient[2:] == 0).all()


def test_all_that_counts_has_curvature() -> None:
    logits = normal(ROWS, CLASSES).requires_grad_()
    target = labels_of(logits)

    curvature = taken(cross_entropy, [logits], target).curvature([logits], target, torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(curvature.scalar, logits)

    assert curvature.factor == pytest.approx(0.5 / ROWS)
    assert (gradient != 0).all()


def test_other_numbers_for_what_does_not_count_are_the_functions_own() -> None:
    outputs, target = [normal(ROWS, CLASSES)], torch.tensor([0, 1, 2, -1, -1, -1])

    found = taken(lambda o, t: cross_entropy(o, t, ignore_index=-1), outputs, target)

    assert found.kind == "function"
    with pytest.raises(tamago.TamagoError, match="U046"):
        taken("cross-entropy", outputs, target).value(outputs, target)


@pytest.mark.parametrize("loss", ["cross-entropy", cross_entropy])
def test_the_sample_that_a_loss_fails_on_is_named(loss: Any) -> None:
    samples = [Sample({"x": normal(1, CLASSES, seed=i).numpy()}, torch.tensor([i]), i) for i in range(2 * CLASSES)]

    def program(feeds: Any) -> list[Any]:
        return [feeds["x"]]

    first = [torch.as_tensor(samples[0].feeds["x"])]
    judge = Judge(Budget(loss=loss), taken(loss, first, samples[0].target), Reference(program))

    assert len(judge.scores(program, samples[:CLASSES])) == CLASSES
    with pytest.raises(tamago.TamagoError, match="U046") as error:
        judge.scores(program, samples)
    assert error.value.where == f"calibration item {CLASSES}"


def test_the_first_sample_is_named_too() -> None:
    def broken(outputs: Any, target: Any) -> Any:
        raise KeyError("mask")

    with pytest.raises(tamago.TamagoError, match="mask") as error:
        loss_model(Budget(loss=broken), lambda outputs: outputs[0], [normal(1, CLASSES)], Sample({}, None, 7))
    assert error.value.where == "calibration item 7"


def weighed(outputs: list[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
    return mse_loss(outputs[0], target) + 5 * binary_cross_entropy_with_logits(outputs[1], target.sigmoid())


def mean_rise(found: LossModel, outputs: list[torch.Tensor], target: Any, errors: list[torch.Tensor]) -> float:
    """What the curvature predicts of these errors at the outputs, over many draws."""
    generator, rises = torch.Generator().manual_seed(0), list[float]()
    for _ in range(400):
        given = [o.clone().requires_grad_() for o in outputs]
        curvature = found.curvature(given, target, generator)
        gradients = torch.autograd.grad(curvature.scalar, given, materialize_grads=True)
        moved = sum(float((g * e).sum()) for g, e in zip(gradients, errors, strict=True))
        rises.append(curvature.factor * moved**2)
    return sum(rises) / len(rises)


@pytest.mark.parametrize(
    ("loss", "count"), [(mse_loss, 1), (binary_cross_entropy_with_logits, 1), (huber_loss, 1), (weighed, 2)]
)
def test_a_loss_of_single_numbers_has_the_scale_of_its_second_derivatives(loss: Any, count: int) -> None:
    outputs, errors = ([normal(ROWS, 16, seed=s + i) for i in range(count)] for s in (0, 10))
    target = outputs[0].sigmoid() + 0.1 * normal(ROWS, 16, seed=3)
    errors = [0.01 * e for e in errors]
    found = taken(loss, outputs, target)

    there = [[o + sign * e for o, e in zip(outputs, errors, strict=True)] for sign in (1, -1)]
    values = [found.value([o.double() for o in every], target.double()) for every in (*there, outputs)]
    wanted = (values[0] + values[1]) / 2 - values[2]  # the first order cancels

    assert found.kind == "function"
    assert mean_rise(found, outputs, target, errors) == pytest.approx(wanted, rel=0.25)


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: cross_entropy(o, t) + o[:, 0].square().mean(),  # numbers judged together
        lambda o, t: (o - t[:, None]).abs().mean(),  # no curvature
        lambda o, t: (o * 2.0).mean() + 3,
    ],
)
def test_other_functions_keep_the_gradient_at_the_targets(loss: Any) -> None:
    outputs, target = [normal(ROWS, CLASSES).requires_grad_()], torch.arange(ROWS) % CLASSES

    curvature = taken(loss, outputs, target).curvature(outputs, target, torch.Generator().manual_seed(0))

    assert curvature.terms == ROWS
    assert curvature.factor == pytest.approx(0.5 / ROWS)


@pytest.mark.parametrize("sure", [0.0, 6.0])
def test_directions_have_the_covariance_of_labels_and_scatter_less(sure: float) -> None:
    """Of a model that is sure, labels that are drawn would show what is unlikely once in a few hundred draws."""
    logits = torch.tensor([[sure, 0.0, 0.5, -1.0]]).requires_grad_()
    p = logits.detach()[0].softmax(-1)
    found, generator = taken("kl", [logits], None), torch.Generator().manual_seed(0)
    given = [found.curvature([logits], None, generator).scalar for _ in range(4000)]
    drawn = torch.cat([torch.autograd.grad(scalar, logits)[0] for scalar in given])

    wanted = p.diag() - torch.outer(p, p)
    torch.testing.assert_close(drawn.T @ drawn / len(drawn), wanted, rtol=0.1, atol=0.05 * float(wanted.max()))
    squares = (drawn @ torch.tensor([0.0, 1.0, -1.0, 2.0])).square()
    assert float(squares.var()) <= 2.2 * float(squares.mean()) ** 2
