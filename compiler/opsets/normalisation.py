"""BatchNormalization and GroupNormalization."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .step import Site, Stop


def spatial(site: Site) -> None:
    """BatchNormalization-9: statistics are always per channel."""
    if site.take("spatial") == 0:
        raise Stop("its statistics are per position (spatial=0), which no later opset has")


def inference(site: Site) -> None:
    """BatchNormalization-14: training is an attribute; before, further outputs asked for it."""
    if site.used_outputs() > 1:
        raise Stop("its further outputs mean training, which later opsets do otherwise")
    site.node.resize_outputs(1)


def per_channel(site: Site) -> None:
    """GroupNormalization-21: scale and bias are given per channel, not per group."""
    groups, data = int(site.stated("num_groups")), site.input(0)
    shape, dtype = site.shape(data), site.dtype(data)
    channels = shape[1] if shape is not None and len(shape) > 1 else None
    if not isinstance(channels, int) or dtype is None:
        raise Stop("its number of channels or its element type is not known")
    for index, name in ((1, "scale"), (2, "bias")):
        site.give(index, _repeat(site, name, site.input(index), groups, channels))
    if dtype != ir.DataType.FLOAT:
        site.state("stash_type", int(dtype))  # 18 computes in the data's own type


def _repeat(site: Site, name: str, value: ir.Value | None, groups: int, channels: int) -> ir.Value:
    known = site.contents(value)
    if known is not None:
        return site.constant(name, np.repeat(known, channels // groups))
    column = site.before("Reshape", [value, site.integers(f"{name}_column", [groups, 1])])
    wide = site.before("Expand", [column, site.integers(f"{name}_wide", [groups, channels // groups])])
    return site.before("Reshape", [wide, site.integers(f"{name}_channels", [channels])])
