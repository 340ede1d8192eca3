"""Sums in half precision, in runs: as exact as is said, and never where half's range does not suffice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.kernels.product import Product
from tamago.backends.webgpu.kernels.ranking import RUN, ranked
from tamago.backends.webgpu.kernels.tile import Tile
from tamago.backends.webgpu.kernels.tiled import write_tiles
from tamago.backends.webgpu.lowering import plan_of
from tamago.backends.webgpu.measure import Bench
from tamago.backends.webgpu.plan import F16, Plan
from tamago.backends.webgpu.run import Loaded
from tests.webgpu.kernels import Array, check, feeds_of, model_of, only, planned
from tests.webgpu.test_product import FUSED, GEMM, PLAIN, SAME

TILES = [
    Tile(16, 16, 16, 4, 4, run=8),
    Tile(16, 16, 32, 4, 4, ahead=True, run=16),
    Tile(32, 32, 16, 8, 8, ahead=True, run=16),  # takes a processor seconds to compile
]
FEW = TILES[:2]
CASES = [(case, tile) for case in PLAIN for tile in (TILES if case == "primes" else FEW)]
AGAIN = "workgroupUniformLoad(&again[0]) != 0u"


@pytest.fixture
def halves(device: Device) -> Device:
    if not device.half:
        pytest.skip("the adapter has no half precision")
    return device


def in_half(text: str) -> onnx.ModelProto:
    return model_of(text.replace("float[", "float16["))


def of_size(rows: int, depth: int, columns: int, kind: str = "float16") -> onnx.ModelProto:
    a, b, y = (f"{kind}[{m},{n}]" for m, n in ((rows, depth), (depth, columns), (rows, columns)))
    return model_of(f"g ({a} a, {b} b) => ({y} y) {{ y = MatMul(a, b) }}")


def by(tile: Tile, model: onnx.ModelProto, device: Device, op: str = "MatMul") -> tuple[Plan, dict[str, Array]]:
    with only(op, lambda w: write_tiles(w, Product(w.root), tile)):
        return planned(model, device)


def without(plan: Plan, old: str, new: str) -> Plan:
    (kernel,) = plan.kernels
    assert old in kernel.source
    return replace(plan, kernels=(replace(kernel, source=kernel.source.replace(old, new)),))


def run(plan: Plan, device: Device, feeds: Mapping[str, Array]) -> Array:
    return np.asarray(Loaded(plan, {}, device)(feeds)[0])


@pytest.mark.parametrize(("case", "tile"), CASES, ids=str)
def test_operands_of_any_shape(case: str, tile: Tile, halves: Device) -> None:
    model = in_half(PLAIN[case])
    plan, weights = by(tile, model, halves)
    assert len(plan.dispatches) == 1
    check(model, halves, plan, weights)


@pytest.mark.parametrize("tile", FEW, ids=str)
def test_what_precedes_and_follows_is_done_by_the_kernel(tile: Tile, halves: Device) -> None:
    for op, text in (("Gemm", GEMM), ("MatMul", FUSED), ("MatMul", SAME)):
        model = in_half(text)
        plan, weights = by(tile, model, halves, op)
        assert len(plan.dispatches) == 1
        check(model, halves, plan, weights)


@pytest.mark.parametrize("tile", FEW, ids=str)
@pytest.mark.parametrize("sign", [np.asarray, np.abs], ids=["signed", "positive"])
def test_errors_are_those_that_are_said(tile: Tile, sign: Callable[[Array], Array], halves: Device) -> None:
    model = of_size(33, 515, 36)
    feeds = {name: sign(array) for name, array in feeds_of(model).items()}
    plan, _ = by(tile, model, halves)
    a, b = (array.astype(np.float64) for array in feeds.values())
    apart = np.abs(run(plan, halves, feeds) - a @ b)
    assert np.all(apart <= tile.run * 2.0**-11 * (np.abs(a) @ np.abs(b)) + 2.0**-11 * np.abs(a @ b))
    assert np.linalg.norm(apart) <= 1e-3 * np.linalg.norm(a @ b)


@pytest.mark.parametrize("tile", FEW, ids=str)
def test_a_small_column_beside_a_large_one_is_off_by_what_is_said(tile: Tile, halves: Device) -> None:
    """By little beside its tile's largest result, though by more than 1 % of its own."""
    feeds = full(1.03, 1.0)
    feeds["b"][:, 5] = 2.0**-20
    a, b = (array.astype(np.float64) for array in feeds.values())
    apart = np.abs(run(by(tile, of_size(20, 64, 24), halves)[0], halves, feeds) - a @ b)
    assert np.all(apart <= (tile.run + 1) * 2.0**-11 * (a @ b) + 64 * 2.0**-24)
    assert np.all(apart <= 0.01 * (a @ b).max())


# --- where half's range does not suffice ------------------------------------------------------------------------------


def full(first: float, second: float, depth: int = 64) -> dict[str, Array]:
    return {"a": np.full((20, depth), first, np.float16), "b": np.full((depth, 24), second, np.float16)}


def cancelling(size: float) -> dict[str, Array]:
    """Runs of a constant sign, and a result that is no larger than one product."""
    feeds = full(size, size)
    feeds["a"][:, 31:] *= -1
    return feeds


