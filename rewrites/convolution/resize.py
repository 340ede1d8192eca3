"""A pointwise convolution and a resize change places, so that the convolution runs on fewer positions."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from ...compiler.facts import Array
from ...compiler.rule import Skip, Term, Value, op, rule, var
from ..linear.operands import given, ints, require_float
from .geometry import of_convolution

x, w, b, r, s, z, a, e = var("x w b r s z a e")

UP = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
CONV = {"x": "f32[2,4,3,4]", "w": "f32[6,2,1,1] const", "b": "f32[6] const", "a": {"group": 2}, "e": UP}
SCALED = {**CONV, "r": None, "s": "f32[4] = 1 1 2 2", "z": None}
ROI = "f32[8] = 0 0 0 0 1 1 1 1"
SIZED = {**CONV, "r": None, "s": None, "z": "i64[4] = 2 4 6 8"}


def _require_pointwise(w: Value, a: Mapping[str, Any]) -> None:
    shape = of_convolution(w, a)
    if not shape.pointwise or not shape.dense:
        raise Skip("the convolution is not pointwise on every position")


def _require_average(e: Mapping[str, Any]) -> None:
    """Refuse what is no weighted mean of input values with weights that sum to one."""
    if e.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise Skip("the resize may write a number of its own")
    if e.get("axes") is not None or e.get("keep_aspect_ratio_policy") is not None:
        raise Skip("the resize names axes, or a policy")


def _target(x: Value, w: Value, s: Value, z: Value | None) -> tuple[Value | None, Array | None]:
    """The resize's scales, or its sizes with the convolution's channels.

    Raises:
        Skip: they are not known, change the channels, or do not make the input larger.
    """
    scales = given(s)
    if scales is not None:
        factors = scales.array.reshape(-1).tolist()
        if factors[:2] != [1, 1]:
            raise Skip("the resize changes batch or channels")
        if prod(factors) <= 1:
            raise Skip("the resize is to fewer positions")
        return scales, None
    if z is None:
        raise Skip("the resize has no target")
    batch, _, *sizes = (int(n) for n in z.array.reshape(-1))
    if prod(sizes) <= prod(x.static_shape[2:]):
        raise Skip("the resize is to fewer positions")
    return None, ints(batch, w.static_shape[0], *sizes)


@rule(
    op.Conv(op.Resize(x, r, s, attributes=e), w, attributes=a),
    op.Conv(op.Resize(x, r, s, attributes=e), w, b, attributes=a),
    op.Conv(op.Resize(x, r, s, z, attributes=e), w, attributes=a),
    op.Conv(op.Resize(x, r, s, z, attributes=e), w, b, attributes=a),
    drift="rounding",
    example=[
        {**SCALED, "pattern": 0},
        {**SCALED, "pattern": 1, "e": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}},
        {**SCALED, "pattern": 1, "x": "f32[N,4,3,4]", "e": {"mode": "cubic"}},
        {**SIZED, "pattern": 2},
        {**SIZED, "pattern": 3, "e": {"mode": "linear"}},
    ],
    refuse=[
        {**SCALED, "pattern": 1, "s": "f32[4] = 1 1 0.5 0.5", "x": "f32[2,4,4,4]", "because": "fewer positions"},
        {**SCALED, "pattern": 1, "s": "f32[4] = 1 2 2 2", "w": "f32[6,4,1,1] const", "because": "channels"},
        {**SCALED, "pattern": 1, "w": "f32[6,2,3,3] const", "because": "pointwise"},
        {**SIZED, "pattern": 3, "z": "i64[4] = 2 4 2 2", "because": "fewer positions"},
        {**SIZED, "pattern": 2, "x": "f32[2,4,H,4]", "because": "not known"},
        {
            **SCALED,
            "pattern": 1,
            "e": {**UP, "coordinate_transformation_mode": "tf_crop_and_resize"},
            "r": ROI,
            "because": "of its own",
        },
    ],
)
def pointwise_before_upsampling(
    x: Value,
    w: Value,
    b: Value | None,
    r: Value,
    s: Value,
    z: Value | None,
    a: Mapping[str, Any],
    e: Mapping[str, Any],
) -> Term:
    """Conv(Resize(x), w, b) = Resize(Conv(x, w, b)) with a 1x1 kernel and a resize to more positions."""
    require_float(x)
    _require_pointwise(w, a)
    _require_average(e)
    scales, sizes = _target(x, w, s, z)
    return op.Resize(op.Conv(x, w, b, **a), r, scales, sizes, **e)
