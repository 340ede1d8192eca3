"""Weight-only quantization in blocks, read by MatMulNBits; activations in int8 inside the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from ...compiler.approximate.method import Form, Inputs, X, method
from ...compiler.approximate.places import Place
from ...compiler.facts import Array, Floats
from ...compiler.rule import Expression, Skip, Term, op
from .double_quantization import scales_in_8_bits

Singles = npt.NDArray[np.float32]
Floating = npt.NDArray[np.floating]

INT8_INSIDE = 4  # accuracy_level: without it 8 bit weights are unpacked on every call, up to 200 times slower
TINY = 1e-12
AT_ONCE = 1 << 20  # weights that a thread rounds at a time: what that takes beside them stays in the caches
MOST_THREADS = 16
SETTINGS = ((8, 32), (8, 128), (4, 32), (4, 128))


@method(
    kinds=("linear",),
    paper="Dettmers & Zettlemoyer, The case for 4-bit precision, ICML 2023, arXiv:2212.09720 (block-wise rounding)",
)
def block_weights(place: Place, inputs: Inputs) -> Iterator[Form]:
    """x·W + b ≈ x·Ŵ + b, each block of a column of W rounded to its own scale (and zero point in 4 bit)."""
    if place.shape[0] < 32:
        raise Skip("a column is shorter than a block")
    for bits, block in SETTINGS:
        codes, scale, zero = round_blocks(place.weight, bits, block)
        yield Form(f"{bits} bit, blocks of {block}", n_bits(place, codes, scale, zero, bits, block))


def round_blocks(weight: Array, bits: int, block: int) -> tuple[Array, Array, Array]:
    """Round to nearest, range by minimum and maximum.

    Returns:
        Codes [out, blocks, block] uint8, scales float32 and zero points uint8 [out, blocks].
    """
    width, outputs = weight.shape
    blocks, step = -(-width // block), max(1, AT_ONCE // max(width, 1))
    codes = np.empty((outputs, blocks, block), np.uint8)
    scale, zero = np.empty((outputs, blocks), np.float32), np.empty((outputs, blocks), np.uint8)

    def write(start: int) -> None:
        part = slice(start, start + step)
        codes[part], scale[part], zero[part] = _rounded(weight[:, part], bits, block)

    if outputs <= step:
        write(0)
        return codes, scale, zero
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:  # numpy lets others run meanwhile
        list(pool.map(write, range(0, outputs, step)))
    return codes, scale, zero


def _rounded(weight: Array, bits: int, block: int) -> tuple[Array, Array, Array]:
    width, outputs = weight.shape
    blocks = -(-width // block)
    padded = np.zeros((outputs, blocks * block), np.float32)
    padded[:, :width] = weight.T
    parts = padded.reshape(outputs, blocks, block)
    top = 2**bits - 1
    if bits == 8:  # symmetric: a zero point buys nothing with 255 steps
        scale = np.abs(parts).max(-1) / 127
        zero = np.full(scale.shape, 128.0, np.float32)
        scale = np.where(scale > 0, scale, TINY).astype(np.float32)  # a block of zeros decodes to next to nothing
    else:
        scale, zero = steps(parts.min(-1), parts.max(-1), bits)
    codes = np.clip(np.round(parts / scale[..., None]) + zero[..., None], 0, top)
    return codes.astype(np.uint8), scale, zero.astype(np.uint8)


def steps(least: Array, largest: Array, bits: int) -> tuple[Singles, Floating]:
    """Scale and zero point, whole but in floating point, of blocks with these values and zero among them."""
    low, high, top = np.minimum(least, 0), np.maximum(largest, 0), 2**bits - 1
    scale = (high - low) / top
    zero = np.clip(np.round(-low / np.where(scale > 0, scale, 1)), 0, top)
    return np.where(scale > 0, scale, TINY).astype(np.float32), zero


def fitting(blocks: Sequence[int], width: int) -> list[int]:
    """Those blocks that a column of this width has one of.

    Raises:
        Skip: it is too short for any.
    """
    found = [block for block in blocks if block <= width]
    if not found:
        raise Skip("a column is shorter than a block")
    return found


def decoded(codes: Array, scale: Array, zero: Array, width: int) -> Floats:
    """The weight that codes stand for, [in, out]."""
    parts = np.subtract(codes, zero[..., None], dtype=np.float64) * scale[..., None].astype(np.float64)
    return parts.reshape(len(parts), -1)[:, :width].T


def n_bits(place: Place, codes: Array, scale: Array, zero: Array, bits: int, block: int, x: Term = X) -> Expression:
    """The product of x with these codes as a MatMulNBits."""
    width, outputs = place.shape
    packed = codes if bits == 8 else pack_pairs(codes)
    return op("com.microsoft::MatMulNBits")(
        x,
        np.ascontiguousarray(packed),
        scales_in_8_bits(scale),
        None if bits == 8 else packed_rows(zero),
        None,
        place.bias,
        K=width,
        N=outputs,
        bits=bits,
        block_size=block,
        accuracy_level=INT8_INSIDE,
    )


def packed_rows(zero: Array) -> Array:
    """Two zero points a byte, each output's from a byte of its own."""
    outputs, blocks = zero.shape
    padded = np.zeros((outputs, blocks + blocks % 2), np.uint8)
    padded[:, :blocks] = zero
    return pack_pairs(padded).reshape(-1)


def pack_pairs(nibbles: Array) -> Array:
    """Two 4-bit numbers a byte, the first in the lower half."""
    return np.bitwise_or(nibbles[..., 0::2], np.left_shift(nibbles[..., 1::2], 4))
