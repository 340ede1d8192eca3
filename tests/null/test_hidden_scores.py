"""Scores under a mask are known as such, for a softmax of them may take longer."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tamago.compiler.egraph import EGraph, Origin
from tamago.compiler.facts import Array, Constant, Fact
from tamago.compiler.hidden_scores import hide, hides
from tamago.compiler.price import Site, key_of
from tamago.compiler.site_model import sample

FLOAT, BOOL = int(ir.DataType.FLOAT), int(ir.DataType.BOOL)
SCORES = Fact(FLOAT, (2, 4, 4))


def constant(array: Array) -> Fact:
    return Fact(int(ir.DataType.from_numpy(array.dtype)), array.shape, Constant.of(array))


def under(op: str, *operands: Fact) -> Fact:
    egraph = EGraph()
    children = [egraph.leaf(fact) for fact in operands]
    return egraph.fact(egraph.term(egraph.row(op, egraph.intern({}), children), SCORES, Origin(None, ())))


@pytest.mark.parametrize("low", [-np.inf, np.finfo(np.float32).min, -100.0])
def test_a_mask_hides(low: float) -> None:
    mask = hide(np.zeros((4, 4), np.float32))

    assert under("Add", SCORES, constant(np.maximum(mask, np.float32(low)))).hidden
    assert under("Where", Fact(BOOL, (4, 4)), SCORES, constant(np.asarray(low, np.float32))).hidden
    assert under("Add", SCORES, Fact(FLOAT, (4, 4), causal=True)).hidden


def test_what_is_no_mask_does_not() -> None:
    assert not under("Add", SCORES, constant(np.full((4, 4), -5.0, np.float32))).hidden
    assert not under("Add", SCORES, Fact(FLOAT, (4, 4))).hidden
    assert not under("Max", Fact(FLOAT, (2, 4, 4), hidden=True), SCORES).hidden
    assert not hides(constant(np.full((4, 4), -100, np.int32)))


def test_it_is_told_on_but_not_past_a_softmax() -> None:
    hidden = Fact(FLOAT, (2, 4, 4), hidden=True)

    assert under("Reshape", hidden, constant(np.asarray([2, 4, 4]))).hidden
    assert not under("Softmax", hidden).hidden


def test_it_has_a_price_of_its_own_measured_on_such_scores() -> None:
    hidden = Fact(FLOAT, (2, 4, 4), hidden=True)
    plain, masked = (Site("Softmax", (), (fact,), SCORES) for fact in (SCORES, hidden))
    array = sample(hidden, np.random.default_rng(0))

    assert key_of(plain, "") != key_of(masked, "")
    assert np.all(array[:, 0, 1:] == -np.inf)
    assert not np.any(array[:, 3] == -np.inf)
    assert not np.any(sample(SCORES, np.random.default_rng(0)) == -np.inf)
