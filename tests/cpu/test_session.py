"""How a model gets into a session: large weights are handed over, not written, and are the program's own."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import tamago
from tamago.backends.onnxruntime import run
from tamago.backends.onnxruntime.run import Program
from tamago.compiler.ir import new_constant


def model(*, read_twice: bool = False) -> ir.Model:
    """A product with a weight, and a weight beside it that nothing reads."""
    generator = np.random.default_rng(0)
    x = ir.Value(name="x", shape=ir.Shape([2, 128]), type=ir.TensorType(ir.DataType.FLOAT))
    weight = new_constant("w", generator.standard_normal((128, 128)).astype(np.float32))
    unread = new_constant("unread", generator.standard_normal((128, 128)).astype(np.float32))
    node = product = ir.Node("", "MatMul", [x, weight], name="product")
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    constants = [weight, unread]
    if read_twice:
        again = ir.Value(name="v", shape=weight.shape, type=weight.type, const_value=weight.const_value)
        constants.append(again)
        node = ir.Node("", "MatMul", [node.outputs[0], again], name="again")
        node.outputs[0].name, node.outputs[0].type = "z", ir.TensorType(ir.DataType.FLOAT)
    nodes = [product, node] if read_twice else [product]
    graph = ir.Graph([x], [nodes[-1].outputs[0]], nodes=nodes, initializers=constants, opset_imports={"": 23}, name="g")
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize("read_twice", [False, True])
@pytest.mark.parametrize("largest", [1, 1 << 30])
def test_weights_arrive_whichever_way(read_twice: bool, largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LARGEST_MESSAGE", largest)
    given = model(read_twice=read_twice)
    x = np.ones((2, 128), np.float32)
    weight = given.graph.initializers["w"].const_value
    assert weight is not None

    (found,) = Program(given, 1)({"x": x})

    wanted = x @ weight.numpy() @ weight.numpy() if read_twice else x @ weight.numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


class Everything(nn.Module):
    """Weights of every kind that a session may or may not lay out anew."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.linear = nn.Embedding(500, 64), nn.Linear(64, 256)
        self.conv, self.depthwise = nn.Conv1d(8, 32, 3, padding=1), nn.Conv1d(32, 32, 5, groups=32)
        self.norm, self.stack = nn.LayerNorm(256), nn.Parameter(torch.randn(8, 64, 64))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.norm(torch.relu(self.linear(self.table(ids) @ self.stack)))
        return self.depthwise(self.conv(x))


def test_training_on_does_not_reach_the_compiled_program() -> None:
    torch.manual_seed(0)
    module, ids = Everything().eval(), torch.randint(0, 500, (8, 8))
    compiled = tamago.compile(module, (ids,), threads=1, measure=False, store=":memory:")
    before = compiled(ids)

    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)

    assert torch.equal(compiled(ids), before)
