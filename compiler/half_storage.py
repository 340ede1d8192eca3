"""Weights in single precision that half precision holds, as halves in the file: a runtime folds the Cast when it loads.

For programs whose weights were halves before they were made wide to be computed with: the file is as small as it was.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .facts import Array
from .ir import constant_tensor, graphs, new_constant, op_name, unique_names, weights
from .optimise import Names
from .single_precision import HALF, SINGLE, read_in_single

FEWEST = 256  # elements: for less a Cast takes more of a file than it saves
CHANGE = 2.0**-11  # of the largest element, that rounding to half precision may change one by
FUSED = frozenset({"com.microsoft::FusedMatMul", "com.microsoft::FusedConv"})
PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", *FUSED})


def weights_are_halves(model: ir.Model) -> bool:
    """Whether none of the large weights is in single precision: what is made of them is made of halves."""
    found = {tensor.dtype for tensor in weights(model) if tensor.size >= FEWEST}
    return HALF in found and SINGLE not in found


def round_weights_to_half(graph: ir.Graph) -> None:
    """Weights of products as halves, in place: rewriting computes new ones of the model's own, which are halves.

    One that half precision holds badly, since its elements are too large or too different in size, stays.
    """
    for inner in graphs(graph):
        for value in inner.initializers.values():
            tensor = _large(value)
            if tensor is None or tensor.dtype != SINGLE or not _is_weight(value):
                continue
            array = np.asarray(tensor.numpy())
            rounded = _rounded(array)
            largest = float(np.abs(array).max())
            if np.isfinite(rounded).all() and float(np.abs(rounded - array).max()) <= CHANGE * largest:
                value.const_value = new_constant(value.name or "", rounded).const_value


def stored_in_half(model: ir.Model) -> ir.Model:
    """A copy in which every large matrix that half precision holds to the last bit is cast from there."""
    result = model.clone()
    fresh = Names(unique_names(result.graph))
    for graph in graphs(result.graph):
        for value in list(graph.initializers.values()):
            if lies_in_half(value):
                _store(graph, value, fresh)
    return result


def bytes_in_file(value: ir.Value) -> int:
    """Of a constant, as `stored_in_half` leaves it."""
    tensor = value.const_value
    if tensor is None:
        return 0
    return tensor.nbytes // 2 if lies_in_half(value) else tensor.nbytes


def lies_in_half(value: ir.Value) -> bool:
    """Whether `stored_in_half` stores a constant so.

    A vector stays: retraining moves biases. So does what kernels of codes read: some take it from the file only.
    """
    tensor = _large(value)
    if tensor is None or tensor.dtype != SINGLE or len(tensor.shape) < 2 or value.is_graph_output():
        return False
    readers = [node for node, _ in value.uses()]
    if any("Quantize" in n.op_type or (n.domain and op_name(n) not in FUSED) for n in readers):
        return False
    array = np.ascontiguousarray(tensor.numpy())
    return np.array_equal(array.view(np.int32), _rounded(array).view(np.int32))


def _large(value: ir.Value) -> ir.TensorProtocol | None:
    tensor = constant_tensor(value)
    return None if tensor is None or tensor.size < FEWEST else tensor


def _is_weight(value: ir.Value) -> bool:
    return all(op_name(node) in PRODUCTS and position == 1 for node, position in value.uses())


def _rounded(array: Array) -> Array:
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float32)


def _store(graph: ir.Graph, value: ir.Value, fresh: Names) -> None:
    tensor = value.const_value
    assert tensor is not None
    half = new_constant(fresh(f"{value.name}/half"), np.asarray(tensor.numpy()).astype(np.float16))
    graph.register_initializer(half)
    value.replace_all_uses_with(half)
    read_in_single(graph, half, fresh)
    del graph.initializers[value.name or ""]
