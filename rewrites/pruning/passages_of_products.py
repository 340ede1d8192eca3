"""How channels pass products: made by a weight's columns, summed over by its rows, or kept apart by both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import onnx_ir as ir

from ...compiler.ir import attribute_values
from ...compiler.rule import Skip
from .groups import Count, Slice
from .layout import Layout
from .operands import Part, is_constant, operand, present, rank, shape, weight


def _conv(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """y[:, c] = Σ W[c, d] ∗ x[:, d] + b[c]; in as many groups as channels y[:, c] = W[c] ∗ x[:, c] + b[c]."""
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None
    sizes, group = weight(node, 1), int(attribute_values(node).get("group", 1))
    made = value is not source
    if made and value is not output and not (present(node, 3) and value is node.inputs[3]):
        raise Skip("the weight of a convolution is no constant")
    if layout.axis != 1:
        raise Skip("channels lie along the positions of a convolution")
    if group == 1 and not made:
        yield Slice(node, 1, layout, "sink")
        return
    if group > 1:
        times = _multiplier(sizes[0], group, shape(source)[1])
        inner = _depthwise(layout, times) if made else layout
        layout = layout if made else replace(layout, inner=layout.inner * times)
        yield source, inner
        yield Count(node, "group", inner.each)
    yield Slice(node, 1, layout.at(0), "source" if group == 1 else "each")
    yield output, layout
    if present(node, 2):
        yield operand(node, 2, layout.at(0))
    if present(node, 3):  # FusedConv adds it
        yield operand(node, 3, layout)


def _multiplier(outputs: int, group: int, channels: object) -> int:
    """Outputs for each input of a depthwise convolution.

    Raises:
        Skip: it is not depthwise.
    """
    if channels != group or outputs % group:
        raise Skip("the convolution is in groups of several channels")
    return outputs // group


def _depthwise(layout: Layout, times: int) -> Layout:
    if layout.inner % times:
        raise Skip("a depthwise convolution makes several channels of one")
    return replace(layout, inner=layout.inner // times)


def _conv_transpose(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """y[:, c] = Σ W[d, c] ∗ᵀ x[:, d] + b[c]."""
    weight(node, 1)
    if int(attribute_values(node).get("group", 1)) != 1 or layout.axis != 1:
        raise Skip("the transposed convolution is in groups, or channels lie along its positions")
    if value is node.inputs[0]:
        yield Slice(node, 1, layout.at(0), "sink")
        return
    yield Slice(node, 1, layout.at(1), "source")
    if present(node, 2):
        yield operand(node, 2, layout.at(0))


def _gemm(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """y[:, c] = Σ x[:, d]·W[d, c] + b[c]."""
    attributes, output = attribute_values(node), node.outputs[0]
    weight(node, 1)
    if attributes.get("transA") or layout.axis != 1:
        raise Skip("channels lie along the rows of a Gemm")
    rows, columns = (1, 0) if attributes.get("transB") else (0, 1)
    if value is node.inputs[0]:
        yield Slice(node, 1, layout.at(rows), "sink")
        return
    yield Slice(node, 1, layout.at(columns), "source")
    if not present(node, 2):
        return
    bias = node.inputs[2]
    assert bias is not None
    if value is bias:
        yield output, layout
        return
    sizes = shape(bias)
    if sizes and sizes[-1] != 1:
        yield operand(node, 2, layout.at(len(sizes) - 1))


def _matmul(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """y[:, c] = Σ x[:, d]·W[d, c]; two activations keep what stands before their matrices apart."""
    attributes = attribute_values(node)
    if any(attributes.get(name) for name in ("transA", "transBatchA", "transBatchB")):
        raise Skip("the left operand of a FusedMatMul is transposed")
    left, right, output = node.inputs[0], node.inputs[1], node.outputs[0]
    assert left is not None
    assert right is not None
    turned = bool(attributes.get("transB"))
    if is_constant(right) and rank(right) == 2 and value in (left, output):
        last = layout.axis == rank(value) - 1
        if not last:
            yield (output if value is left else left), layout
            return
        rows, columns = (1, 0) if turned else (0, 1)
        yield Slice(node, 1, layout.at(rows), "sink") if value is left else Slice(node, 1, layout.at(columns), "source")
        return
    yield from _of_activations(node, value, layout, turned)


def _of_activations(node: ir.Node, value: ir.Value, layout: Layout, turned: bool) -> Iterator[Part]:
    left, right, output = node.inputs[0], node.inputs[1], node.outputs[0]
    assert left is not None
    assert right is not None
    size = rank(output)
    if rank(left) != size or rank(right) != size:
        raise Skip("operands of different ranks are multiplied")
    columns, rows = (size - 2, size - 1) if turned else (size - 1, size - 2)
    if layout.axis < size - 2:
        for index, other in enumerate((left, right)):
            if other is not value and shape(other)[layout.axis] != 1:
                yield operand(node, index, layout)
        if value is not output:
            yield output, layout
        return
    if value is output:
        at_row = layout.axis == size - 2
        yield operand(node, 0, layout, "source") if at_row else operand(node, 1, layout.at(columns), "source")
        return
    if value is left:
        yield (output, layout) if layout.axis == size - 2 else operand(node, 1, layout.at(rows), "sink")
    if value is right:
        at_column = layout.axis == columns
        yield (output, layout.at(size - 1)) if at_column else operand(node, 0, layout.at(size - 1), "sink")


def _gather(node: ir.Node, value: ir.Value, layout: Layout) -> Iterator[Part]:
    """y[i, c] = T[i, c]: rows are picked, columns stay."""
    table, indices, output = node.inputs[0], node.inputs[1], node.outputs[0]
    assert table is not None
    assert indices is not None
    axis, width = int(attribute_values(node).get("axis", 0)) % rank(table), rank(indices)
    if value is table:
        if layout.axis == axis:
            raise Skip("channels are picked by a Gather")
        yield output, layout if layout.axis < axis else layout.at(layout.axis + width - 1)
        return
    if value is not output or axis <= layout.axis < axis + width:
        raise Skip("channels are picked by a Gather")
    found = layout if layout.axis < axis else layout.at(layout.axis - width + 1)
    yield operand(node, 0, found, "source")


PASSAGES = {
    "Conv": _conv,
    "com.microsoft::FusedConv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "com.microsoft::FusedMatMul": _matmul,
    "Gather": _gather,
}
