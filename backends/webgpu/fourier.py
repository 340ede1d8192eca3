"""Fourier transforms of few points: products with what the transform makes of each unit vector.

A transform is linear: y = x·F, where row i of F is the transform of the vector that is 1 at i and 0 elsewhere; real and
imaginary parts are places of the vectors. Frames of a signal that are transformed are a convolution with F, whose rows
a window weighs. n² multiplications instead of n·log n: for a few thousand points a GPU does not notice.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .definitions import Body, define
from .expression import shape_of

MOST = 32 << 20  # bytes of a matrix


def matrix(points: int, parts: int, length: int, *, inverse: bool, onesided: bool) -> NDArray[np.float32]:
    """What a transform multiplies rows of numbers with: [points·parts, results·parts of those].

    Args:
        points: of a vector; what lies beyond `length` is left out, what is missing is 0.
        parts: 1 for real numbers, 2 for complex ones.
        length: of the transform.
        inverse: whether e is raised to a positive power, and the result divided by the length.
        onesided: whether only the first half of the frequencies is there; inverse, the result is real.
    """
    units = np.eye(points * parts).reshape(points * parts, points, parts)
    vectors = units[..., 0] + (1j * units[..., 1] if parts == 2 else 0)
    if inverse and onesided:
        return np.fft.irfft(vectors, length).astype(np.float32)
    found = np.fft.ifft(vectors, length) if inverse else np.fft.fft(vectors, length)
    found = found[:, : length // 2 + 1] if onesided else found
    return np.stack([found.real, found.imag], -1).reshape(points * parts, -1).astype(np.float32)


def _bytes(points: int, parts: int, length: int, onesided: bool) -> int:
    return 4 * points * parts * 2 * (length // 2 + 1 if onesided else length)


def _single(body: Body, value: ir.Value) -> ir.Value:
    return value if value.dtype == ir.DataType.FLOAT else body.op("Cast", value, to=int(ir.DataType.FLOAT))


def _like(body: Body, value: ir.Value, other: ir.Value) -> ir.Value:
    same = other.dtype in (None, ir.DataType.FLOAT)
    return value if same else body.op("Cast", value, to=int(other.dtype or ir.DataType.FLOAT))


def _ints(body: Body, *numbers: int) -> ir.Value:
    return body.constant(np.asarray(numbers, np.int64))


def _number(body: Body, which: int, default: int) -> int | None:
    """A scalar operand; None where it is not known."""
    if body.input(which) is None:
        return default
    found = body.known(which)
    return None if found is None or found.size != 1 else int(found.reshape(-1)[0])


@define("DFT")
def dft(body: Body) -> ir.Value | None:
    """Along one axis, which is moved beside the parts."""
    x = body.given(0)
    if x.shape is None or not x.shape.is_static():
        return None
    shape = shape_of(x)
    inverse, onesided = bool(body.attribute("inverse", 0)), bool(body.attribute("onesided", 0))
    axis = _number(body, 2, -2)
    if axis is None or len(shape) < 2:
        return None
    axis %= len(shape)
    points, parts = shape[axis], shape[-1]
    length = _number(body, 1, 2 * (points - 1) if inverse and onesided else points)
    if length is None or length < 1 or not points or _bytes(points, parts, length, onesided) > MOST:
        return None
    table = matrix(points, parts, length, inverse=inverse, onesided=onesided)
    others = [a for a in range(len(shape) - 1) if a != axis]
    order = [*others, axis, len(shape) - 1]
    rows = [shape[a] for a in others]
    turned = _single(body, x) if order == sorted(order) else body.op("Transpose", _single(body, x), perm=order)
    found = body.op("MatMul", body.op("Reshape", turned, _ints(body, *rows, points * parts)), body.constant(table))
    results = 1 if inverse and onesided else 2
    found = body.op("Reshape", found, _ints(body, *rows, table.shape[1] // results, results))
    if order != sorted(order):
        found = body.op("Transpose", found, perm=[order.index(a) for a in range(len(shape))])
    return _like(body, found, x)


@define("STFT")
def stft(body: Body) -> ir.Value | None:
    """Frames of a signal: a convolution whose kernels are the columns of a transform, weighed by the window."""
    x, window = body.given(0), body.input(2)
    step, length = _number(body, 1, 1), _number(body, 3, 0)
    if x.shape is None or not x.shape.is_static() or not step or length is None:
        return None
    if window is not None:
        length = prod(shape_of(window)) if window.shape is not None and window.shape.is_static() else 0
    shape = shape_of(x)
    batch, count, parts = (*shape, 1) if len(shape) == 2 else shape
    onesided = bool(body.attribute("onesided", 1))
    if not length or count < length or _bytes(length, parts, length, onesided) > MOST:
        return None
    table = matrix(length, parts, length, inverse=False, onesided=onesided)
    kernels = body.constant(table.T.reshape(-1, length, parts).transpose(0, 2, 1).copy())  # [results, parts, length]
    if window is not None:
        kernels = body.op("Mul", kernels, _single(body, window))
    lines = body.op("Reshape", _single(body, x), _ints(body, batch, count, parts))
    lines = body.op("Transpose", lines, perm=[0, 2, 1])
    found = body.op("Conv", lines, kernels, strides=[step])
    frames = (count - length) // step + 1
    found = body.op("Reshape", found, _ints(body, batch, table.shape[1] // 2, 2, frames))
    return _like(body, body.op("Transpose", found, perm=[0, 3, 1, 2]), x)
