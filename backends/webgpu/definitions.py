"""Operators as others: definitions beside the standard's own, for shapes that are known.

What is resized is a gather, or a sum of a few elements with weights that are known ahead; what computes with quantised
numbers converts them first. Operators of the domain ai.tamago
are such as only these definitions write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.ir import constant_array, new_constant, op_name
from .resampling import Axis, is_read_two_ways, nearest, weights

DOMAIN = "ai.tamago"
FEW = 6  # operands of one part of an operator of many
Fresh = Callable[[str], str]


@dataclass
class Body:
    """The nodes of a definition being written.

    Args:
        node: what is defined.
        fresh: gives unused names.
    """

    node: ir.Node
    fresh: Fresh

    def __post_init__(self) -> None:
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []

    def constant(self, array: Array) -> ir.Value:
        """A known value."""
        value = new_constant(self.fresh("table"), array)
        self.constants.append(value)
        return value

    def op(
        self, name: str, *inputs: ir.Value | None, domain: str = "", like: ir.Value | None = None, **more: object
    ) -> ir.Value:
        """The result of one more operator, of the type and shape of another value where that is said."""
        attributes = [
            ir.AttrInt64s(key, value) if isinstance(value, list) else ir.convenience.convert_attribute(key, value)  # pyright: ignore[reportArgumentType]
            for key, value in more.items()
        ]
        node = ir.Node(domain, name, inputs, attributes)
        node.name, node.outputs[0].name = self.fresh(name), self.fresh(name)
        if like is not None:
            node.outputs[0].type, node.outputs[0].shape = like.type, like.shape
        self.nodes.append(node)
        return node.outputs[0]

    def input(self, number: int) -> ir.Value | None:
        """An operand."""
        return self.node.inputs[number] if number < len(self.node.inputs) else None

    def given(self, number: int) -> ir.Value:
        """An operand that is there."""
        value = self.input(number)
        assert value is not None
        return value

    def known(self, number: int) -> Array | None:
        """An operand's contents."""
        value = self.input(number)
        return None if value is None else constant_array(value, 1 << 10)

    def attribute(self, name: str, default: object) -> object:
        """An attribute."""
        found = self.node.attributes.get(name)
        return default if found is None else found.value


Definition = Callable[[Body], "ir.Value | tuple[ir.Value, ...] | None"]
DEFINITIONS: dict[str, Definition] = {}
PREFERRED: set[str] = set()  # operators whose definition is better than their kernel


def define(*names: str, preferred: bool = False) -> Callable[[Definition], Definition]:
    """Declare the definition of operators; it answers None where it has none for a node."""

    def declare(function: Definition) -> Definition:
        for name in names:
            DEFINITIONS[name] = function
            if preferred:
                PREFERRED.add(name)
        return function

    return declare


def defined(
    graph: ir.Graph, allowed: Callable[[ir.Node], bool], wanted: Callable[[ir.Node], bool], fresh: Fresh
) -> int:
    """Put definitions in the place of nodes; of how many.

    Args:
        graph: types and shapes inferred; changed in place.
        allowed: which nodes may be; of PREFERRED operators all of these are.
        wanted: which nodes of other operators.
        fresh: gives unused names.
    """
    count = 0
    for node in list(graph):
        definition = DEFINITIONS.get(op_name(node))
        if definition is None or not allowed(node) or not (node.op_type in PREFERRED or wanted(node)):
            continue
        body = Body(node, fresh)
        found = definition(body)
        if found is None:
            continue
        for value in body.constants:
            graph.register_initializer(value)
        replace(graph, node, body.nodes, found if isinstance(found, tuple) else (found,))
        count += 1
    return count


def replace(graph: ir.Graph, node: ir.Node, nodes: list[ir.Node], results: tuple[ir.Value, ...]) -> None:
    """Let new nodes, and their results, take the place of a node in a graph."""
    graph.insert_before(node, nodes)
    for old, new in zip(node.outputs, results, strict=False):
        if not old.name:
            continue
        name = old.name
        new.type, new.shape = old.type, old.shape
        for position, output in enumerate(graph.outputs):
            if output is old:
                graph.outputs[position] = new
        old.replace_all_uses_with(new)
        old.name, new.name = f"{name}/defined", name
    graph.remove(node, safe=True)


