"""Resampling and pooling that change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compiler.rule import Skip, Term, Value, op, rule, var
from .dimensions import same_shape

x, r, s, z, a = var("x r s z a")


@rule(
    op.Resize(x, r, s, attributes=a),
    op.Resize(x, r, s, z, attributes=a),
    drift="none",
    phase="canonicalise",
    peers="onnxslim",
    example=[
        {"x": "f32[1,2,3,4]", "r": None, "s": "f32[4] = 1", "a": {"mode": "linear"}, "pattern": 0},
        {"x": "f32[1,n,3,4]", "r": None, "s": "f32[4] = 1", "a": {"mode": "nearest"}, "pattern": 0},
        {"x": "f32[1,2,3,4]", "r": None, "s": None, "z": "i64[4] = 1 2 3 4", "a": {"mode": "cubic"}, "pattern": 1},
    ],
    refuse=[
        {"x": "f32[1,2,3,4]", "r": None, "s": "f32[4] = 1 1 1 1.2", "a": {}, "pattern": 0, "because": "other than one"},
        {"x": "f32[1,2,3,4]", "r": None, "s": None, "z": "i64[4] = 1 2 3 5", "a": {}, "pattern": 1, "because": "size"},
    ],
)
def resize_identity(x: Value, s: Value, a: Mapping[str, Any], root: Value) -> Term:
    """Resize(x, to its own size) = x."""
    if a.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise Skip("the Resize crops")
    if s.uid and s.size != 0:
        if not s.every(lambda scales: bool((scales == 1).all())):
            raise Skip("a scale is other than one")
    elif not same_shape(x.shape, root.shape):
        raise Skip("the size changes")
    return x


@rule(
    op.MaxPool(x, attributes=a),
    op.AveragePool(x, attributes=a),
    drift="none",
    phase="canonicalise",
    peers="",
    example=[
        {"x": "f32[1,2,3,4]", "a": {"kernel_shape": (1, 1)}},
        {"x": "f32[1,2,n,4]", "a": {"kernel_shape": (1, 1), "strides": (1, 1), "pads": (0, 0, 0, 0)}},
    ],
    refuse=[
        {"x": "f32[1,2,3,4]", "a": {"kernel_shape": (1, 2)}, "because": "more than one"},
        {"x": "f32[1,2,3,4]", "a": {"kernel_shape": (1, 1), "strides": (2, 1)}, "because": "strides"},
    ],
)
def pool_identity(x: Value, a: Mapping[str, Any]) -> Term:
    """MaxPool(x, 1 by 1) = AveragePool(x, 1 by 1) = x."""
    if any(k != 1 for k in a["kernel_shape"]):
        raise Skip("the window holds more than one element")
    if any(d != 1 for d in a.get("strides", ())) or any(a.get("pads", ())):
        raise Skip("strides or pads leave out or add elements")
    return x
