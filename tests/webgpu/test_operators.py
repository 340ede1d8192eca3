"""What ONNX's own tests do not reach: contributed operators, packed weights, states in place, limits, odd graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from tamago.backends.onnxruntime.run import Program as Reference
from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.lowering import plan_of
from tamago.backends.webgpu.plan import Copy
from tamago.backends.webgpu.run import Program
from tamago.compiler.errors import TamagoError
from tamago.compiler.generation.alias import record_aliases

Array = NDArray[Any]
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def model_of(
    inputs: Mapping[str, Array],
    nodes: Sequence[ir.Node],
    outputs: Sequence[ir.Value],
    constants: Sequence[ir.Value] = (),
) -> ir.Model:
    graph = ir.Graph(
        [v for v in values_of(nodes) if v.name in inputs], outputs, nodes=nodes, initializers=constants,
        opset_imports={"": 23, "com.microsoft": 1}, name="test",
    )  # fmt: skip
    return ir.Model(graph, ir_version=10)


def values_of(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    found = [v for n in nodes for v in n.inputs if v is not None and v.producer() is None]
    return list({id(v): v for v in found}.values())


def given(name: str, array: Array) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.from_numpy(array.dtype)))


def constant(name: str, array: Array, dtype: ir.DataType | None = None) -> ir.Value:
    tensor = ir.tensor(array, name=name, dtype=dtype)
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)


def node(
    op: str,
    inputs: Sequence[ir.Value | None],
    name: str,
    dtype: ir.DataType = ir.DataType.FLOAT,
    domain: str = "",
    **attributes: Any,
) -> ir.Node:
    made = ir.node(op, list(inputs), attributes, domain=domain)
    made.outputs[0].name, made.outputs[0].type = name, ir.TensorType(dtype)
    return made


def check(model: ir.Model, feeds: dict[str, Array], device: Device, tolerance: float = 1e-5) -> list[Any]:
    found = Program(model, device)(feeds)
    for a, b in zip(found, Reference(model, 1)(feeds), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    return found


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", ["none", "packed"])
@pytest.mark.parametrize("rows", [1, 4, 5])
def test_matmul_nbits(device: Device, bits: int, zeros: str, rows: int) -> None:
    depth, columns, block = 96, 20, 32
    count = depth // block
    x = given("x", normal(rows, depth))
    weights = constant("w", RNG.integers(0, 256, (columns, count, block * bits // 8)).astype(np.uint8))
    scales = constant("s", np.abs(normal(columns * count)) + 0.1)
    row = count if bits == 8 else (count + 1) // 2
    zero = None if zeros == "none" else constant("z", RNG.integers(0, 256, columns * row).astype(np.uint8))
    product = node(
        "MatMulNBits",
        [x, weights, scales, zero],
        "y",
        domain="com.microsoft",
        K=depth,
        N=columns,
        bits=bits,
        block_size=block,
    )
    product.outputs[0].shape = ir.Shape((rows, columns))
    feeds = {"x": normal(rows, depth)}
    model = model_of(feeds, [product], product.outputs, [v for v in (weights, scales, zero) if v is not None])
    check(model, feeds, device, 2e-4)


@pytest.mark.parametrize("rows", [1, 5])
def test_matmul_nbits_in_half_precision(device: Device, rows: int) -> None:
    x, y = given("x", normal(rows, 64).astype(np.float16)), np.float16
    weights = constant("w", RNG.integers(0, 256, (20, 2, 16)).astype(np.uint8))
    scales = constant("s", (np.abs(normal(40)) * 0.1).astype(y))
    product = node(
        "MatMulNBits",
        [x, weights, scales],
        "y",
        ir.DataType.FLOAT16,
        "com.microsoft",
        bits=4,
        block_size=32,
        K=64,
        N=20,
    )
    product.outputs[0].shape = ir.Shape((rows, 20))
    feeds = {"x": normal(rows, 64).astype(np.float16)}
    check(model_of(feeds, [product], product.outputs, [weights, scales]), feeds, device, 2e-2)


@pytest.mark.parametrize("rows", [1, 5])
def test_matmul_nbits_with_columns_in_an_order_of_their_own_has_no_kernel(device: Device, rows: int) -> None:
    x, order = given("x", normal(rows, 64)), constant("g", np.tile([0, 1], 32).astype(np.int32))
    weights = constant("w", RNG.integers(0, 256, (20, 2, 16)).astype(np.uint8))
    scales = constant("s", np.abs(normal(40)) + 0.1)
    operands = [x, weights, scales, None, order]
    product = node("MatMulNBits", operands, "y", domain="com.microsoft", bits=4, block_size=32, K=64, N=20)
    product.outputs[0].shape = ir.Shape((rows, 20))
    feeds = {"x": normal(rows, 64)}
    model = model_of(feeds, [product], product.outputs, [weights, scales, order])
    with pytest.raises(TamagoError, match="B031"):
        Program(model, device)(feeds)


@pytest.mark.parametrize("dtype", [ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4])
def test_packed_weights(device: Device, dtype: ir.DataType) -> None:
    low, high = {"INT8": (-128, 128), "UINT8": (0, 256), "INT4": (-8, 8), "UINT4": (0, 16)}[dtype.name]
    codes = RNG.integers(low, high, (7, 5))
    weights, scale = (
        constant("w", codes.astype(dtype.numpy()), dtype),
        constant("s", np.float32(0.5) * np.ones((), np.float32)),
    )
    x = given("x", normal(3, 7))
    back = node("DequantizeLinear", [weights, scale], "d")
    y = node("MatMul", [x, back.outputs[0]], "y")
    feeds = {"x": normal(3, 7)}
    (found,) = Program(model_of(feeds, [back, y], y.outputs, [weights, scale]), device)(feeds)
    np.testing.assert_allclose(found, feeds["x"] @ (codes * 0.5), rtol=1e-4, atol=1e-4)


def cache_model(reader: bool) -> tuple[ir.Model, dict[str, Array]]:
    feeds = {"cache": normal(2, 8, 4), "new": normal(2, 1, 4), "at": np.full((2, 1, 4), 3, np.int64)}
    cache, new, at = (given(name, array) for name, array in feeds.items())
    twice = node("Mul", [new, new], "twice")
    written = node("ScatterElements", [cache, at, twice.outputs[0]], "present", axis=1)
    after = node("ReduceSum", [written.outputs[0]], "sum", keepdims=0)
    nodes, outputs = [twice, written, after], [written.outputs[0], after.outputs[0]]
    if reader:  # the old contents are still wanted
        late = node("Sub", [written.outputs[0], cache], "change")
        nodes.append(late)
        outputs.append(late.outputs[0])
    model = model_of(feeds, nodes, outputs)
    record_aliases(model, {"present": "cache"})
    return model, feeds


def test_state_is_written_in_place(device: Device) -> None:
    model, feeds = cache_model(reader=False)
    plan, _ = plan_of(model)
    assert not any(isinstance(step, Copy) for step in plan.steps)
    cache = next(i for i in plan.inputs if i.name == "cache")
    assert cache.buffer == plan.outputs[0].buffer
    check(model, feeds, device)


def test_state_that_is_read_later_is_copied(device: Device) -> None:
    model, feeds = cache_model(reader=True)
    plan, _ = plan_of(model)
    assert any(isinstance(step, Copy) for step in plan.steps)
    check(model, feeds, device)


@pytest.mark.parametrize("op", ["Sum", "Max", "Mean", "Concat"])
def test_more_operands_than_buffers(device: Device, op: str) -> None:
    feeds = {f"x{i}": normal(3, 2) for i in range(20)}
    values = [given(name, array) for name, array in feeds.items()]
    y = node(op, values, "y", axis=1) if op == "Concat" else node(op, values, "y")
    model = model_of(feeds, [y], y.outputs)
    check(model, feeds, device)
    plan, _ = plan_of(model)
    assert all(len(step.buffers) <= 8 for step in plan.dispatches)


def test_operands_that_are_sums_themselves(device: Device) -> None:
    """Inlining two sums of five into one product would bind ten buffers."""
    feeds = {f"x{i}": normal(4, 4) for i in range(10)}
    values = [given(name, array) for name, array in feeds.items()]
    a, b = node("Max", values[:5], "a"), node("Max", values[5:], "b")
    y = node("MatMul", [a.outputs[0], b.outputs[0]], "y")
    z = node("Add", [a.outputs[0], b.outputs[0]], "z")
    model = model_of(feeds, [a, b, y, z], [*y.outputs, *z.outputs])
    check(model, feeds, device)
    plan, _ = plan_of(model)
    assert all(len(step.buffers) <= 8 for step in plan.dispatches)


def test_more_workgroups_than_one_axis_has(device: Device) -> None:
    feeds = {"x": normal(70_000, 3)}
    x = given("x", feeds["x"])
    softmax = node("Softmax", [x], "y", axis=-1)
    more = node("Add", [given_like(softmax), constant("c", np.ones((70_000, 70), np.float32)[:, :1])], "z")
    model = model_of(
        feeds,
        [softmax, more],
        [*softmax.outputs, *more.outputs],
        [v for v in more.inputs if v is not None and v.const_value is not None],
    )
    check(model, feeds, device)


def given_like(made: ir.Node) -> ir.Value:
    return made.outputs[0]


@pytest.mark.parametrize("length", [1, 63, 65, 3000])
def test_rows_of_any_length(device: Device, length: int) -> None:
    feeds = {"x": normal(2, length)}
    x = given("x", feeds["x"])
    scale = constant("s", normal(length))
    nodes = [
        node("Softmax", [x], "a", axis=-1),
        node("LogSoftmax", [x], "b", axis=-1),
        node("LayerNormalization", [x, scale], "c", axis=-1),
        node("ReduceLogSumExp", [x, constant_axis := constant("axis", np.asarray([1], np.int64))], "d"),
        node("ArgMax", [x], "e", ir.DataType.INT64, axis=1),
        node("ReduceMax", [x, constant_axis], "f", keepdims=0),
    ]
    check(model_of(feeds, nodes, [n.outputs[0] for n in nodes], [scale, constant_axis]), feeds, device, 1e-4)


@pytest.mark.parametrize("k", [1, 5, 70])
@pytest.mark.parametrize("length", [70, 3000])
def test_top_k(device: Device, k: int, length: int) -> None:
    feeds = {"x": np.round(normal(2, length, 2) * 8) / 8}
    top = ir.node(
        "TopK", [given("x", feeds["x"]), constant("k", np.asarray([k], np.int64))], {"axis": 1}, num_outputs=2
    )
    for value, name, dtype in zip(top.outputs, ("v", "i"), (ir.DataType.FLOAT, ir.DataType.INT64), strict=True):
        value.name, value.type = name, ir.TensorType(dtype)
    check(
        model_of(feeds, [top], top.outputs, [v for v in top.inputs if v is not None and v.const_value is not None]),
        feeds,
        device,
    )


def test_nothing_inside(device: Device) -> None:
    """Values without elements are nobody's buffers, and readers see none of them."""
    feeds = {"x": normal(0, 3), "y": normal(2, 3)}
    x, y = (given(name, array) for name, array in feeds.items())
    twice = node("Add", [x, x], "a")
    joined = node("Concat", [twice.outputs[0], y], "b", axis=0)
    axis = constant("axis", np.asarray([0], np.int64))
    total = node("ReduceSum", [twice.outputs[0], axis], "c", keepdims=0)
    product = node("MatMul", [constant("w", normal(4, 0)), twice.outputs[0]], "d")
    constants = [axis, *(v for v in product.inputs if v is not None and v.const_value is not None)]
    nodes = [twice, joined, total, product]
    check(model_of(feeds, nodes, [n.outputs[0] for n in nodes], constants), feeds, device)


