"""What treats every element by itself has one price in any shape; what broadcasts or looks across has not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tamago.compiler.facts import Constant, Fact
from tamago.compiler.pointwise import BINARY, POINTWISE, UNARY
from tamago.compiler.price import Site, key_of
from tamago.rewrites.shape import elementwise

FLOAT = int(ir.DataType.FLOAT)
HEADS, FLAT, ROW = Fact(FLOAT, (1, 4, 16, 8)), Fact(FLOAT, (1, 16, 32)), Fact(FLOAT, (32,))
TWO = Fact(FLOAT, (), Constant.of(np.asarray(2.0, np.float32)))


def key(op: str, *operands: Fact) -> str:
    return key_of(Site(op, (), operands, operands[0]), "")


@pytest.mark.parametrize(("op", "rest"), [("Sigmoid", ()), ("Mul", (TWO,)), ("com.microsoft::QuickGelu", ())])
def test_one_price_for_as_many_elements(op: str, rest: tuple[Fact, ...]) -> None:
    assert key(op, HEADS, *rest) == key(op, FLAT, *rest)
    assert key(op, HEADS, *rest) != key(op, Fact(FLOAT, (1, 16, 64)), *rest)


def test_one_price_for_two_of_a_size() -> None:
    assert key("Add", HEADS, HEADS) == key("Add", FLAT, FLAT)


def test_one_price_in_either_order_where_that_means_the_same() -> None:
    assert key_of(Site("Mul", (), (TWO, FLAT), FLAT), "") == key("Mul", HEADS, TWO)
    assert key_of(Site("Sub", (), (TWO, FLAT), FLAT), "") != key("Sub", HEADS, TWO)
    assert key_of(Site("Mul", (), (ROW, FLAT), FLAT), "") != key("Mul", FLAT, ROW)


def test_a_shape_that_matters_or_is_not_known_is_kept() -> None:
    assert key("Softmax", HEADS) != key("Softmax", FLAT)
    assert key("Add", FLAT, ROW) != key("Add", Fact(FLOAT, (16, 32)), ROW)
    assert key("Relu", Fact(FLOAT, ("n", 4))) != key("Relu", Fact(FLOAT, (4, "n")))


def test_the_rules_move_layouts_past_such_operators_only() -> None:
    assert elementwise.UNARY.keys() <= UNARY
    assert elementwise.BINARY.keys() <= BINARY
    assert POINTWISE.isdisjoint({"Softmax", "CumSum", "PRelu", "LayerNormalization"})