@pytest.mark.parametrize("tile", FEW, ids=str)
@pytest.mark.parametrize(
    ("feeds", "exact"),
    [(cancelling(128.0), -32768.0), (full(2.0**-13, 2.0**-13), 2.0**-20), (full(0.0, 1.0), 0.0)],
    ids=["overflow", "underflow", "nothing"],
)
def test_what_a_run_loses_is_computed_again(tile: Tile, feeds: dict[str, Array], exact: float, halves: Device) -> None:
    plan, _ = by(tile, of_size(20, 64, 24), halves)
    np.testing.assert_array_equal(run(plan, halves, feeds), np.float16(exact))
    if exact:
        assert not np.any(run(without(plan, AGAIN, "false"), halves, feeds) == np.float16(exact))


@pytest.mark.parametrize("tile", FEW, ids=str)
def test_what_is_within_range_is_not_computed_again(tile: Tile, halves: Device) -> None:
    model = of_size(37, 130, 41)
    feeds = feeds_of(model)
    plan, _ = by(tile, model, halves)
    single, _ = by(replace(tile, run=0), model, halves)
    found = run(plan, halves, feeds)
    np.testing.assert_array_equal(found, run(without(plan, AGAIN, "false"), halves, feeds))
    again = run(without(plan, AGAIN, "true"), halves, feeds)
    np.testing.assert_array_equal(again, run(single, halves, feeds))
    assert np.any(found != again)


@pytest.mark.parametrize(
    ("old", "new"), [("one * 0.0009765625h", "0.0h"), ("one * 256.0h", "one * 255.0h")], ids=["to zero", "saturates"]
)
def test_a_device_whose_halves_are_others_is_found_out(old: str, new: str, halves: Device) -> None:
    model = of_size(20, 64, 24)
    feeds = feeds_of(model)
    plan, _ = by(TILES[0], model, halves)
    single, _ = by(replace(TILES[0], run=0), model, halves)
    np.testing.assert_array_equal(run(without(plan, old, new), halves, feeds), run(single, halves, feeds))


def test_infinite_operands_give_what_single_sums_give(halves: Device) -> None:
    model = of_size(20, 64, 24)
    feeds = feeds_of(model)
    feeds["a"][3, 5], feeds["b"][7, 9] = np.inf, np.nan
    plan, _ = by(TILES[1], model, halves)
    single, _ = by(replace(TILES[1], run=0), model, halves)
    found, right = run(plan, halves, feeds), run(single, halves, feeds)
    np.testing.assert_array_equal(found[:16, :16], right[:16, :16])  # the tile
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(right))


# --- among the candidates ---------------------------------------------------------------------------------------------


def in_runs(plan: Plan) -> list[bool]:
    return ["fn suffices" in plan.kernels[c.kernel].source for c in plan.dispatches[0].choices]


@pytest.mark.parametrize("size", [(4096, 4096, 4096), (77, 768, 768), (512, 4608, 49)])
@pytest.mark.parametrize("count", [24, 64])
def test_a_tuner_has_some_of_them_and_untuned_there_is_none(size: tuple[int, int, int], count: int) -> None:
    plan, _ = plan_of(ir.from_proto(of_size(*size)), half=True, candidates=count)
    found = in_runs(plan)
    assert len(found) <= count
    assert not found[0]
    assert 5 <= sum(found[:24]) <= 12
    assert len(plan.dispatches) == 1
    assert all(F16 in plan.kernels[c.kernel].features for c in plan.dispatches[0].choices)


def test_single_precision_and_devices_without_half_have_none_of_them() -> None:
    for kind, half in (("float", True), ("float16", False)):
        plan, _ = plan_of(ir.from_proto(of_size(512, 512, 512, kind)), half=half, candidates=64)
        assert not any(in_runs(plan))
        assert not plan.features


def test_a_cast_alone_may_be_what_makes_halves(halves: Device) -> None:
    model = model_of("""g (float[20,64] a, float[64,24] b) => (float[20,24] y) {
        c = Cast<to=10>(a)  d = Cast<to=10>(b)  e = MatMul(c, d)  y = Cast<to=1>(e) }""")
    plan, _ = by(TILES[0], model, halves)
    assert len(plan.dispatches) == 1
    assert plan.features == {F16}
    feeds = feeds_of(model)
    a, b = (array.astype(np.float16).astype(np.float64) for array in feeds.values())
    np.testing.assert_allclose(run(plan, halves, feeds), a @ b, rtol=0, atol=8e-3 * float(np.abs(a @ b).max()))


def test_what_the_tuner_tries_computes_what_the_default_does(halves: Device) -> None:
    plan, weights = planned(of_size(100, 96, 72), halves, 8)
    (dispatch,) = plan.dispatches
    tried = [c for c, yes in zip(dispatch.choices, in_runs(plan), strict=True) if yes][:2]
    assert len(tried) == 2
    with Bench(Loaded(plan, weights, halves)) as bench:
        assert [bench.difference(dispatch, dispatch.choices[0], choice) for choice in tried] == ["", ""]


def test_runs_have_no_slices_and_divide_the_depth() -> None:
    with pytest.raises(ValueError, match="divide"):
        Tile(16, 16, 16, 4, 4, slices=2, run=8)
    with pytest.raises(ValueError, match="divide"):
        Tile(16, 16, 8, 4, 4, run=16)
    assert all(tile.run == RUN and tile.depth % RUN == 0 for tile in ranked(512, 512, 512, 1, RUN))
