"""Random graphs of a dozen mixed operators against ONNX Runtime: what is fused, stored, moved and shared stays right.

The graphs are made of what the scheduler treats differently: operators element by element, movement, reductions, rows,
products, broadcasting, values read many times, outputs that are read again, inputs and constants handed through.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tamago.backends.onnxruntime.run import Program as Reference
from tamago.backends.webgpu.device import Device
from tamago.backends.webgpu.run import Program
from tamago.compiler.facts import Array

UNARY = ("Relu", "Neg", "Abs", "Sigmoid", "Tanh", "Identity")
BINARY = ("Add", "Sub", "Mul", "Max", "Min", "PRelu")
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
SETTINGS = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=SLOW)


@dataclass
class Builder:
    """A graph being made, and the choices that make it."""

    draw: st.DrawFn
    dtype: ir.DataType
    nodes: list[ir.Node] = field(default_factory=list[ir.Node])
    values: list[ir.Value] = field(default_factory=list[ir.Value])
    constants: list[ir.Value] = field(default_factory=list[ir.Value])

    def choose(self, options: tuple[str, ...]) -> str:
        return self.draw(st.sampled_from(options))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def any_value(self) -> ir.Value:
        """A value; the newest are likelier."""
        back = min(self.number(0, 3) * self.number(0, 2), len(self.values) - 1)
        return self.values[-1 - back]

    def constant(self, array: Array) -> ir.Value:
        name = f"c{len(self.constants)}"
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.constants.append(value)
        return value

    def weight(self, *shape: int) -> ir.Value:
        rng = np.random.default_rng(self.number(0, 99))
        return self.constant(rng.normal(size=shape).astype(self.dtype.numpy()))

    def integers(self, *numbers: int) -> ir.Value:
        return self.constant(np.asarray(numbers, np.int64))

    def add(
        self, op: str, inputs: list[ir.Value], shape: tuple[int, ...], outputs: int = 1, **attributes: object
    ) -> None:
        node = ir.node(op, inputs, attributes, num_outputs=outputs)  # pyright: ignore[reportArgumentType]
        for value in node.outputs:
            value.name = f"v{sum(len(n.outputs) for n in self.nodes) + (value.index() or 0)}"
            value.shape, value.type = ir.Shape(shape), ir.TensorType(self.dtype)
        self.nodes.append(node)
        self.values += node.outputs


def sizes(value: ir.Value) -> tuple[int, ...]:
    assert value.shape is not None
    return tuple(int(d) for d in value.shape.numpy())


def unary(b: Builder) -> None:
    x = b.any_value()
    b.add(b.choose(UNARY), [x], sizes(x))


def binary(b: Builder) -> None:
    x = b.any_value()
    shape = sizes(x)
    alike = [v for v in b.values if sizes(v) == shape]
    other = alike[-1 - b.number(0, 5) % len(alike)]
    if b.number(0, 2) == 0:
        kept = b.number(0, len(shape))
        other = b.weight(*(1 if b.number(0, 2) == 0 else d for d in shape[len(shape) - kept :]))
    op = b.choose(BINARY)
    b.add(op, [x, other], shape)


def where(b: Builder) -> None:
    x = b.any_value()
    mask = b.constant(np.random.default_rng(b.number(0, 9)).random(sizes(x)) > 0.5)
    b.add("Where", [mask, x, b.weight()], sizes(x))


def transpose(b: Builder) -> None:
    x = b.any_value()
    order = b.draw(st.permutations(range(len(sizes(x)))))
    b.add("Transpose", [x], tuple(sizes(x)[a] for a in order), perm=list(order))


def reshape(b: Builder) -> None:
    x = b.any_value()
    shape = sizes(x)
    count = int(np.prod(shape))
    options = [(count,), (1, count), (*shape, 1), (shape[0], count // shape[0]) if shape and shape[0] else shape]
    if len(shape) > 1:
        options.append((shape[0] * shape[1], *shape[2:]))
    new = options[b.number(0, len(options) - 1)]
    if len(new) <= 4:
        b.add("Reshape", [x, b.integers(*new)], new)


def slice_(b: Builder) -> None:
    x = b.any_value()
    shape = sizes(x)
    axis = b.number(0, len(shape) - 1)
    step = b.draw(st.sampled_from([1, 1, 2, -1]))
    if shape[axis] < 2:
        return
    start, end = (1, shape[axis]) if step > 0 else (shape[axis] - 1, -shape[axis] - 1)
    new = len(range(shape[axis])[slice(start, None if step < 0 else end, step)])
    result = tuple(new if a == axis else d for a, d in enumerate(shape))
    b.add("Slice", [x, b.integers(start), b.integers(end), b.integers(axis), b.integers(step)], result)


def concat(b: Builder) -> None:
    x = b.any_value()
    shape = sizes(x)
    axis = b.number(0, len(shape) - 1)
    alike = [v for v in b.values if sizes(v) == shape]
    parts = [alike[b.number(0, len(alike) - 1)] for _ in range(b.number(1, 9) if b.number(0, 4) == 0 else 2)]
    if shape[axis] * len(parts) <= 64:
        b.add("Concat", parts, tuple(d * len(parts) if a == axis else d for a, d in enumerate(shape)), axis=axis)


def split(b: Builder) -> None:
    x = b.any_value()
    shape = sizes(x)
    axis = next((a for a, d in enumerate(shape) if d and d % 2 == 0), None)
    if axis is not None:
        b.add("Split", [x], tuple(d // 2 if a == axis else d for a, d in enumerate(shape)), 2, axis=axis, num_outputs=2)


def gather(b: Builder) -> None:
    x = b.any_value()
    shape = sizes(x)
    axis = b.number(0, len(shape) - 1)
    if not shape[axis]:
        return
    chosen = [b.number(-shape[axis], shape[axis] - 1) for _ in range(b.number(1, 4))]
    b.add(
        "Gather",
        [x, b.integers(*chosen)],
        tuple(len(chosen) if a == axis else d for a, d in enumerate(shape)),
        axis=axis,
    )


def pad(b: Builder) -> None:
    x = b.any_value()
    shape = sizes(x)
    before, after = ([b.number(0, 1) for _ in shape] for _ in range(2))
    new = tuple(d + p + q for d, p, q in zip(shape, before, after, strict=True))
    b.add("Pad", [x, b.integers(*before, *after)], new, mode="constant")


def expand(b: Builder) -> None:
    x = b.any_value()
    shape = sizes(x)
    new = tuple(b.number(1, 9) if d == 1 else d for d in shape)
    b.add("Expand", [x, b.integers(*new)], new)


def reduce(b: Builder) -> None:
    x = b.any_value()
    shape = sizes(x)
    axis, keep = b.number(0, len(shape) - 1), b.number(0, 1)
    new = tuple(1 if a == axis else d for a, d in enumerate(shape) if keep or a != axis)
    op = b.choose(("ReduceSum", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceL2"))
    if new and shape[axis]:
        b.add(op, [x, b.integers(axis)], new, keepdims=keep)


def row(b: Builder) -> None:
    x = b.any_value()
    shape = sizes(x)
    if b.number(0, 1):
        b.add("Softmax", [x], shape, axis=b.number(0, len(shape) - 1))
    else:
        b.add("LayerNormalization", [x, b.weight(shape[-1]), b.weight(shape[-1])], shape, axis=-1, epsilon=1e-2)


def product(b: Builder) -> None:
    x = b.any_value()
    shape = sizes(x)
    columns = b.number(1, 6)
    if len(shape) > 1:
        b.add("MatMul", [x, b.weight(shape[-1], columns)], (*shape[:-1], columns))


def cumulative(b: Builder) -> None:
    x = b.any_value()
    axis = b.number(0, len(sizes(x)) - 1)
    b.add(
        "CumSum",
        [x, b.constant(np.asarray(axis, np.int64))],
        sizes(x),
        reverse=b.number(0, 1),
        exclusive=b.number(0, 1),
    )


STEPS = (
    unary,
    unary,
    binary,
    binary,
    binary,
    where,
    transpose,
    reshape,
    slice_,
    concat,
    split,
    gather,
    pad,
    expand,
    reduce,
    row,
    product,
    cumulative,
)


def bounded(b: Builder) -> None:
    """Keep numbers small, so that no reference overflows: tanh of the newest value."""
    b.add("Tanh", [b.values[-1]], sizes(b.values[-1]))


@st.composite
def models(draw: st.DrawFn, dtype: ir.DataType) -> tuple[ir.Model, dict[str, Array]]:
    b = Builder(draw, dtype)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    feeds: dict[str, Array] = {}
    inputs: list[ir.Value] = []
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=1, max_size=3)))
    for number in range(draw(st.integers(1, 3))):
        value = ir.Value(name=f"x{number}", shape=ir.Shape(shape), type=ir.TensorType(dtype))
        inputs.append(value)
        feeds[f"x{number}"] = rng.normal(size=shape).astype(dtype.numpy())
    b.values += inputs
    for number in range(draw(st.integers(3, 14))):
        step = draw(st.sampled_from(STEPS))
        if int(np.prod(sizes(b.values[-1]))) <= 4096:
            step(b)
        if number % 3 == 2:
            bounded(b)
    made = [v for v in b.values if v.producer() is not None] or b.values
    chosen = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique_by=id))
    outputs = list({id(v): v for v in (*chosen, made[-1])}.values())
    graph = ir.Graph(inputs, outputs, nodes=b.nodes, initializers=b.constants, opset_imports={"": 23}, name="random")
    return ir.Model(graph, ir_version=10), feeds


def agree(model: ir.Model, feeds: dict[str, Array], device: Device, tolerance: float) -> None:
    wanted = Reference(model, 1)(feeds)
    found = Program(model, device)(feeds)
    for value, a, b in zip(model.graph.outputs, found, wanted, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), value.name
        scale = max(float(np.abs(b.astype(np.float64)).max(initial=0.0)), 1.0)
        np.testing.assert_allclose(
            a.astype(np.float64), b.astype(np.float64), rtol=0, atol=tolerance * scale, err_msg=str(value.name)
        )


@SETTINGS
@given(case=models(ir.DataType.FLOAT))
def test_random_graphs_in_single_precision(device: Device, case: tuple[ir.Model, dict[str, Array]]) -> None:
    agree(*case, device, 2e-5)


@SETTINGS
@given(case=models(ir.DataType.FLOAT16))
def test_random_graphs_in_half_precision(device: Device, case: tuple[ir.Model, dict[str, Array]]) -> None:
    if not device.half:
        pytest.skip("the adapter has no half precision")
    agree(*case, device, 3e-2)
