"""Convolutions: products of the weights with the patches of the image that they meet."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from math import prod

import onnx_ir as ir

from ..expression import Element, Shader
from ..index import Index, Subscript, add, mul
from ..types import computed
from .contraction import Contraction, Matrix
from .depthwise import Row, is_depthwise, write_row
from .forms import forms_of
from .registry import Form, kernel
from .view import view_of
from .window import window_of


class Convolution(Contraction):
    """Rows are the result's channels, columns its pixels, depths the taps of all the channels that a group reads."""

    def __init__(self, e: Element) -> None:
        self.e, self.window = e, window_of(e)
        self.groups = e.integer("group", 1)
        channels, each = e.shape[1], e.shape_of(1)[1]
        self.batch = (e.shape[0], self.groups)
        self.rows, self.columns = channels // self.groups, prod(self.window.results)
        self.depth, self.each = each * prod(self.window.taps), each

    def at_column(self, column: Index) -> Subscript:
        """A pixel."""
        return self.e.shader.subscript(column, self.window.results)

    def at_depth(self, depth: Index) -> Subscript:
        """A channel of the group, and a tap."""
        return self.e.shader.subscript(depth, (self.each, *self.window.taps))

    def _channel(self, group: Index, row: Index, size: int) -> Index:
        return row if self.groups == 1 else group if size == 1 else self.e.shader.index(add(mul(group, size), row))

    def first(self, batch: Subscript, row: Subscript, depth: Subscript) -> str:
        """A weight."""
        return self.e.input(1, (self._channel(batch[1], row[0], self.rows), *depth))

    def second(self, batch: Subscript, column: Subscript, depth: Subscript) -> str:
        """A pixel; 0 outside of the image."""
        shader = self.e.shader
        at: list[Index] = [batch[0], self._channel(batch[1], depth[0], self.each)]
        checks: list[str] = []
        for axis, (result, tap) in enumerate(zip(column, depth[1:], strict=True)):
            pixel, conditions = self.window.meets(axis, result, tap)
            pixel = shader.index(pixel)
            at.append(pixel)
            checks += [condition.format(pixel) for condition in conditions]
        if not checks:
            return self.e.input(0, at)
        return self.e.when(" && ".join(checks), lambda: self.e.input(0, at), lambda: self.e.literal(0))

    def result(self, batch: Subscript, row: Index, column: Index) -> Subscript:
        """Of the image that comes out."""
        shader, shape = self.e.shader, self.e.shape
        channel = self._channel(batch[1], row, self.rows)
        at = tuple(shader.index(i) for i in (batch[0], channel, *self.at_column(column)))
        flat = add(mul(add(mul(batch[0] if shape[0] > 1 else 0, shape[1]), channel), self.columns), column)
        shader.say(at, shape, shader.index(flat))
        return at

    def finished(self, total: str, at: Subscript) -> str:
        """With the bias."""
        return f"{total} + {self.e.input(2, (at[1],))}" if self.e.has(2) else total

    def first_matrix(self) -> Matrix | None:
        """The weights, where they lie in order."""
        view = view_of(self.e.operand(1), self.e.shader.inlined)
        shape = self.e.shape_of(1)
        if view is None or not _is_in_order(view.strides[1:], shape[1:]):
            return None
        return Matrix(view.value, view.offset, (0, self.rows * view.strides[0]), view.strides[0], 1)

    def second_matrix(self) -> Matrix | None:
        """The image itself, where it is not but a matrix of channels and pixels."""
        view = view_of(self.e.operand(0), self.e.shader.inlined) if self.window.is_a_product else None
        if view is None:
            return None
        spatial = [(s, size) for s, size in zip(view.strides[2:], self.window.pixels, strict=True) if size > 1]
        if any(a[0] != b[0] * b[1] for a, b in pairwise(spatial)):
            return None
        channel = view.strides[1]
        return Matrix(
            view.value, view.offset, (view.strides[0], self.each * channel), spatial[-1][0] if spatial else 1, channel
        )


