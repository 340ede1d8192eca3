"""Weights that lie in half precision: half the download and half the bytes a kernel reads, sums as before.

On devices that have it single precision may be narrowed; where they do not, weights that the model itself holds in half
lie two to a word.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

KEY = "tamago.narrow"
PAIRS = "tamago.pairs"
FEWEST = 256  # elements: what is smaller (biases, scales) costs nothing
LARGEST = 65504.0  # that half precision has
CHANGE = 2.0**-11
COPIES = frozenset(["ScatterElements", "ScatterND", "TensorScatter"])  # their results start as their first inputs


def starts_a_copy(value: ir.Value) -> bool:
    """Whether a result begins as the bytes of a value: what is copied must lie as the result does."""
    return any(use.idx == 0 and use.node.op_type in COPIES for use in value.uses())


def narrow(graph: ir.Graph) -> None:
    """Mark the weights that may lie in half precision: they change by 2⁻¹¹ of their largest at most."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < FEWEST:
            continue
        apart = value.is_graph_input() or value.is_graph_output() or starts_a_copy(value)
        if not apart and rounds_well(np.asarray(tensor.numpy())):
            value.meta[KEY] = True


def pair_halves(graph: ir.Graph) -> None:
    """Mark the weights that lie in half precision until they are cast: two to a word, every device can read them so."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT16 or tensor.size < FEWEST:
            continue
        if all(use.node.op_type == "Cast" for use in value.uses()):
            value.meta[PAIRS] = True


def in_pairs(value: ir.Value) -> bool:
    """Whether a value was marked so."""
    return bool(value.meta.get(PAIRS))


def is_narrow(value: ir.Value) -> bool:
    """Whether a value was marked."""
    return bool(value.meta.get(KEY))


def rounds_well(array: np.ndarray) -> bool:
    """Whether nothing overflows, and what is small against the largest is all that vanishes."""
    largest = float(np.max(np.abs(array), initial=0.0))
    if not largest <= LARGEST:
        return False
    return bool(np.max(np.abs(array - array.astype(np.float16).astype(np.float32)), initial=0.0) <= CHANGE * largest)


def with_narrow_weights(model: ir.Model) -> ir.Model:
    """The same rounding as a model of single precision: what any runtime can say the error of."""
    result = model.clone()
    narrow(result.graph)
    for value in result.graph.initializers.values():
        if is_narrow(value) and value.const_value is not None:
            array = np.asarray(value.const_value.numpy()).astype(np.float16).astype(np.float32)
            value.const_value = ir.tensor(array, name=value.name)
    return result
