"""Where a program reads its weights: matrix products, convolutions, embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..facts import Array
from ..ir import attribute_values, bodies, constant_tensor, graphs, op_name
from ..scratch import put_away

if TYPE_CHECKING:
    from .method import Kind

SMALLEST = 256  # elements: an approximation of less buys nothing that could be measured
A_THOUSANDTH = 1000  # of the file: what a weight by itself must be worth looking at
SMALLEST_WEIGHT = 1024  # the same of a weight that only the file is smaller for
FLOAT = ir.DataType.FLOAT


@dataclass(frozen=True, eq=False)
class Place:
    """A node that reads a constant weight, with the Add of its bias if it has one.

    Args:
        kind: "linear" (y = x·W + b over the last axis), "convolution", "embedding" (rows of a table); "weight": the
            initializer itself, read by operators that are no places.
        nodes: what a form replaces, in order; the last one's output is the place's. None for a weight.
        x: the input: activations, indices for an embedding, the weight itself.
        weight_value: the initializer.
        transposed: the weight is stored [out, in].
        scale: a factor on the product.
        bias_value: added to the product, one element for each output; None: nothing is.
        bias_scale: a factor on the bias.
        activation: what a convolution ends in: ("Relu",) or ("Clip", low, high).
        opset: of the model: a form that needs a newer one does not run here.
        wide: products of 8-bit codes are known to be added in 32 bits; else codes are such that 16 are enough.
    """

    kind: Kind
    nodes: tuple[ir.Node, ...]
    x: ir.Value
    weight_value: ir.Value
    transposed: bool = False
    scale: float = 1.0
    bias_value: ir.Value | None = None
    bias_scale: float = 1.0
    activation: tuple[Any, ...] | None = None
    opset: int = 23
    wide: bool = False

    @property
    def name(self) -> str:
        """The first node's name, or the weight's."""
        return (self.nodes[0].name or self.nodes[0].op_type) if self.nodes else self.weight_value.name or ""

    @property
    def y(self) -> ir.Value:
        """What the place computes."""
        return self.nodes[-1].outputs[0] if self.nodes else self.weight_value

    @cached_property
    def weight(self) -> Array:
        """[in, out] of a linear place, [out, in/group, …] of a convolution, [rows, width] of an embedding; as it is."""
        array = _array(self.weight_value)
        array = np.ascontiguousarray(array.T) if self.transposed else array
        return put_away(array if self.scale == 1.0 else np.multiply(array, np.float32(self.scale), dtype=np.float32))

    @cached_property
    def bias(self) -> Array | None:
        """One element for each output, None where nothing is added."""
        if self.bias_value is None:
            return None
        array = _array(self.bias_value).reshape(-1)
        return array if self.bias_scale == 1.0 else np.multiply(array, np.float32(self.bias_scale), dtype=np.float32)

    @property
    def attributes(self) -> dict[str, Any]:
        """Of the first node."""
        return attribute_values(self.nodes[0]) if self.nodes else {}

    @property
    def readers(self) -> int:
        """How many uses of the weight the place stands for."""
        return 1 if self.nodes else len(self.weight_value.uses())

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight as `weight` has it."""
        found = tuple(int(d) for d in _tensor(self.weight_value).shape.numpy())
        return found[::-1] if self.transposed else found


def find_places(graph: ir.Graph, *, wide: bool = False) -> list[Place]:
    """Every place of the graph and of the branches in it, in order; a body that is repeated has none.

    Args:
        graph: a program's.
        wide: as for `Place`.
    """
    return list(_places(graph, graph.opset_imports.get("", 23), wide))


def _places(graph: ir.Graph, opset: int, wide: bool) -> Iterator[Place]:
    for node in graph:
        yield from (replace(place, opset=opset, wide=wide) for place in _place(node))
        for branch in bodies(node) if node.op_type == "If" else ():
            yield from _places(branch, opset, wide)


