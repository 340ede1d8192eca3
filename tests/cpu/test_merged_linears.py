"""Products of one row with several matrices become one, and what they are read as stays what it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tamago.backends.onnxruntime.run import Program as Plain
from tamago.backends.triton.regions import merged_linears
from tamago.compiler.inference import infer
from tamago.compiler.ir import new_constant
from tamago.compiler.operators import DOMAIN, attach
from tamago.compiler.opset import TARGET


def two_products(*, same_row: bool = True, computed: bool = False, epsilon: float = 1e-5) -> ir.Model:
    """NormLinear twice, both results outputs of the graph."""
    kind = ir.TensorType(ir.DataType.FLOAT)
    x, z = (ir.Value(name=n, shape=ir.Shape([1, 8]), type=kind) for n in "xz")
    weights = [new_constant(f"w{i}", np.random.default_rng(i).random((3 + i, 8), np.float32)) for i in (0, 1)]
    scale = new_constant("s", np.ones(8, np.float32))
    free = [ir.Value(name="w1", shape=ir.Shape([4, 8]), type=kind)] if computed else []
    operands = [(x, weights[0], 1e-5), (x if same_row else z, (free or weights[1:])[0], epsilon)]
    nodes = [ir.Node(DOMAIN, "NormLinear", [row, scale, w], [ir.AttrFloat32("epsilon", e)]) for row, w, e in operands]
    for number, node in enumerate(nodes):
        node.name, node.outputs[0].name, node.outputs[0].type = f"n{number}", f"y{number}", kind
    given = [*weights[: 2 - len(free)], scale]
    outputs = [n.outputs[0] for n in nodes]
    opsets = {"": TARGET, DOMAIN: 1}
    graph = ir.Graph([x, z, *free], outputs, nodes=nodes, initializers=given, opset_imports=opsets, name="two")
    model = ir.Model(graph, ir_version=10)
    infer(model)
    return model


def test_merged_products_that_are_outputs_keep_their_names() -> None:
    model = two_products()

    found = merged_linears(model)

    assert found is not None
    assert [v.name for v in found.graph.outputs] == ["y0", "y1"]
    feeds = {"x": np.random.default_rng(5).random((1, 8), np.float32), "z": np.zeros((1, 8), np.float32)}
    attach(model)
    attach(found)
    for a, b in zip(Plain(model, 1)(feeds), Plain(found, 1)(feeds), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6)


@pytest.mark.parametrize("other", [{"same_row": False}, {"computed": True}, {"epsilon": 1e-6}], ids=str)
def test_products_that_differ_in_more_than_their_weights_stay_two(other: dict[str, Any]) -> None:
    assert merged_linears(two_products(**other)) is None
