"""The torch operator of products with weights of 4 or 8 bits in blocks; as in `library`, its meaning is plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ....compiler.torch_operators.contrib_linear import unpacked_weight
from .one_row import meaning

BLOCKS = (32, 64, 128)  # the tensor cores take 16 bytes of codes or more, and tiles hold a whole block


class Packed(NamedTuple):
    """A weight in few bits, as MatMulNBits has it.

    Attributes:
        codes: (N, blocks, bytes of a block), uint8.
        scales: N·blocks of them.
        zeros: as codes, each row from a byte of its own; None: 2^(bits−1).
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None = None


@torch.library.custom_op("tamago::linear_nbits", mutates_args=(), device_types="cpu")
def linear_nbits(
    x: Tensor,
    w: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    gate: Tensor | None,
    gate_scales: Tensor | None,
    gate_zeros: Tensor | None,
    norm: Tensor | None,
    residual: Tensor | None,
    epsilon: float,
    activation: str,
    bits: int,
    block: int,
    candidate: Sequence[int] | None,
) -> Tensor:
    """act(n·ŵᵀ) ⊙ n·ĝᵀ + residual, n = RMSNorm(x)·norm, ŵ = (codes − zero)·scale by blocks; what is None is left out.

    Args:
        x: (…, K).
        w: (N, blocks, bytes of a block), uint8: as MatMulNBits has it.
        scales: N·blocks of them.
        zeros: as codes, each row from a byte of its own; None: 2^(bits−1).
        gate: like w; gate_scales and gate_zeros are what scales and zeros are.
        gate_scales: see gate.
        gate_zeros: None where zeros is.
        norm: (K), the scale of the norm in front.
        residual: broadcasts to (…, N).
        epsilon: of the norm.
        activation: "Silu" or "".
        bits: 4 or 8.
        block: weights that share a scale, a power of two.
        candidate: for how many rows of x they were measured, and the kernel's settings; None: its defaults.
    """
    del candidate
    second = _gate(gate, gate_scales, gate_zeros)
    return meaning_nbits(x, Packed(w, scales, zeros), second, norm, residual, epsilon, activation, bits, block)


def _gate(codes: Tensor | None, scales: Tensor | None, zeros: Tensor | None) -> Packed | None:
    return None if codes is None or scales is None else Packed(codes, scales, zeros)


def meaning_nbits(
    x: Tensor,
    w: Packed,
    gate: Packed | None,
    norm: Tensor | None,
    residual: Tensor | None,
    epsilon: float,
    activation: str,
    bits: int,
    block: int,
) -> Tensor:
    """What `linear_nbits` computes, in plain torch, on any device and in any precision."""

    def wide(weight: Packed) -> Tensor:
        size = (len(weight.codes), x.shape[-1])
        return unpacked_weight(*weight, None, size, bits, block).to(x.dtype)

    return meaning(x, wide(w), None if gate is None else wide(gate), norm, residual, epsilon, activation)


@linear_nbits.register_fake  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    gate: Tensor | None,
    gate_scales: Tensor | None,
    gate_zeros: Tensor | None,
    norm: Tensor | None,
    residual: Tensor | None,
    epsilon: float,
    activation: str,
    bits: int,
    block: int,
    candidate: Sequence[int] | None,
) -> Tensor:
    del scales, zeros, gate, gate_scales, gate_zeros, norm, residual, epsilon, activation, bits, block, candidate
    return x.new_empty((*x.shape[:-1], w.shape[0]))


@linear_nbits.register_kernel("cuda")  # pyright: ignore[reportUntypedFunctionDecorator]
def _(
    x: Tensor,
    w: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    gate: Tensor | None,
    gate_scales: Tensor | None,
    gate_zeros: Tensor | None,
    norm: Tensor | None,
    residual: Tensor | None,
    epsilon: float,
    activation: str,
    bits: int,
    block: int,
    candidate: Sequence[int] | None,
) -> Tensor:
    from ..launch.nbits import MOST_ROWS, launch_nbits

    first, second = Packed(w, scales, zeros), _gate(gate, gate_scales, gate_zeros)
    if x.numel() > MOST_ROWS * x.shape[-1]:  # made wide once, and what torch has for it
        return meaning_nbits(x, first, second, norm, residual, epsilon, activation, bits, block)
    return launch_nbits(x, first, second, norm, residual, epsilon, activation, bits, block, candidate)
