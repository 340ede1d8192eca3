"""Standard operators with many settings: `torch_program` against ONNX Runtime on seeded random choices of them.

ONNX's own node tests (tests/conformance) touch each operator a few times; these draw attributes together. Left out is
what ONNX Runtime does otherwise than the specification: `SAME` padding with dilations or of a transposed convolution
whose window is smaller than its stride, and aligned corners with a scale that gives no whole size. Rounding to the
nearest element of a symmetric half pixel is left out because float32 computed in another order may fall to either side.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.node_cases import Array, Node, floats

CASES_OF_EACH = 40


def integers(*values: int) -> Array:
    return np.array(values, np.int64)


def maybe(random: Random, probability: float, value: Any) -> Any:
    return value if random.random() < probability else None


def some(**attributes: Any) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def image(random: Random, rank: int) -> Array:
    return floats(2, 4, *[random.randint(7, 9) for _ in range(rank)], seed=random.randrange(99))


def padding(random: Random, rank: int, most: int, same: bool) -> dict[str, Any]:
    choice = random.random()
    if choice < 0.25:
        return {"auto_pad": random.choice(["SAME_UPPER", "SAME_LOWER", "VALID"] if same else ["VALID"])}
    return {} if choice < 0.5 else {"pads": [random.randint(0, most) for _ in range(2 * rank)]}


def pooling(random: Random) -> Node:
    op, rank = random.choice(["MaxPool", "AveragePool", "LpPool"]), random.choice([1, 2, 2, 3])
    dilated = random.random() < 0.4
    strides = [random.randint(1, 3) for _ in range(rank)]
    kernel = [random.randint(stride, 4) for stride in strides]
    attributes = some(
        kernel_shape=kernel,
        strides=maybe(random, 0.8, strides),
        ceil_mode=maybe(random, 0.5, 1),
        dilations=[random.randint(1, 2) for _ in range(rank)] if dilated else None,
        count_include_pad=maybe(random, 0.5, 1) if op == "AveragePool" else None,
        p=random.choice([1, 2, 3]) if op == "LpPool" else None,
        **padding(random, rank, min(kernel) - 1, same=not dilated),
    )
    places = op == "MaxPool" and random.random() < 0.4
    if places and rank == 2:
        attributes["storage_order"] = random.choice([0, 1])
    return Node(op, [image(random, rank)], attributes, 2 if places else 1, opset=22)


def convolution(random: Random) -> Node:
    rank, group, dilated = random.choice([1, 2, 2, 3]), random.choice([1, 1, 2]), random.random() < 0.4
    kernel = [random.randint(1, 3) for _ in range(rank)]
    attributes = some(
        group=group,
        strides=maybe(random, 0.7, [random.randint(1, 3) for _ in range(rank)]),
        dilations=[random.randint(1, 2) for _ in range(rank)] if dilated else None,
        **padding(random, rank, 2, same=not dilated),
    )
    bias = maybe(random, 0.5, floats(6))
    fixed = random.choice([(), (1, 2)])
    return Node("Conv", [image(random, rank), floats(6, 4 // group, *kernel), bias], attributes, fixed=fixed)


def transposed_convolution(random: Random) -> Node:
    rank, group = random.choice([1, 2, 2, 3]), random.choice([1, 1, 2])
    strides = [random.randint(1, 3) for _ in range(rank)]
    kernel = [random.randint(stride, 4) for stride in strides]
    dilations = [random.randint(1, 2) for _ in range(rank)]
    x = image(random, rank)
    attributes = some(
        group=group,
        strides=strides,
        dilations=dilations,
        output_padding=maybe(random, 0.3, [random.randint(0, stride - 1) for stride in strides]),
        **padding(random, rank, 1, same=True),
    )
    if random.random() < 0.3:
        full = zip(x.shape[2:], strides, kernel, dilations, strict=True)
        sizes = [(size - 1) * s + (k - 1) * d + 1 - random.randint(0, 2) for size, s, k, d in full]
        attributes = some(group=group, strides=strides, dilations=dilations, output_shape=sizes)
    return Node("ConvTranspose", [x, floats(4, 3, *kernel), maybe(random, 0.5, floats(3 * group))], attributes)


def resize(random: Random) -> Node:
    mode = random.choice(["nearest", "linear", "cubic"])
    modes = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    coordinates = random.choice(modes if mode == "nearest" else [*modes, "half_pixel_symmetric"])
    attributes = some(
        mode=mode,
        coordinate_transformation_mode=coordinates,
        nearest_mode=random.choice(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
        cubic_coeff_a=maybe(random, 0.3, -0.5),
        exclude_outside=maybe(random, 0.3, 1) if mode == "cubic" else None,
        antialias=maybe(random, 0.4, 1) if mode != "nearest" and coordinates == "half_pixel" else None,
    )
    x = floats(1, 2, random.randint(3, 7), random.randint(3, 7))
    whole = coordinates in ("align_corners", "pytorch_half_pixel")
    factors = [random.choice([2.0, 3.0] if whole else [0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 2.3, 3.0]) for _ in range(2)]
    if random.random() < 0.5:
        inputs = [x, None, np.array([1, 1, *factors], np.float32)]
    else:
        inputs = [
            x,
            None,
            None,
            integers(1, 2, *[max(1, int(n * f)) for n, f in zip(x.shape[2:], factors, strict=True)]),
        ]
    return Node("Resize", inputs, attributes, opset=19, fixed=random.choice([(), (2, 3)]))


def pad(random: Random) -> Node:
    mode, rank = random.choice(["constant", "reflect", "edge", "wrap"]), random.choice([2, 3, 4])
    axes = random.sample(range(-rank, 0), random.randint(1, rank))
    least = -1 if mode == "constant" else 0
    pads = [random.randint(least, 3) for _ in range(2 * len(axes))]
    value = maybe(random, 0.5, np.array(1.5, np.float32)) if mode == "constant" else None
    x = floats(*[random.randint(4, 6) for _ in range(rank)])
    fixed = random.choice([(), (1, 2, 3)])
    return Node("Pad", [x, integers(*pads), value, integers(*axes)], {"mode": mode}, opset=19, fixed=fixed)


# ONNX Runtime's Softplus overflows where ours does not
_ACTIVATIONS = {
    "Affine": 2,
    "Elu": 1,
    "HardSigmoid": 2,
    "LeakyRelu": 1,
    "Relu": 0,
    "ScaledTanh": 2,
    "Sigmoid": 0,
    "Softsign": 0,
    "Tanh": 0,
    "ThresholdedRelu": 1,
}


def recurrent(random: Random) -> Node:
    op, direction = random.choice(["RNN", "GRU", "LSTM"]), random.choice(["forward", "reverse", "bidirectional"])
    gates, functions = {"RNN": (1, 1), "GRU": (3, 2), "LSTM": (4, 3)}[op]
    count, hidden, width, time, batch = (2 if direction == "bidirectional" else 1), 3, 4, 5, 2
    attributes = some(
        hidden_size=hidden,
        direction=direction,
        clip=maybe(random, 0.2, 0.5),
        linear_before_reset=maybe(random, 0.6, 1) if op == "GRU" else None,
        input_forget=maybe(random, 0.15, 1) if op == "LSTM" else None,
    )
    if random.random() < 0.4:
        chosen = [random.choice(list(_ACTIVATIONS)) for _ in range(functions * count)]
        for name, least in (("activation_alpha", 1), ("activation_beta", 2)):
            numbers = [random.choice([0.1, 0.2, 0.5]) for function in chosen if _ACTIVATIONS[function] >= least]
            attributes |= {name: numbers} if numbers else {}
        attributes["activations"] = chosen
    inputs = [
        floats(time, batch, width),
        floats(count, gates * hidden, width) / 2,
        floats(count, gates * hidden, hidden) / 2,
        maybe(random, 0.7, floats(count, 2 * gates * hidden)),
        maybe(random, 0.3, np.array([5, 3], np.int32)),
        maybe(random, 0.5, floats(count, batch, hidden)),
    ]
    if op == "LSTM":
        inputs += [maybe(random, 0.5, floats(count, batch, hidden)), maybe(random, 0.3, floats(count, 3 * hidden))]
    return Node(op, inputs, attributes, 3 if op == "LSTM" else 2, opset=14)


def slice_(random: Random) -> Node:
    rank = random.randint(1, 4)
    axes = [axis - random.choice([0, rank]) for axis in random.sample(range(rank), random.randint(1, rank))]
    starts = [random.randint(-6, 6) for _ in axes]
    ends = [random.choice([random.randint(-6, 6), 2**63 - 1, -(2**63) + 1, 2**31 - 1]) for _ in axes]
    steps = [random.choice([1, 1, 2, -1, -2, 3]) for _ in axes]
    x = floats(*[random.randint(1, 5) for _ in range(rank)])
    inputs = [x, integers(*starts), integers(*ends), integers(*axes), integers(*steps)]
    return Node("Slice", inputs, fixed=random.choice([(), (1, 2, 3, 4)]))


def reduction(random: Random) -> Node:
    op = random.choice(["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"])
    kind = (
        random.choice([np.float32, np.float64, np.int32]) if op in ("Sum", "Max", "Min", "Prod", "Mean") else np.float32
    )
    x = (np.abs(floats(2, 3, 4) * 3) + 0.1).astype(kind)
    axes = random.choice([None, [0], [-1], [1, 2], [0, -1]])
    inputs = [x] if axes is None else [x, integers(*axes)]
    return Node(f"Reduce{op}", inputs, {"keepdims": random.choice([0, 1])}, opset=18, fixed=random.choice([(), (1,)]))


def gathering(random: Random) -> Node:
    x, axis = floats(3, 4, 5), random.randint(-3, 2)
    size = x.shape[axis]
    generator = np.random.default_rng(random.randrange(99))
    if random.random() < 0.5:
        where = generator.integers(-size, size, random.choice([(), (2,), (2, 2)]))
        return Node("Gather", [x, where], {"axis": axis}, fixed=random.choice([(), (1,)]))
    shape = [2 if index == axis % 3 else n for index, n in enumerate(x.shape)]
    return Node("GatherElements", [x, generator.integers(-size, size, shape)], {"axis": axis})


def scattering(random: Random) -> Node:
    x, generator = floats(3, 4, 5), np.random.default_rng(random.randrange(99))
    attributes = {"reduction": random.choice(["none", "add", "mul", "max", "min"])}
    if random.random() < 0.5:
        depth = random.randint(1, 3)
        flat = generator.choice([3, 12, 60][depth - 1], 2, replace=False)  # without repetition the order is free
        where = np.stack(np.unravel_index(flat, x.shape[:depth]), -1).astype(np.int64)
        return Node("ScatterND", [x, where, floats(2, *x.shape[depth:])], attributes, opset=18)
    axis = random.randint(0, 2)
    view = [-1 if index == axis else 1 for index in range(3)]
    places = np.broadcast_to(np.arange(x.shape[axis]).reshape(view), x.shape)
    where = generator.permuted(places, axis=axis).take([0, 1], axis)
    return Node("ScatterElements", [x, where, floats(*where.shape)], {**attributes, "axis": axis}, opset=18)


def quantization(random: Random) -> Node:
    kind, per_axis = random.choice([np.uint8, np.int8]), random.random() < 0.5
    generator = np.random.default_rng(random.randrange(99))
    scale = np.abs(floats(3)) + 0.1 if per_axis else np.array(0.3, np.float32)
    zero = generator.integers(0, 9, 3).astype(kind) if per_axis else np.array(3, kind)
    attributes = {"axis": random.choice([1, -2])} if per_axis else {}
    if random.random() < 0.5:
        return Node("QuantizeLinear", [floats(2, 3, 4) * 3, scale, zero], attributes)
    return Node("DequantizeLinear", [generator.integers(0, 100, (2, 3, 4)).astype(kind), scale, zero], attributes)


def old_meanings() -> list[Node]:
    """What operators meant at earlier opsets."""
    x, picture, matrix = floats(2, 3, 4), floats(1, 2, 4, 5), floats(3, 4)
    scales, whole = np.array([1, 1, 2, 3], np.float32), np.array([1, 1, 0.5, 0.4], np.float32)
    mean, var = floats(2), np.abs(floats(2)) + 0.1
    border = {"border": [1, 0, 2, 1]}
    return [
        Node("Affine", [matrix], {"alpha": 2.0, "beta": 0.5}, opset=7),
        Node("BatchNormalization", [picture, mean, mean, mean, var], {"epsilon": 0.1}, opset=7),
        Node("BatchNormalization", [picture, mean, mean, mean, var], {"epsilon": 0.1}, opset=9),
        Node("Clip", [x], {"min": -0.5, "max": 0.7}, opset=7),
        Node("Clip", [x, np.array(-0.5, np.float32)], opset=11, name="input"),
        Node("Crop", [picture], border, opset=7),
        Node("Dropout", [x], {"ratio": 0.3}, opset=7),
        Node("Dropout", [x], {"ratio": 0.3}, opset=10),
        Node("Dropout", [x, np.array(0.3, np.float32)], opset=12),
        Node("Flatten", [x], {"axis": 2}, opset=7),
        Node("Flatten", [x], {"axis": -2}, opset=11),
        Node("Gemm", [matrix, floats(4, 5), floats(3, 1)], {"alpha": 0.5, "beta": 2.0}, opset=7),
        Node("Gemm", [matrix, floats(5, 4), floats(5)], {"transB": 1}, opset=9),
        Node("Hardmax", [x], {"axis": 1}, opset=11),
        Node("ImageScaler", [floats(1, 3, 4, 4)], {"scale": 2.0, "bias": [0.1, 0.2, 0.3]}, opset=7),
        Node("LogSoftmax", [x], opset=11),
        Node("Pad", [matrix], {"pads": [1, 0, 2, 1], "mode": "reflect"}, opset=7),
        Node("Pad", [matrix], {"pads": [1, 0, -1, 1], "value": 3.0}, opset=10),
        Node("ReduceSum", [x], {"axes": [1]}, opset=11),
        Node("Resize", [picture, scales], {"mode": "nearest"}, opset=10),
        Node("Resize", [picture, whole], {"mode": "nearest"}, opset=10, name="smaller"),
        Node("Resize", [picture, scales], {"mode": "linear"}, opset=10),
        Node("ScaledTanh", [matrix], {"alpha": 2.0, "beta": 0.5}, opset=7),
        Node("Scatter", [matrix, integers(1, 0, 2, 1).reshape(1, 4), floats(1, 4)], opset=9),
        Node("Slice", [x], {"starts": [1, -3], "ends": [2**31 - 1, -1], "axes": [0, 2]}, opset=7),
        Node("Softmax", [x], opset=7),
        Node("Softmax", [x], {"axis": 0}, opset=11),
        Node("Softmax", [x], {"axis": -1}, opset=11),
        Node("Split", [x], {"axis": 2, "split": [1, 3]}, 2, opset=7),
        Node("Split", [x, integers(1, 3)], {"axis": -1}, 2, opset=13),
        Node("Squeeze", [floats(1, 3, 1)], {"axes": [0]}, opset=7),
        Node("Squeeze", [floats(1, 3, 1)], opset=11),
        Node("Squeeze", [floats(1, 3, 1), integers(-1)], opset=13),
        Node("TopK", [x], {"k": 2}, 2, opset=7),
        Node("TopK", [x, integers(2)], {"axis": 1}, 2, opset=10),
        Node("Unsqueeze", [x], {"axes": [0, 3]}, opset=7),
        Node("Unsqueeze", [x, integers(-1, -3)], opset=13),
        Node("Upsample", [picture], {"scales": [1.0, 1.0, 2.0, 3.0]}, opset=7),
        Node("Upsample", [picture, scales], {"mode": "nearest"}, opset=9),
        Node("Upsample", [picture, scales], {"mode": "linear"}, opset=9, fixed=(1,)),
    ]


@pytest.mark.parametrize("node", old_meanings(), ids=lambda node: f"{node.op} {node.opset} {node.name}".strip())
def test_old_opset(node: Node) -> None:
    node.check()


FAMILIES = (
    convolution,
    gathering,
    pad,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
    scattering,
    slice_,
    transposed_convolution,
)


@pytest.mark.parametrize("draw", FAMILIES, ids=lambda draw: draw.__name__.strip("_"))
def test_family(draw: Callable[[Random], Node]) -> None:
    random = Random(draw.__name__)
    for index in range(CASES_OF_EACH):
        node = draw(random)
        try:
            node.check()
        except Exception as error:
            shapes = [None if x is None else x.shape for x in node.inputs]
            raise AssertionError(f"case {index}: {node.op} {node.attributes} of {shapes}") from error