def _is_in_order(strides: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    wanted = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return all(s == w or size == 1 for s, w, size in zip(strides, wanted, shape, strict=True))


def _is_known(node: ir.Node) -> bool:
    return all(v is None or computed(v.dtype) == "f32" for v in node.inputs) and node.inputs[1] is not None


ROWS = tuple(Row(wide, threads) for wide in (4, 2, 8, 1) for threads in (64, 128, 256))


@kernel("Conv", reads_often=True, applies=_is_known)
def convolution(node: ir.Node) -> Iterable[Form]:
    """As a product with the patches; channel by channel where groups have but one."""
    e = Element(node, node.outputs[0], Shader({}, half=True), ())
    if is_depthwise(e):
        yield from (partial(write_row, row=row) for row in ROWS)
    yield from forms_of(node, Convolution)


class Transposed(Contraction):
    """A convolution turned round: each result gathers from the pixels whose kernels reach it.

    result·1 = pixel·stride + tap·dilation − pad, so a tap meets a pixel only where the stride divides.
    """

    def __init__(self, e: Element) -> None:
        self.e = e
        self.groups = e.integer("group", 1)
        self.taps, self.pixels, self.results = e.shape_of(1)[2:], e.shape_of(0)[2:], e.shape[2:]
        self.each = e.shape_of(0)[1] // self.groups
        self.batch = (e.shape[0], self.groups)
        self.rows, self.columns = e.shape[1] // self.groups, prod(self.results)
        self.depth = self.each * prod(self.taps)
        ones = (1,) * len(self.taps)
        self.strides, self.dilations = e.integers("strides", ones) or ones, e.integers("dilations", ones) or ones
        self.pads = self._pads()

    def _pads(self) -> tuple[int, ...]:
        e, rank = self.e, len(self.taps)
        extra = e.integers("output_padding") or (0,) * rank
        mode = e.text("auto_pad", "NOTSET")
        if mode in ("NOTSET", "VALID") and not e.integers("output_shape"):
            return (e.integers("pads") or (0,) * rank)[:rank] if mode == "NOTSET" else (0,) * rank
        spans = zip(self.pixels, self.taps, self.results, self.strides, self.dilations, extra, strict=True)
        whole = [max(s * (size - 1) + o + (tap - 1) * d + 1 - out, 0) for size, tap, out, s, d, o in spans]
        return tuple(p // 2 if mode == "SAME_UPPER" else p - p // 2 for p in whole)

    def at_column(self, column: Index) -> Subscript:
        """A pixel of the result."""
        return self.e.shader.subscript(column, self.results)

    def at_depth(self, depth: Index) -> Subscript:
        """A channel of the group, and a tap."""
        return self.e.shader.subscript(depth, (self.each, *self.taps))

    def _channel(self, group: Index, row: Index, size: int) -> Index:
        return row if self.groups == 1 else self.e.shader.index(add(mul(group, size), row))

    def first(self, batch: Subscript, row: Subscript, depth: Subscript) -> str:
        """A weight."""
        return self.e.input(1, (self._channel(batch[1], depth[0], self.each), *row, *depth[1:]))

    def second(self, batch: Subscript, column: Subscript, depth: Subscript) -> str:
        """A pixel; 0 where the tap meets none."""
        shader = self.e.shader
        at: list[Index] = [batch[0], self._channel(batch[1], depth[0], self.each)]
        checks: list[str] = []
        for axis, (result, tap) in enumerate(zip(column, depth[1:], strict=True)):
            moved = shader.index(add(add(result, self.pads[axis]), mul(tap, -self.dilations[axis])))
            stride = self.strides[axis]
            pixel = shader.index(f"({moved} / {stride})" if stride > 1 else moved)
            checks += [f"{moved} >= 0", f"{pixel} < {self.pixels[axis]}"]
            checks += [f"{moved} % {stride} == 0"] if stride > 1 else []
            at.append(pixel)
        return self.e.when(" && ".join(checks), lambda: self.e.input(0, at), lambda: self.e.literal(0))

    def result(self, batch: Subscript, row: Index, column: Index) -> Subscript:
        """Of the image that comes out."""
        found = (batch[0], self._channel(batch[1], row, self.rows), *self.at_column(column))
        return tuple(self.e.shader.index(i) for i in found)

    def finished(self, total: str, at: Subscript) -> str:
        """With the bias."""
        return f"{total} + {self.e.input(2, (at[1],))}" if self.e.has(2) else total


@kernel("ConvTranspose", reads_often=True, applies=_is_known)
def transposed(node: ir.Node) -> Iterable[Form]:
    """As a product with the pixels that a result gathers."""
    return forms_of(node, Transposed)
