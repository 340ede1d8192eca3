"""What a convolution's kernel sees, as rows: with them a convolution is a linear layer, y = patch·W + b."""

from __future__ import annotations

from math import prod

import numpy as np

from ...compiler.approximate.places import Place
from ...compiler.facts import Array
from ...compiler.rule import Skip
from ..convolution.geometry import Geometry, geometry
from ..convolution.windows import windows
from .moments import Moments, moments_of

POSITIONS = 1 << 14  # that are looked at, over all samples: neighbours say nearly the same


def ungrouped(place: Place) -> None:
    """Check that every output channel reads every input channel.

    Raises:
        Skip: the convolution is in groups.
    """
    group = int(place.attributes.get("group", 1))
    if group != 1:
        raise Skip(f"the convolution is in {group} groups")


def patch_moments(place: Place, arrays: tuple[Array, ...]) -> Moments:
    """Mean and covariance of what the kernel sees, zeros of the padding included; a feature is (channel, *offset).

    Args:
        place: a convolution without groups.
        arrays: its inputs, [N, channels, *spatial].

    Raises:
        Skip: they hold values that are not finite.
    """
    width = prod(place.shape[1:])
    views = [windows(a, _geometry(place, a.shape[2:])) for a in arrays]
    counts = [prod(view.shape[: view.ndim // 2]) for view in views]
    step = max(1, sum(counts) // POSITIONS)
    return moments_of(_rows(v, range(0, n, step), width) for v, n in zip(views, counts, strict=True)).centred()


def _rows(view: Array, positions: range, width: int) -> Array:
    """Those patches of a view [N, *output, channels, *kernel], [positions, channels · kernel]."""
    outer = view.shape[: view.ndim // 2]
    index = np.unravel_index(np.asarray(positions, np.int64), outer)
    return view[index].reshape(len(positions), width)


def _geometry(place: Place, spatial: tuple[int, ...]) -> Geometry:
    """The place's, with the padding that `auto_pad` means for an input of this size."""
    attributes = place.attributes
    rule = str(attributes.get("auto_pad", "NOTSET"))
    if not rule.startswith("SAME"):
        return geometry(attributes, place.shape[2:])
    plain = geometry({**attributes, "auto_pad": "NOTSET", "pads": None}, place.shape[2:])
    needed = [
        max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        for n, s, k, d in zip(spatial, plain.strides, plain.kernel, plain.dilations, strict=True)
    ]
    small, large = tuple(n // 2 for n in needed), tuple(n - n // 2 for n in needed)
    return plain.with_pads(small, large) if rule == "SAME_UPPER" else plain.with_pads(large, small)
