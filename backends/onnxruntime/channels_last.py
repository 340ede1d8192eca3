"""Integer convolutions in the layout that their kernel works in, and everything between them in the same.

    Q(f(D(w)∗D(x) + D(b))) = Tᵀ(QLinearConv_nhwc(T(x), w, b)),  T: NCHW → NHWC,  f what Q's range implies
    Q(f(D(a) + D(b)))      = Tᵀ(QLinearAdd(T(a), T(b)))
    Slice(x), Pad(x)       = Tᵀ(Slice(T(x))), Tᵀ(Pad(T(x))),    T(Tᵀ(x)) = x

Left to itself the runtime lays out each convolution alone and transposes around every sum between them. Codes differ by
a step where a value lies between two: this is done before the program is proved, and where it is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from ...compiler.decode import new_attribute
from ...compiler.facts import Array
from ...compiler.fold import remove_unused
from ...compiler.inference import infer
from ...compiler.ir import (
    attribute_values,
    constant_array,
    constant_tensor,
    import_domains,
    metadata,
    new_constant,
    op_name,
    unique_names,
)
from ...compiler.optimise import Names

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
AXIS = (0, 3, 1, 2)  # where each axis of NCHW lies in NHWC
STEPS = 1e-3  # of a step: what may be neglected


def channels_last(model: ir.Model) -> ir.Model | None:
    """The model with its integer convolutions in NHWC; None where it has none in two dimensions."""
    result = model.clone()
    infer(result)
    graph = result.graph
    layout = _Layout(graph, Names(unique_names(graph)))
    for node in list(graph):
        layout.visit(node)
    if not layout.convolutions:
        return None
    layout.close()
    remove_unused(graph)
    import_domains(result)
    return result


@dataclass
class _Layout:
    """What has a twin in NHWC: values that are computed there, and values that are brought there."""

    graph: ir.Graph
    names: Names
    convolutions: int = 0
    _computed: dict[ir.Value, ir.Value] = field(default_factory=dict[ir.Value, ir.Value])
    _brought: dict[ir.Value, ir.Value] = field(default_factory=dict[ir.Value, ir.Value])

    def visit(self, node: ir.Node) -> None:
        """Write the node's twin, if it can have one."""
        if node.outputs[0].is_graph_output():
            return
        match op_name(node):
            case "QuantizeLinear":
                self._quantised(node)
            case "Slice":
                self._slice(node)
            case "Pad":
                self._pad(node)
            case _:
                pass

    def close(self) -> None:
        """Transpose back what others read."""
        for value, twin in self._computed.items():
            producer = twin.producer()
            assert producer is not None
            back = self._node("", "Transpose", [twin], {"perm": TO_FIRST}, value)
            self.graph.insert_after(producer, back)
            value.replace_all_uses_with(back.outputs[0])

    def _quantised(self, node: ir.Node) -> None:
        scale, zero = _number(node, 1), _number(node, 2)
        if scale is None or zero is None or zero.dtype != np.uint8:
            return
        source = _only_read_here(node.inputs[0])
        if source is not None and op_name(source) in ("Relu", "Clip"):
            if not _implied(source, float(scale), int(zero)):
                return
            source = _only_read_here(source.inputs[0])
        if source is not None and op_name(source) == "Conv":
            self._convolution(source, node)
        if source is not None and op_name(source) == "Add":
            self._sum(source, node)

    def _convolution(self, conv: ir.Node, end: ir.Node) -> None:
        decoded = [_decoded(v) for v in conv.inputs]
        if any(d is None for d in decoded) or len(decoded) not in (2, 3):
            return
        x, weight, *bias = (d for d in decoded if d is not None)
        codes = x.inputs[0]
        tensor = None if weight.inputs[0] is None else constant_tensor(weight.inputs[0])
        if codes is None or codes.dtype != ir.DataType.UINT8 or tensor is None or len(tensor.shape) != 4:
            return
        if bias and not _is_product(bias[0], x, weight):
            return
        inputs = [self._last(codes, end), *x.inputs[1:3], *weight.inputs[:3], *end.inputs[1:3]]
        inputs += [b.inputs[0] for b in bias]
        self._twin("com.microsoft", "QLinearConv", inputs, attribute_values(conv) | {"channels_last": 1}, end)
        self.convolutions += 1

    def _sum(self, add: ir.Node, end: ir.Node) -> None:
        parts = [d for d in map(_decoded, add.inputs) if d is not None and d.inputs[0] is not None]
        codes = [p.inputs[0] for p in parts if p.inputs[0] is not None and p.inputs[0].dtype == ir.DataType.UINT8]
        if len(codes) != 2 or not any(c in self._computed for c in codes):
            return
        shapes = [v.shape for v in (*add.inputs, add.outputs[0]) if v is not None]
        if any(s is None or s != shapes[0] or len(s) != 4 for s in shapes):  # what is spread out may have other axes
            return
        inputs: list[ir.Value | None] = []
        for part, code in zip(parts, codes, strict=True):
            inputs += [self._last(code, end), *part.inputs[1:3]]
        self._twin("com.microsoft", "QLinearAdd", [*inputs, *end.inputs[1:3]], {}, end)

    def _slice(self, node: ir.Node) -> None:
        axes = constant_array(node.inputs[3], 4) if len(node.inputs) > 3 and node.inputs[3] is not None else None
        if node.inputs[0] not in self._computed or axes is None:
            return
        moved = self._constant(np.asarray([AXIS[int(a) % 4] for a in axes], np.int64))
        self._twin("", "Slice", [self._computed[node.inputs[0]], *node.inputs[1:3], moved, *node.inputs[4:]], {}, node)

    def _pad(self, node: ir.Node) -> None:
        pads = constant_array(node.inputs[1], 8) if node.inputs[1] is not None else None
        if node.inputs[0] not in self._computed or len(node.inputs) > 3 or pads is None or pads.size != 8:
            return
        moved = self._constant(pads.reshape(2, 4)[:, TO_LAST].reshape(-1))
        inputs = [self._computed[node.inputs[0]], moved, *node.inputs[2:]]
        self._twin("", "Pad", inputs, attribute_values(node), node)

    def _last(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """The value in NHWC."""
        if value in self._computed:
            return self._computed[value]
        if value not in self._brought:
            node = self._node("", "Transpose", [value], {"perm": TO_LAST}, value)
            self.graph.insert_before(before, node)
            self._brought[value] = node.outputs[0]
        return self._brought[value]

    def _twin(
        self, domain: str, op_type: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any], end: ir.Node
    ) -> None:
        node = self._node(domain, op_type, inputs, attributes, end.outputs[0])
        self.graph.insert_before(end, node)
        self._computed[end.outputs[0]] = node.outputs[0]

    def _node(
        self, domain: str, op_type: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any], of: ir.Value
    ) -> ir.Node:
        node = ir.Node(
            domain,
            op_type,
            list(inputs),
            [new_attribute(k, list(v) if isinstance(v, tuple) else v) for k, v in attributes.items()],
            num_outputs=1,
            name=self.names("tamago/channels_last"),
            metadata_props=dict(metadata("channels_last", [of.name or ""])),
        )
        node.outputs[0].name = self.names("tamago/last")
        node.outputs[0].type = of.type
        return node

    def _constant(self, array: Array) -> ir.Value:
        value = new_constant(self.names("tamago/axes"), array)
        self.graph.register_initializer(value)
        return value