@define("Resize")
def resize(body: Body) -> ir.Value | None:
    """One axis after the other: a gather, or sums with weights."""
    x = body.given(0)
    axes = _axes(body)
    if axes is None or x.dtype is None or x.shape is None or resizes_two_ways(body.node):
        return None
    kind, mode = (
        str(body.attribute("mode", "nearest")),
        str(body.attribute("coordinate_transformation_mode", "half_pixel")),
    )
    outside, crops = body.attribute("extrapolation_value", 0.0), mode == "tf_crop_and_resize"
    dtype = x.dtype
    if kind == "nearest":
        if crops:
            return None
        rounding = str(body.attribute("nearest_mode", "round_prefer_floor"))
        for number, axis in axes.items():
            x = body.op("Gather", x, body.constant(nearest(axis, mode, rounding)), axis=number)
        return x if body.nodes else body.op("Identity", x)
    shape, cubic = [int(d) for d in x.shape.numpy()], float(str(body.attribute("cubic_coeff_a", -0.75)))
    antialias, inside_only = bool(body.attribute("antialias", 0)), bool(body.attribute("exclude_outside", 0))
    if dtype != ir.DataType.FLOAT:
        x = body.op("Cast", x, to=1)
    if crops and outside:
        x = body.op("Sub", x, body.constant(np.asarray(outside, np.float32)))
    for number, axis in axes.items():
        shape[number] = axis.result
        first, table = weights(axis, mode, kind, cubic, antialias, inside_only)
        x = body.op("Interpolate", x, body.constant(first), body.constant(table), domain=DOMAIN, axis=number)
        x.shape, x.type = ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
    if crops and outside:
        x = body.op("Add", x, body.constant(np.asarray(outside, np.float32)))
    return body.op("Cast", x, to=int(dtype))


def resizes_two_ways(node: ir.Node) -> bool:
    """Whether what a node computes depends on who reads it: that results are compared with ONNX Runtime's decides."""
    body = Body(node, str)
    mode = str(body.attribute("coordinate_transformation_mode", "half_pixel"))
    axes = _axes(body) if op_name(node) == "Resize" else None
    return any(is_read_two_ways(axis, mode) for axis in (axes or {}).values())