def test_outputs_that_are_no_results(device: Device) -> None:
    """An input, a constant, one value twice: each output has a buffer of its own to read."""
    feeds = {"x": normal(2, 3)}
    x, c = given("x", feeds["x"]), constant("c", normal(4))
    y = node("Neg", [x], "y")
    z = node("Exp", [y.outputs[0]], "z")
    model = model_of(feeds, [y, z], [x, *y.outputs, *z.outputs], [c])
    model.graph.outputs.append(c)
    assert c.const_value is not None
    wanted = [feeds["x"], -feeds["x"], np.exp(-feeds["x"]), np.asarray(c.const_value.numpy())]
    for a, b in zip(Program(model, device)(feeds), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_split_with_outputs_that_nobody_reads(device: Device) -> None:
    feeds = {"x": normal(2, 6)}
    parts = ir.node("Split", [given("x", feeds["x"])], {"axis": 1, "num_outputs": 3}, num_outputs=3)
    for number, value in enumerate(parts.outputs):
        value.name, value.type = f"p{number}", ir.TensorType(ir.DataType.FLOAT)
    y = node("Exp", [parts.outputs[1]], "y")
    check(model_of(feeds, [parts, y], y.outputs), feeds, device)


def test_integers_beyond_32_bits_are_refused(device: Device) -> None:
    feeds = {"x": np.asarray([1, 2], np.int64)}
    x, large = given("x", feeds["x"]), constant("c", np.asarray(2**40, np.int64))
    y = node("Add", [x, large], "y", ir.DataType.INT64)
    with pytest.raises(TamagoError, match="B031"):
        Program(model_of(feeds, [y], y.outputs, [large]), device)(feeds)


def test_sizes_that_depend_on_contents_are_refused(device: Device) -> None:
    feeds = {"x": normal(3)}
    y = node("NonZero", [given("x", feeds["x"])], "y", ir.DataType.INT64)
    with pytest.raises(TamagoError, match="no kernel for NonZero"):
        Program(model_of(feeds, [y], y.outputs), device)(feeds)


@pytest.mark.parametrize(
    "equation", ["bij,bjk->bik", "bhid,bhjd->bhij", "ij,ij->i", "...ij,jk->...ik", "ij->ji", "i,j->ij", "bij,kj->bik"]
)
def test_einsum(device: Device, equation: str) -> None:
    sizes = dict(zip("bhijkd", (2, 3, 4, 5, 6, 7), strict=True))
    terms = equation.split("->")[0].split(",")
    feeds = {
        f"x{n}": normal(*([2] if "..." in t else []), *(sizes[c] for c in t if c.isalpha()))
        for n, t in enumerate(terms)
    }
    y = node("Einsum", [given(name, array) for name, array in feeds.items()], "y", equation=equation)
    check(model_of(feeds, [y], y.outputs), feeds, device, 1e-4)
