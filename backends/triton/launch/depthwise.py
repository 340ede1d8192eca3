"""Launching depthwise convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..early_starts import when
from ..kernels.depthwise import depthwise
from ..kernels.depthwise_settings import parts_of
from ..kernels.depthwise_walks import SLIDING, SLIDING_AHEAD
from ..kernels.sliding_depthwise import sliding_depthwise
from ..library.convolution import outputs_last, slid
from .convolution import channels_last
from .norm import launch_layer_norm
from .one_row import options
from .squeeze import launch_excite


def launch_depthwise(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    norm: Sequence[Tensor],
    epsilon: float,
    strides: Sequence[int],
    pads: Sequence[int],
    activation: str,
    candidate: Sequence[int],
) -> Tensor:
    """A depthwise convolution.

    Args:
        x: this and what follows as `library.convolution.depthwise` takes them.
        w: (C, 1, KH, KW).
        bias: (C).
        norm: scale and shift, or nothing.
        epsilon: of the norm.
        strides: down, right.
        pads: above, left, below, right.
        activation: a name that `kernels.activations` knows, or "".
        candidate: results to the right and downwards, runs of them, channels of a block, warps, how lines are read;
            with a norm none that slides.
    """
    y = _launch(x, w, bias, norm, epsilon, strides, pads, activation, candidate, None)
    return y.permute(0, 2, 3, 1) if len(norm) > 0 else y


def launch_depthwise_then_norm(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    norm: Sequence[Tensor],
    epsilon: float,
    strides: Sequence[int],
    pads: Sequence[int],
    candidate: Sequence[int],
    rows: Sequence[int],
) -> Tensor:
    """A depthwise convolution, and LayerNorm of its channels by a kernel of its own.

    Args:
        x: this and what follows as `launch_depthwise` takes them.
        w: (C, 1, KH, KW).
        bias: (C).
        norm: scale and shift.
        epsilon: of the norm.
        strides: down, right.
        pads: above, left, below, right.
        candidate: as for `launch_depthwise`.
        rows: as for `launch_layer_norm`.
    """
    y = _launch(x, w, bias, (), 0.0, strides, pads, "", candidate, None)
    return launch_layer_norm(y.permute(0, 2, 3, 1), norm[0], norm[1], epsilon, True, rows)


def launch_depthwise_squeeze(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    v: Tensor,
    c: Tensor,
    u: Tensor,
    d: Tensor,
    strides: Sequence[int],
    pads: Sequence[int],
    first: str,
    activation: str,
    gate: str,
    candidate: Sequence[int],
    squeeze: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """A depthwise convolution, and squeeze-and-excitation of its result from the sums that its programs leave.

    Args:
        x: this and what follows as `library.depthwise_squeeze.depthwise_squeeze` takes them.
        w: (C, 1, KH, KW).
        bias: (C).
        v: (S, C, 1, 1).
        c: (S).
        u: (C, S, 1, 1).
        d: (C).
        strides: down, right.
        pads: above, left, below, right.
        first: a name that `kernels.activations` knows.
        activation: another.
        gate: another.
        candidate: as for `launch_depthwise`.
        squeeze: as for `launch_excite`.
    """
    n, (height, width) = x.shape[0], slid(x.shape[2:], w.shape[2:], strides, pads)
    sums = torch.empty((n, parts_of(height, width, candidate), w.shape[0]), dtype=torch.float32, device=x.device)
    y = _launch(x, w, bias, (), 0.0, strides, pads, first, candidate, sums)
    return y, launch_excite(sums, y.shape[2] * y.shape[3], v, c, u, d, activation, gate, squeeze)


def _launch(
    x: Tensor,
    w: Tensor,
    bias: Tensor,
    norm: Sequence[Tensor],
    epsilon: float,
    strides: Sequence[int],
    pads: Sequence[int],
    activation: str,
    candidate: Sequence[int],
    sums: Tensor | None,
) -> Tensor:
    right, down, runs, block, warps, walk = candidate
    n, channels, above, across = x.shape
    height, width = slid(x.shape[2:], w.shape[2:], strides, pads)
    y = channels_last(x, (n, channels, height, width))
    w = outputs_last(w)
    gamma, beta = norm or (bias, bias)
    rectangles = n * -(-height // down) * -(-width // right)
    programs = -(-rectangles // runs) if sums is None else n * parts_of(height, width, candidate)
    grid = programs, 1 if len(norm) > 0 else -(-channels // block)
    read = x.contiguous(memory_format=torch.channels_last), w, bias.contiguous()
    written = y, y if sums is None else sums
    sizes = {
        "N": n,
        "C": channels,
        "H": above,
        "W": across,
        "HO": height,
        "WO": width,
        "KH": w.shape[2],
        "KW": w.shape[3],
        "SH": strides[0],
        "SW": strides[1],
        "PT": pads[0],
        "PL": pads[1],
    }
    fused = {"ACTIVATION": activation, "SUMMED": sums is not None}
    early = when(x, prod(grid))
    tile = {"RIGHT": right, "DOWN": down, "RUNS": runs, "BC": block, "EARLY": early, **options(warps, early)}
    kernel: Any
    if walk in (SLIDING, SLIDING_AHEAD):
        assert len(norm) == 0, "what slides has a norm of its own"
        kernel = sliding_depthwise
        kernel[grid](*read, *written, **sizes, **fused, **tile, AHEAD=walk == SLIDING_AHEAD)
    else:
        kernel = depthwise
        norms = gamma.contiguous(), beta.contiguous()
        kernel[grid](*read, *norms, *written, epsilon, **sizes, **fused, **tile, NORMED=len(norm) > 0, WALK=walk)
    return y