def _axes(body: Body) -> dict[int, Axis] | None:
    """Axes that are resized, by number; None where what they become is not known."""
    x, y = body.given(0), body.node.outputs[0]
    if x.shape is None or y.shape is None or not (x.shape.is_static() and y.shape.is_static()):
        return None
    old, new = [int(d) for d in x.shape.numpy()], [int(d) for d in y.shape.numpy()]
    stated = body.attribute("axes", None)
    which = [int(a) % len(old) for a in stated] if isinstance(stated, (tuple, list)) else list(range(len(old)))
    roi, scales, sizes = (body.known(number) for number in (1, 2, 3))
    crops = body.attribute("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    if (scales is None and body.input(2) is not None) or (crops and roi is None):
        return None
    found: dict[int, Axis] = {}
    for position, axis in enumerate(which):
        size, result = old[axis], new[axis]
        if scales is not None and scales.size:
            scale = float(scales[position])
        elif sizes is None or body.attribute("keep_aspect_ratio_policy", "stretch") in ("stretch", b"stretch"):
            scale = result / size
        else:
            ratios = [int(s) / old[a] for s, a in zip(sizes, which, strict=True)]
            scale = max(ratios) if body.attribute("keep_aspect_ratio_policy", "") == "not_smaller" else min(ratios)
        start, end = (
            (float(roi[position]), float(roi[position + len(which)])) if crops and roi is not None else (0.0, 1.0)
        )
        if size != result or scale != 1.0 or (start, end) != (0.0, 1.0):
            found[axis] = Axis(size, result, scale, start, end)
    return found


@define("Concat", "Sum", "Max", "Min", "Mean")
def wide(body: Body) -> ir.Value | None:
    """Of more operands than a kernel binds buffers: parts first."""
    op, inputs = body.node.op_type, [v for v in body.node.inputs if v is not None]
    attributes = {name: a.value for name, a in body.node.attributes.items()}
    if len(inputs) <= FEW:
        return None
    join = "Sum" if op == "Mean" else op
    while len(inputs) > 1:
        parts = [inputs[i : i + FEW] for i in range(0, len(inputs), FEW)]
        inputs = [body.op(join, *part, **attributes) if len(part) > 1 else part[0] for part in parts]
    if op != "Mean":
        return inputs[0]
    dtype = body.given(0).dtype
    assert dtype is not None
    return body.op("Div", inputs[0], body.constant(np.asarray(len(body.node.inputs), dtype.numpy())))


@define("MatMulInteger")
def matmul_integer(body: Body) -> ir.Value | None:
    """(a − its zero point)·(b − its zero point) of 32-bit integers."""
    return body.op("MatMul", _centred(body, 0, 2, [1]), _centred(body, 1, 3, []))


def _centred(body: Body, number: int, zero: int, behind: list[int]) -> ir.Value:
    """An operand less its zero point, as 32-bit integers; zero points in a row get axes of one behind them."""
    x, point = body.op("Cast", body.given(number), to=int(ir.DataType.INT32)), body.input(zero)
    if point is None:
        return x
    if behind and point.shape is not None and len(point.shape) == 1 and point.shape[0] != 1:
        point = body.op("Unsqueeze", point, body.constant(np.asarray(behind, np.int64)))
    return body.op("Sub", x, body.op("Cast", point, to=int(ir.DataType.INT32)))


@define("ConvInteger")
def conv_integer(body: Body) -> ir.Value | None:
    """A convolution of numbers that single precision holds exactly, as long as the sums do."""
    rank = len(body.given(1).shape or ())
    x, w = _centred(body, 0, 2, []), _centred(body, 1, 3, list(range(1, rank)))
    x, w = body.op("Cast", x, to=1), body.op("Cast", w, to=1)
    found = body.op("Conv", x, w, **{name: a.value for name, a in body.node.attributes.items()})
    return body.op("Cast", found, to=int(ir.DataType.INT32))


@define("QLinearMatMul")
def qlinear_matmul(body: Body) -> ir.Value | None:
    """The product of what both stand for, quantised again."""
    a = body.op("DequantizeLinear", *(body.given(n) for n in (0, 1, 2)))
    b = body.op("DequantizeLinear", *(body.given(n) for n in (3, 4, 5)))
    return body.op("QuantizeLinear", body.op("MatMul", a, b), body.given(6), body.given(7))


@define("QLinearConv")
def qlinear_conv(body: Body) -> ir.Value | None:
    """The convolution of what both stand for, quantised again."""
    x = body.op("DequantizeLinear", *(body.given(n) for n in (0, 1, 2)))
    w = body.op("DequantizeLinear", *(body.given(n) for n in (3, 4, 5)), axis=0)
    bias = body.input(8)
    if bias is not None:
        scale = body.op("Mul", body.given(1), body.given(4))
        bias = body.op("Mul", body.op("Cast", bias, to=1), scale)
    attributes = {name: a.value for name, a in body.node.attributes.items()}
    found = body.op("Conv", x, w, bias, **attributes)
    return body.op("QuantizeLinear", found, body.given(6), body.given(7))


@define("Hardmax")
def hardmax(body: Body) -> ir.Value | None:
    """1 where the largest is."""
    x = body.given(0)
    if x.shape is None or x.dtype is None:
        return None
    axis = int(str(body.attribute("axis", -1))) % len(x.shape)
    size = int(x.shape.numpy()[axis])
    numbers = np.arange(size, dtype=np.int64).reshape([size if a == axis else 1 for a in range(len(x.shape))])
    most = body.op("ArgMax", x, axis=axis, keepdims=1)
    return body.op("Cast", body.op("Equal", most, body.constant(numbers)), to=int(x.dtype))


@define("TopK")
def top_k(body: Body) -> tuple[ir.Value, ...] | None:
    """Where they are, then what is there."""
    x, found = body.given(0), body.node.outputs[0]
    if x.shape is None or found.shape is None or not found.shape.is_static():
        return None
    axis = int(str(body.attribute("axis", -1))) % len(x.shape)
    indices = body.op("TopKIndices", x, domain=DOMAIN, axis=axis, largest=body.attribute("largest", 1))
    indices.shape, indices.type = found.shape, ir.TensorType(ir.DataType.INT64)
    return body.op("GatherElements", x, indices, axis=axis), indices


@define("com.microsoft::MatMulNBits")
def product_with_few_bits(body: Body) -> ir.Value | None:
    """Weights made wide, which is done once, and a product like any other: for as many rows as share each of them."""
    x, out, packed, zero = body.given(0), body.node.outputs[0], body.given(1).const_value, body.input(3)
    depth, columns, bits, size = (int(str(body.attribute(n, 4))) for n in ("K", "N", "bits", "block_size"))
    if packed is None or bits not in (4, 8) or out.shape is None or (zero is not None and zero.const_value is None):
        return None
    if body.input(4) is not None:  # columns in an order of their own
        return None
    single = int(ir.DataType.FLOAT)

    def in_single(value: ir.Value) -> ir.Value:
        return value if value.dtype == ir.DataType.FLOAT else body.op("Cast", value, to=single)

    blocks = -(-depth // size)
    codes = body.constant(_codes(np.asarray(packed.numpy()), bits, (columns, blocks, size)))
    middle = body.constant(np.asarray(1 << (bits - 1), np.float32))
    if zero is not None and zero.const_value is not None:
        array = np.asarray(zero.const_value.numpy())
        wide = array if array.dtype.kind == "f" else _codes(array, bits, (columns, -1))[:, :blocks].astype(np.uint8)
        middle = body.op("Cast", body.constant(wide.reshape(columns, blocks, 1)), to=single)
    scale = body.op("Reshape", in_single(body.given(2)), body.constant(np.asarray([columns, blocks, 1])))
    levels = body.op("Sub", body.op("Cast", codes, to=single), middle)
    rows = body.op("Reshape", body.op("Mul", levels, scale), body.constant(np.asarray([columns, blocks * size])))
    if blocks * size != depth:
        rows = body.op("Slice", rows, *(body.constant(np.asarray([n])) for n in (0, depth, 1)))
    found = body.op("MatMul", in_single(x), body.op("Transpose", rows, perm=[1, 0]))
    bias = body.input(5)
    if bias is not None:
        found = body.op("Add", found, in_single(bias))
    return found if out.dtype == ir.DataType.FLOAT else body.op("Cast", found, to=int(out.dtype or single))


def _codes(packed: Array, bits: int, shape: tuple[int, ...]) -> Array:
    """Numbers of so many bits from bytes, the first of two in the lower half."""
    if bits == 8:
        return packed.reshape(shape)
    pairs = np.stack([np.bitwise_and(packed, 15), np.right_shift(packed, 4)], -1)
    return pairs.reshape(shape).astype(ml_dtypes.uint4)


@define("Einsum", preferred=True)
def einsum(body: Body) -> ir.Value | None:
    """Two operands that share what is summed: a product of matrices, its axes moved before and after."""
    from .kernels.einsum import equation_of

    if len(body.node.inputs) != 2 or any(v is None or v.shape is None for v in body.node.inputs):
        return None
    equation = equation_of(body.node)
    (a, b), result, sizes = equation.operands, equation.result, equation.sizes
    shapes = [[sizes[c] for c in term] for term in (a, b)]
    spread = any(list(v.shape.numpy()) != s for v, s in zip(body.node.inputs, shapes, strict=True) if v and v.shape)
    summed = [c for c in a if c in b and c not in result]
    if spread or not summed or any(len(set(t)) < len(t) for t in (a, b)) or {*a, *b} - {*result, *summed}:
        return None
    batch = [c for c in result if c in a and c in b]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]

    def size(letters: list[str]) -> int:
        return int(np.prod([sizes[c] for c in letters]))

    def matrix(number: int, term: str, order: list[str], last: tuple[int, int]) -> ir.Value:
        turned = body.op("Transpose", body.given(number), perm=[term.index(c) for c in order])
        return body.op("Reshape", turned, body.constant(np.asarray([*(sizes[c] for c in batch), *last], np.int64)))

    first = matrix(0, a, [*batch, *rows, *summed], (size(rows), size(summed)))
    second = matrix(1, b, [*batch, *summed, *columns], (size(summed), size(columns)))
    order = [*batch, *rows, *columns]
    whole = body.constant(np.asarray([sizes[c] for c in order], np.int64))
    return body.op(
        "Transpose", body.op("Reshape", body.op("MatMul", first, second), whole), perm=[order.index(c) for c in result]
    )
