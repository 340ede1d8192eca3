"""Prices: an operator alone is measured, and what would take gigabytes is not even tried."""

from __future__ import annotations

import time

import numpy as np
import onnx_ir as ir
import pytest

from tamago.backends.onnxruntime.measure import disturbed, further_copies, measure
from tamago.compiler.facts import Constant, Fact
from tamago.compiler.opset import TARGET
from tamago.compiler.price import Site
from tamago.compiler.timing import Timing

FLOAT = int(ir.DataType.FLOAT)


def padded(more: int) -> Site:
    pads = np.asarray([0, 0, 0, 0, 0, 0, more, more], dtype=np.int64)
    operands = (Fact(FLOAT, (1, 64, 7, 7)), Fact(int(ir.DataType.INT64), (8,), Constant.of(pads)))
    return Site("Pad", (), operands, Fact(FLOAT, (1, 64, 7 + more, 7 + more)))


def test_an_operator_has_a_price() -> None:
    found = measure(padded(1), 1, TARGET)

    assert found is not None
    assert 0 < found[0] < 100


def test_a_result_of_gigabytes_is_left_to_the_estimate() -> None:
    start = time.perf_counter()

    assert measure(padded(4096), 1, TARGET) is None
    assert time.perf_counter() - start < 1


def test_rounds_that_agree_are_believed_by_their_median() -> None:
    one, many = Timing((1.0, 1.1, 0.9)), Timing((9.0, 9.1, 8.8))

    assert not disturbed(one, many)
    assert further_copies(one, many) == pytest.approx(8.0)


def test_of_disturbed_rounds_the_fastest_are_believed() -> None:
    one, many = Timing((1.0, 9.0, 30.0)), Timing((9.0, 9.1, 9.2))

    assert disturbed(one, many)
    assert further_copies(one, many) == pytest.approx(8.0)
