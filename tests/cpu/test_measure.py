"""Prices: an operator alone is measured, and what would take gigabytes is not even tried."""

from __future__ import annotations

import time

import numpy as np
import onnx_ir as ir

from tamago.backends.onnxruntime.measure import measure
from tamago.compiler.facts import Constant, Fact
from tamago.compiler.opset import TARGET
from tamago.compiler.price import Site

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
