"""Which nodes normalise rows as the kernels do."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.ir import dims

HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)  # other kernels are no faster than the libraries'


def normalises_rows(node: ir.Node) -> bool:
    """Whether a LayerNormalization or RMSNormalization is one over the last axis, in half precision, and nothing more.

    Its statistics are computed in single precision and asked for by nobody, and scale and shift have a number for each
    place of a row.
    """
    if node.domain or node.op_type not in ("LayerNormalization", "RMSNormalization") or len(node.inputs) < 2:
        return False
    x, *factors = node.inputs
    shape = None if x is None else dims(x)
    if x is None or not shape or x.dtype not in HALVES or factors[0] is None:
        return False
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    stash = node.attributes["stash_type"].as_int() if "stash_type" in node.attributes else ir.DataType.FLOAT
    if axis not in (-1, len(shape) - 1) or stash != ir.DataType.FLOAT or any(o.name for o in node.outputs[1:]):
        return False
    return isinstance(shape[-1], int) and all(
        dims(f) == shape[-1:] and f.dtype == x.dtype for f in factors if f is not None
    )


def centres_rows(node: ir.Node) -> bool:
    """Whether a node is LayerNorm over the last axis, scaled and shifted, as kernels have it for a prologue."""
    given = len(node.inputs) == 3 and None not in node.inputs
    return node.op_type == "LayerNormalization" and given and normalises_rows(node)


def epsilon_of(node: ir.Node) -> float:
    """What such a node adds to the variance."""
    return node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
