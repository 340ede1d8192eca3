"""Weights of single precision that lie in half: half the download and half the bytes a kernel reads, sums as before."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

KEY = "tamago.narrow"
FEWEST = 256  # elements: what is smaller (biases, scales) costs nothing
LARGEST = 65504.0  # that half precision has


def narrow(graph: ir.Graph) -> None:
    """Mark the weights that may lie in half precision: their relative error is 2⁻¹¹ at most."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < FEWEST:
            continue
        if not value.is_graph_input() and not value.is_graph_output() and rounds_well(np.asarray(tensor.numpy())):
            value.meta[KEY] = True


def is_narrow(value: ir.Value) -> bool:
    """Whether a value was marked."""
    return bool(value.meta.get(KEY))


def rounds_well(array: np.ndarray) -> bool:
    """Whether nothing overflows."""
    return bool(np.all(np.abs(array) <= LARGEST))


def with_narrow_weights(model: ir.Model) -> ir.Model:
    """The same rounding as a model of single precision: what any runtime can say the error of."""
    result = model.clone()
    narrow(result.graph)
    for value in result.graph.initializers.values():
        if is_narrow(value) and value.const_value is not None:
            array = np.asarray(value.const_value.numpy()).astype(np.float16).astype(np.float32)
            value.const_value = ir.tensor(array, name=value.name)
    return result