def find_weights(graph: ir.Graph, places: Sequence[Place]) -> list[Place]:
    """The weights that none of these places reads, large enough to be worth a smaller file."""
    taken = {place.weight_value for place in places}
    every = [t.nbytes for g in graphs(graph) for v in g.initializers.values() if (t := v.const_value) is not None]
    least = max(SMALLEST_WEIGHT, sum(every) // 4 // A_THOUSANDTH)
    version = graph.opset_imports.get("", 23)
    return [
        Place("weight", (), value, value, opset=version)
        for inner in graphs(graph)
        for value in inner.initializers.values()
        if value not in taken and value.uses() and _is_weight(value, None) and not value.is_graph_output()
        if _tensor(value).size >= least
    ]


def _place(node: ir.Node) -> Iterator[Place]:
    match op_name(node):
        case "MatMul" | "com.microsoft::FusedMatMul":
            yield from _matmul(node)
        case "Gemm":
            yield from _gemm(node)
        case "Conv":
            yield from _conv(node)
        case "Gather":
            yield from _gather(node)
        case _:
            return


def _matmul(node: ir.Node) -> Iterator[Place]:
    x, weight = node.inputs[0], node.inputs[1]
    attributes = attribute_values(node)
    if x is None or not _is_weight(weight, 2) or constant_tensor(x) is not None or not _has_rows(x):
        return
    if any(attributes.get(k) for k in ("transA", "transBatchA", "transBatchB")):
        return
    assert weight is not None
    scale = float(attributes.get("alpha", 1.0))
    bias, add = _bias_after(node, int(weight.shape[0 if attributes.get("transB") else 1]))  # type: ignore[index,arg-type]
    nodes = (node,) if add is None else (node, add)
    yield Place("linear", nodes, x, weight, bool(attributes.get("transB")), scale, bias)


def _gemm(node: ir.Node) -> Iterator[Place]:
    x, weight = node.inputs[0], node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    attributes = attribute_values(node)
    if x is None or not _is_weight(weight, 2) or constant_tensor(x) is not None or attributes.get("transA"):
        return
    assert weight is not None
    assert weight.shape is not None
    transposed = bool(attributes.get("transB"))
    width = weight.shape[0 if transposed else 1]
    if bias is not None and (constant_tensor(bias) is None or _tensor(bias).size != width):
        return
    scales = float(attributes.get("alpha", 1.0)), float(attributes.get("beta", 1.0))
    yield Place("linear", (node,), x, weight, transposed, scales[0], bias, scales[1])


def _conv(node: ir.Node) -> Iterator[Place]:
    x, weight = node.inputs[0], node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if x is None or weight is None or not _is_weight(weight, None) or constant_tensor(x) is not None:
        return
    if bias is not None and constant_tensor(bias) is None:
        return
    activation, last = _activation_after(node)
    nodes = (node,) if last is None else (node, last)
    yield Place("convolution", nodes, x, weight, bias_value=bias, activation=activation)


def _gather(node: ir.Node) -> Iterator[Place]:
    table, indices = node.inputs[0], node.inputs[1]
    if indices is None or not _is_weight(table, 2) or attribute_values(node).get("axis", 0) != 0:
        return
    assert table is not None
    yield Place("embedding", (node,), indices, table)


def _is_weight(value: ir.Value | None, rank: int | None) -> bool:
    if value is None:
        return False
    tensor = constant_tensor(value)
    if tensor is None or tensor.dtype != FLOAT or tensor.size < SMALLEST:
        return False
    return rank is None or len(tensor.shape) == rank


def _has_rows(x: ir.Value) -> bool:
    """Whether x is known to have at least two dimensions: a vector's product has none to quantise apart."""
    return x.shape is not None and len(x.shape) >= 2


def _bias_after(node: ir.Node, width: int) -> tuple[ir.Value | None, ir.Node | None]:
    """The constant added to the product, and the Add, where nobody else reads the product."""
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output() or uses[0].node.op_type != "Add":
        return None, None
    add = uses[0].node
    other = add.inputs[1 - uses[0].idx]
    if other is None or constant_tensor(other) is None or add.graph is not node.graph:
        return None, None
    tensor = _tensor(other)
    fits = tensor.dtype == FLOAT and tuple(tensor.shape.numpy()) == (width,)
    return (other, add) if fits else (None, None)


def _activation_after(node: ir.Node) -> tuple[tuple[Any, ...] | None, ir.Node | None]:
    """The Relu, or the Clip between constants, that alone reads the convolution."""
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output() or uses[0].node.graph is not node.graph:
        return None, None
    after = uses[0].node
    if op_name(after) == "Relu":
        return ("Relu",), after
    if op_name(after) != "Clip" or len(after.inputs) != 3:
        return None, None
    bounds = [None if v is None else constant_tensor(v) for v in after.inputs[1:]]
    if any(b is None or b.size != 1 for b in bounds):
        return None, None
    return ("Clip", *(float(b.numpy().reshape(-1)[0]) for b in bounds if b is not None)), after


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    tensor = value.const_value
    assert tensor is not None
    return tensor


def _array(value: ir.Value) -> Array:
    return _tensor(value).numpy()
