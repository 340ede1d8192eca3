"""Values at the ends of what floats are, and rows longer than a thread goes through."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.kernels.turns import turns
from tamago.backends.webgpu.lowering import plan_of
from tests.webgpu.test_operators import RNG, check, constant, given, model_of, node, normal

NAN, INF = np.nan, np.inf
NUMBERS = np.array([NAN, -1e38, -88.8, -0.3, -1e-3, 0, 1e-6, 0.19, 0.21, 0.8, 5, 88.8, 1e10, 3e38], np.float32)


@pytest.mark.parametrize(
    "operator", ["Relu", "Sigmoid", "Tanh", "Sinh", "Cosh", "Asinh", "HardSigmoid", "Celu", "Sign", "Atan"]
)
def test_what_is_no_number_stays_so_and_large_ones_do_not_overflow(device: Device, operator: str) -> None:
    made = node(operator, [given("x", NUMBERS)], "y")
    (found,) = check(model_of({"x": NUMBERS}, [made], made.outputs), {"x": NUMBERS}, device)
    known = np.abs(NUMBERS) < 1
    exact = {"Sinh": np.sinh, "Asinh": np.arcsinh, "Tanh": np.tanh}.get(operator)
    if exact is not None:  # to the last digits also where the result is small
        np.testing.assert_allclose(found[known], exact(NUMBERS[known].astype(np.float64)), rtol=2e-6)


@pytest.mark.parametrize("operator", ["Max", "Min"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_larger_of_a_number_and_what_is_none_is_none(device: Device, operator: str, dtype: type) -> None:
    values = np.array([NAN, 1, -INF, NAN, 0, -2, INF, 0.5], dtype)
    feeds = {"a": values, "b": values[::-1].copy(), "c": np.roll(values, 3)}
    operands, kind = [given(name, array) for name, array in feeds.items()], ir.DataType.from_numpy(np.dtype(dtype))
    two, three = node(operator, operands[:2], "y", kind), node(operator, operands, "z", kind)

    (y, z) = check(model_of(feeds, [two, three], [*two.outputs, *three.outputs]), feeds, device)

    assert np.isnan(y).sum() == 4
    assert np.isnan(z).sum() > 4


def test_powers_of_what_is_no_number(device: Device) -> None:
    """Everything to the power of 0 is 1, and so is 1 to the power of anything."""
    x = np.array([NAN, NAN, NAN, 1, 1, 0, 0, 2, -2, 2, -2, 3], np.float32)
    y = np.array([0, 2, -1.5, NAN, INF, NAN, 2, NAN, NAN, 3, 3, -INF], np.float32)
    made = node("Pow", [given("x", x), given("y", y)], "z")

    (found,) = check(model_of({"x": x, "y": y}, [made], made.outputs), {"x": x, "y": y}, device)

    assert np.isnan(found).tolist() == [False, True, True, False, False, True, False, True, True, *[False] * 3]


@pytest.mark.parametrize("operator", ["Max", "Min", "Sign"])
def test_integers_are_all_numbers(operator: str) -> None:
    kinds = {"int32": ir.DataType.INT32, "float": ir.DataType.FLOAT}
    sources: dict[str, str] = {}
    for name, kind in kinds.items():
        feeds = {n: np.zeros(5, kind.numpy()) for n in ("a", "b")[: 1 if operator == "Sign" else 2]}
        made = node(operator, [given(n, array) for n, array in feeds.items()], "y", kind)
        plan, _ = plan_of(model_of(feeds, [made], made.outputs))
        sources[name] = "".join(kernel.source for kernel in plan.kernels)

    assert "7f800000" in sources["float"]
    assert "7f800000" not in sources["int32"]


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (None, 6), (0, None), (2, -2)])
def test_bounds_let_through_what_is_no_number(device: Device, low: float | None, high: float | None) -> None:
    bounds = {"l": low, "h": high}
    known = {name: constant(name, np.array(v, np.float32)) for name, v in bounds.items() if v is not None}
    made = node("Clip", [given("x", NUMBERS), known.get("l"), known.get("h")], "y")
    check(model_of({"x": NUMBERS}, [made], made.outputs, list(known.values())), {"x": NUMBERS}, device)


def test_the_logarithm_of_a_sum_may_be_infinite(device: Device) -> None:
    x = np.array([[INF, 0, 1], [-INF, -INF, -INF], [1e38, -INF, 3e38], [NAN, 0, 1]], np.float32)
    axes = constant("a", np.array([1]))
    made = node("ReduceLogSumExp", [given("x", x), axes], "y")
    check(model_of({"x": x}, [made], made.outputs, [axes]), {"x": x}, device)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("length", [1025, 70001])
def test_cumulative_sums_of_long_rows(device: Device, dtype: type, exclusive: int, reverse: int, length: int) -> None:
    x, axis = RNG.integers(-9, 9, (2, length, 3)).astype(dtype), constant("a", np.array(-2))
    kind = ir.DataType.from_numpy(np.dtype(dtype))
    made = node("CumSum", [given("x", x), axis], "y", kind, exclusive=exclusive, reverse=reverse)
    check(model_of({"x": x}, [made], made.outputs, [axis]), {"x": x}, device)


@pytest.mark.parametrize("shape", [(1100, 1500), (1100, 3)], ids=str)
def test_cumulative_sums_of_many_long_rows_side_by_side_and_of_few(device: Device, shape: tuple[int, int]) -> None:
    x, axis = normal(*shape), constant("a", np.array(0))
    made = node("CumSum", [given("x", x), axis], "y")
    check(model_of({"x": x}, [made], made.outputs, [axis]), {"x": x}, device, 1e-4)


def test_products_of_more_terms_than_a_loop_of_mesas_driver_has_turns(device: Device) -> None:
    x, w = np.abs(normal(3, 70001)), np.abs(normal(70001, 40))
    made = node("MatMul", [given("x", x), given("w", w)], "y")
    made.outputs[0].shape = ir.Shape((3, 40))
    check(model_of({"x": x, "w": w}, [made], made.outputs), {"x": x, "w": w}, device, 1e-4)


def test_turns_of_loops_within_loops_are_multiplied() -> None:
    inner = "for (var i = 2; i < 10; i += 3) { x += y; }"

    assert turns("var x = 0;") == 0
    assert turns(inner) == 3
    assert turns(f"for (var k = 0; k < 5; k++) {{ if (a) {{ {inner} }} }} {inner}") == 5 * (1 + 3) + 3
    assert turns(f"for (var k = t; k < 7; k += 2) {{ {inner} }}") == 4 * (1 + 3)
    assert turns("for (var p = 0; p < t; p++) { x += y; }") == 1
