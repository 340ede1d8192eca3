"""What depends on one position alone is known for every position it can have: its table, and proofs by exhaustion."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch

from ....compiler.errors import TamagoError
from ....compiler.facts import Array
from ....compiler.fold import remove_unused
from ....compiler.torch_program import torch_program
from ....compiler.torch_tensors import to_numpy

MOST_POSITIONS = 1 << 16


def is_position(value: ir.Value) -> bool:
    """Whether a value is an input of the graph that holds one index."""
    shape = value.shape
    return (
        value.is_graph_input()
        and value.dtype == ir.DataType.INT64
        and shape is not None
        and list(shape.numpy() if shape.is_static() else ()) == [1]
    )


def by_position(model: ir.Model, value: ir.Value, position: ir.Value, count: int) -> Array | None:
    """The value at each of the first `count` positions, stacked; None where it depends on anything else."""
    if count > MOST_POSITIONS:
        return None
    part = model.clone()
    twins = {v.name: v for n in part.graph for v in n.outputs}
    wanted = twins.get(value.name)
    if wanted is None:
        return None
    part.graph.outputs.clear()
    part.graph.outputs.append(wanted)
    remove_unused(part.graph)
    used = {v for n in part.graph.all_nodes() for v in n.inputs if v is not None and v.is_graph_input()}
    if {v.name for v in used} != {position.name}:
        return None
    for other in [v for v in part.graph.inputs if v.name != position.name]:
        part.graph.inputs.remove(other)
    try:
        program = torch_program(part)
        with torch.no_grad():
            found = [to_numpy(program(torch.tensor([i]))[0]) for i in range(count)]
    except (TamagoError, RuntimeError, ValueError, TypeError, IndexError):
        return None
    return np.stack(found)
