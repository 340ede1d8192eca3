"""One ONNX node with its inputs, run by `torch_program` and by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from onnx import helper, numpy_helper

from tamago.compiler.torch_operators.dtypes import to_numpy, to_torch
from tamago.compiler.torch_program import torch_program

Array = np.ndarray[Any, Any]


def floats(*shape: int, seed: int = 0) -> Array:
    """Normal random numbers; the same for the same shape and seed."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


@dataclass
class Node:
    """One node.

    Attributes:
        op: operator.
        inputs: by position; `None` is omitted.
        attributes: of the node.
        outputs: how many the node has.
        domain: of the operator.
        opset: version of `ai.onnx`.
        fixed: which inputs are initializers.
        compared: how many outputs are compared (the end of a key cache is not defined).
        atol: absolute tolerance.
        name: distinguishes cases of one operator.
    """

    op: str
    inputs: Sequence[Array | None]
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    outputs: int = 1
    domain: str = ""
    opset: int = 17
    fixed: Iterable[int] = ()
    compared: int | None = None
    atol: float = 1e-5
    name: str = ""

    def named(self) -> dict[str, Array]:
        """The inputs that are there."""
        return {f"x{index}": x for index, x in enumerate(self.inputs) if x is not None}

    def model(self) -> onnx.ModelProto:
        """A model of this node alone."""
        last = max(index for index, x in enumerate(self.inputs) if x is not None)
        names = ["" if x is None else f"x{index}" for index, x in enumerate(self.inputs[: last + 1])]
        outputs = [f"y{index}" for index in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, "node", domain=self.domain, **self.attributes)
        frozen = {f"x{index}" for index in self.fixed}
        values = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for name, x in self.named().items()
            if name not in frozen
        ]
        weights = [numpy_helper.from_array(x, name) for name, x in self.named().items() if name in frozen]
        results = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph([node], "case", values, results, weights)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def check(self) -> None:
        """Compare the two runs."""
        model = self.model()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feed = {value.name: self.named()[value.name] for value in model.graph.input}
        expected = session.run(None, feed)

        program = torch_program(ir.from_proto(model))
        with torch.no_grad():
            actual = [to_numpy(y) for y in program(*[to_torch(x) for x in feed.values()])]

        for y, reference in list(zip(actual, expected, strict=True))[: self.compared]:
            assert isinstance(reference, np.ndarray)
            assert (y.dtype, y.shape) == (reference.dtype, reference.shape)
            np.testing.assert_allclose(y.astype(np.float64), reference.astype(np.float64), rtol=1e-4, atol=self.atol)
