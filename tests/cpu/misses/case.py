"""What a miss is made of: a module, the best form a person writes for it by hand, and what the compiled graph shows.

`tests/cpu/test_misses.py` compiles each module as torch exports it at opset 18 and compares;
`tests/benchmarks/misses.py` times both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import numpy_helper, parser
from torch import nn

from tamago.compiler.facts import Array
from tamago.compiler.trace import Traced, trace

OPSET = 18  # torch's default for the dynamo exporter


@dataclass(frozen=True)
class Miss:
    """One optimisation that no other tool is known to make.

    Args:
        name: of the miss.
        module: makes the module with seeded weights.
        args: its inputs.
        hand: the hand-fused model with the module's weights; inputs in the module's order.
        present: how often each operator must stand in the compiled graph.
        gone: operators that must not.
    """

    name: str
    module: Callable[[], nn.Module]
    args: Callable[[], tuple[torch.Tensor, ...]]
    hand: Callable[[nn.Module], onnx.ModelProto]
    present: Mapping[str, int] = field(default_factory=dict[str, int])
    gone: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name

    def seeded(self) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        """The module in evaluation mode and its inputs, the same in every run."""
        torch.manual_seed(0)
        return self.module().eval(), self.args()

    def traced(self) -> Traced:
        """The module as torch's exporter writes it."""
        return trace(*self.seeded(), opset=OPSET)

    def feeds(self, model: ir.Model) -> dict[str, Array]:
        """The inputs under the names they have in a model."""
        _, args = self.seeded()
        return {v.name or "": a.numpy() for v, a in zip(model.graph.inputs, args, strict=True)}

    def by_hand(self) -> ir.Model:
        """The hand-fused model."""
        module, _ = self.seeded()
        return ir.from_proto(self.hand(module))


def written(text: str, **weights: torch.Tensor | Array) -> onnx.ModelProto:
    """A model from onnx's text form, with weights by name as initializers.

    Args:
        text: the graph, such as `g (float[2] x) => (float[2] y) { y = Relu(x) }`.
        weights: initializers by name.
    """
    header = '<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1]>\n'
    model = parser.parse_model(header + text)
    for name, weight in weights.items():
        array = weight.detach().numpy() if isinstance(weight, torch.Tensor) else weight
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return model


def histogram(model: ir.Model) -> Counter[str]:
    """How often each operator stands in a model."""
    return Counter(f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in model.graph)
