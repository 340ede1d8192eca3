"""Softmax, LogSoftmax and Hardmax before 13 saw their input as a matrix whose rows begin at `axis`."""

from __future__ import annotations

import onnx_ir as ir

from .step import Site


def softmax(site: Site) -> None:
    """The same along one axis, where the row is one axis; otherwise through an actual matrix."""
    dtype = site.dtype(site.input(0))
    _along_axis(site)
    if site.node.op_type != "Hardmax" and dtype == ir.DataType.FLOAT16:
        _in_single_precision(site)


def _in_single_precision(site: Site) -> None:
    """ONNX Runtime computes a Softmax of half precision in single precision before 13, and in small steps since."""
    site.give(0, site.before("Cast", [site.input(0)], {"to": int(ir.DataType.FLOAT)}))
    site.after("Cast", [site.node.outputs[0]], {"to": int(ir.DataType.FLOAT16)})
    site.node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)


def _along_axis(site: Site) -> None:
    stated = site.take("axis")
    axis = 1 if stated is None else int(stated)
    data = site.input(0)
    shape = site.shape(data)
    if axis == -1 or (shape is not None and axis == len(shape) - 1):
        site.state("axis", -1)
        return
    if shape is not None and axis < len(shape) and all(d == 1 for d in shape[axis % len(shape) + 1 :]):
        site.state("axis", axis)  # rows are (n, 1, 1): all of a row lies along `axis`
        return
    site.state("axis", -1)
    known = shape is not None and all(isinstance(d, int) and d > 0 for d in shape)
    target = site.integers("shape", shape) if known else site.before("Shape", [data])
    site.give(0, site.before("Flatten", [data], {"axis": axis}))
    site.after("Reshape", [site.node.outputs[0], target], {} if known else {"allowzero": 1})