def _number(node: ir.Node, position: int) -> Any:
    value = node.inputs[position] if len(node.inputs) > position else None
    array = None if value is None else constant_array(value, 1)
    return None if array is None or array.size != 1 else array.reshape(-1)[0]


def _only_read_here(value: ir.Value | None) -> ir.Node | None:
    """What computes a value that has one reader."""
    if value is None or value.is_graph_output() or len(value.uses()) != 1:
        return None
    return value.producer()


def _decoded(value: ir.Value | None) -> ir.Node | None:
    """The DequantizeLinear that a value comes from, with its zero point."""
    node = None if value is None else value.producer()
    return node if node is not None and op_name(node) == "DequantizeLinear" and len(node.inputs) == 3 else None


def _is_product(bias: ir.Node, x: ir.Node, weight: ir.Node) -> bool:
    """Whether the bias is in the steps of the products: the kernel takes its codes for those."""
    tensors = [None if n.inputs[1] is None else constant_tensor(n.inputs[1]) for n in (bias, x, weight)]
    if any(t is None for t in tensors):
        return False
    found, steps, scales = (t.numpy().astype(np.float64) for t in tensors if t is not None)
    return bool(np.allclose(found, steps * scales, rtol=STEPS))


def _implied(node: ir.Node, scale: float, zero: int) -> bool:
    """Whether the codes' own range cuts off what a Relu or Clip does."""
    low, high = 0.0, float("inf")
    if node.op_type == "Clip":
        bounds = [None if v is None else constant_array(v, 1) for v in node.inputs[1:3]]
        if len(bounds) != 2 or any(b is None or b.size != 1 for b in bounds):
            return False
        low, high = (float(b.reshape(-1)[0]) for b in bounds if b is not None)
    slack = STEPS * scale
    return -zero * scale >= low - slack and (255 - zero) * scale <= high + slack
