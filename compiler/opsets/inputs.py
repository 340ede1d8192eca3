"""Attributes that became inputs: what was stated in the node is now a constant beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from .step import Site, Stop

_FLOAT_MAX = float(np.finfo(np.float32).max)


def axes(site: Site) -> None:
    """Squeeze, Unsqueeze, Reduce*: `axes` is the second input."""
    given = site.take("axes")
    if given:  # none, or an empty list, is every axis in both forms
        site.give(1, site.integers("axes", given))


def split(site: Site) -> None:
    """Split-13: `split` is the second input."""
    given = site.take("split")
    if given:
        site.give(1, site.integers("split", given))


def num_outputs(site: Site) -> None:
    """Split-18: equal parts must say how many they are."""
    if site.input(1) is None:
        site.state("num_outputs", len(site.node.outputs))


def slice_(site: Site) -> None:
    """Slice-10: starts, ends, axes are inputs."""
    for index, name in enumerate(("starts", "ends", "axes"), start=1):
        given = site.take(name)
        if given is not None:
            site.give(index, site.integers(name, given))


def k(site: Site) -> None:
    """TopK-10: `k` is the second input, a vector of one number."""
    site.give(1, site.integers("k", [site.take("k")]))


def dft_axis(site: Site) -> None:
    """DFT-20: the axis is the third input, and its default is no longer 1."""
    given = site.take("axis")
    site.give(2, site.integers("axis", 1 if given is None else given))


def clip(site: Site) -> None:
    """Clip-11: min and max are inputs of the data's own type; without them the type's range is the bound."""
    for index, name, absent in ((1, "min", -_FLOAT_MAX), (2, "max", _FLOAT_MAX)):
        given = site.take(name)
        bound = absent if given is None else given
        if bound != absent or site.dtype(site.input(0)) != ir.DataType.FLOAT:
            site.give(index, _scalar(site, name, bound))


def pad(site: Site) -> None:
    """Pad-11: pads and the value to pad with are inputs."""
    value = site.take("value")
    site.give(1, site.integers("pads", site.take("pads")))
    if value:  # zero is the default of both forms
        site.give(2, _scalar(site, "value", value))


def dropout(site: Site) -> None:
    """Dropout-12: at inference it hands on its data. Its mask was all false before 12 and is all true since."""
    if any(v.uses() or v.is_graph_output() for v in site.node.outputs[1:]):
        raise Stop("the mask of a Dropout is used, whose contents opset 12 changed")
    for name in ("ratio", "seed", "is_test"):
        site.take(name)
    site.node.op_type = "Identity"
    site.node.resize_inputs(1)
    site.node.resize_outputs(1)


def _scalar(site: Site, name: str, number: float) -> ir.Value:
    """A constant of the data's type, also where the type is not known ahead."""
    dtype = site.dtype(site.input(0))
    wanted: Any = np.float32 if dtype is None else dtype.numpy()
    with np.errstate(over="ignore"):  # beyond the range of half precision a bound is infinite, and does not bind
        value = site.constant(name, np.asarray(number).astype(wanted))
    return value if dtype is not None else site.before("CastLike", [value, site.input(0)])
