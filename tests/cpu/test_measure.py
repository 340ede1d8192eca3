"""Prices: an operator alone is measured, and what would take gigabytes is not even tried."""

from __future__ import annotations

import time

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tamago.backends.onnxruntime.measure import disturbed, further_copies, measure
from tamago.backends.onnxruntime.run import Program
from tamago.compiler.facts import Constant, Fact
from tamago.compiler.opset import TARGET
from tamago.compiler.price import Site
from tamago.compiler.timing import Timing, interleave

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


def test_a_view_costs_what_it_does_within_a_graph() -> None:
    """Beside a graph's inputs and outputs it would be copied: 64 MB take milliseconds."""
    to = Constant.of(np.asarray([1 << 24], dtype=np.int64))
    operands = (Fact(FLOAT, (1 << 12, 1 << 12)), Fact(int(ir.DataType.INT64), (1,), to))

    found = measure(Site("Reshape", (), operands, Fact(FLOAT, (1 << 24,))), 1, TARGET)

    assert found is not None
    assert found[0] < 0.5


def test_what_cannot_be_bound_is_called() -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 20]>
        g (string[N] x) => (string[M] y) { y = StringConcat(x, x) }
    """)
    program = Program(ir.serde.deserialize_model(proto), 1)

    assert program.bound({"x": np.asarray(["a"], dtype=object)})() is not None


def test_rounds_that_agree_are_believed_by_their_median() -> None:
    one, many = Timing((1.0, 1.1, 0.9)), Timing((9.0, 9.1, 8.8))

    assert not disturbed(one, many)
    assert further_copies(one, many) == pytest.approx(8.0)


def test_of_disturbed_rounds_the_fastest_are_believed() -> None:
    one, many = Timing((1.0, 9.0, 30.0)), Timing((9.0, 9.1, 9.2))

    assert disturbed(one, many)
    assert further_copies(one, many) == pytest.approx(8.0)


@pytest.mark.parametrize(("warm", "calls"), [(False, 1 + 4), (True, 4)])
def test_a_first_call_that_fills_its_turn_counts_where_the_program_was_called_before(warm: bool, calls: int) -> None:
    made = list[float]()

    (timing,) = interleave([lambda: made.append(time.sleep(0.02) or 0.0)], rounds=4, slot=0.002, warm=warm)

    assert len(made) == calls
    assert len(timing.samples) == 4


def test_calls_that_only_show_how_many_fill_a_turn_are_no_samples() -> None:
    (timing,) = interleave([lambda: None], rounds=4, slot=0.002, warm=True)

    assert len(timing.samples) == 4
