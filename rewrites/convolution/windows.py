"""What a convolution's kernel sees at each position of its input."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ...compiler.facts import Array
from .geometry import Geometry


def windows(x: Array, found: Geometry) -> Array:
    """A view [N, *output, channels, *kernel] of an input [N, channels, *spatial] with its padding of zeros."""
    rank = len(found.kernel)
    padded = np.pad(x, [(0, 0), (0, 0), *zip(found.begin, found.end, strict=True)])
    reach = tuple((k - 1) * d + 1 for k, d in zip(found.kernel, found.dilations, strict=True))
    every = sliding_window_view(padded, reach, axis=tuple(range(2, 2 + rank)))
    steps = [slice(None, None, s) for s in (*found.strides, *found.dilations)]
    return np.moveaxis(every[(slice(None), slice(None), *steps)], 1, 1 + rank)
