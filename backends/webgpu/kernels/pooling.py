"""Windows that slide over an image: pools of every kind, and LRN's window of channels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from math import prod

import onnx_ir as ir

from ..expression import Element, shape_of
from ..index import Index, add, mul
from ..types import LEAST
from .registry import Form, kernel, only_first_output
from .writer import Writer


class Window:
    """Kernel, strides, dilations and padding of a pool, an entry for each spatial axis."""

    def __init__(self, e: Element) -> None:
        self.sizes, self.results = e.shape_of(0)[2:], e.shape[2:]
        rank = len(self.sizes)
        self.whole = e.node.op_type.startswith("Global")
        self.kernel = self.sizes if self.whole else e.integers("kernel_shape")
        self.strides = e.integers("strides", (1,) * rank)
        self.dilations = e.integers("dilations", (1,) * rank)
        self.reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        pads = e.integers("pads", (0,) * (2 * rank))
        self.before, self.after = pads[:rank], pads[rank:]
        auto = e.text("auto_pad", "NOTSET")
        if auto.startswith("SAME"):
            total = [
                max((o - 1) * s + r - n, 0)
                for o, s, r, n in zip(self.results, self.strides, self.reach, self.sizes, strict=True)
            ]
            self.before = tuple(t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total)
            self.after = tuple(t - b for t, b in zip(total, self.before, strict=True))
        elif auto == "VALID":
            self.before = self.after = (0,) * rank

    def first(self, at: Sequence[Index], axis: int) -> Index:
        """Where the window of a result begins."""
        return add(mul(at[axis], self.strides[axis]), -self.before[axis])

    def stays_inside(self, axis: int) -> bool:
        """Whether no window of an axis leaves the image."""
        last = (self.results[axis] - 1) * self.strides[axis] - self.before[axis] + self.reach[axis]
        return self.before[axis] == 0 and last <= self.sizes[axis]

    def count(self, at: Sequence[Index], include_padding: bool) -> str:
        """How many elements a window has: what lies beyond the padding never counts."""
        parts: list[str] = []
        for axis, size in enumerate(self.sizes):
            k, d, start = self.kernel[axis], self.dilations[axis], self.first(at, axis)
            end = size + self.after[axis] if include_padding else size
            last = (self.results[axis] - 1) * self.strides[axis] - self.before[axis] + self.reach[axis]
            most = f"{k}" if last <= end else f"min({k}, ({end - 1} - {start}) / {d} + 1)"
            least = "0" if include_padding or not self.before[axis] else f"(max(-({start}), 0) + {d - 1}) / {d}"
            parts.append(most if least == "0" else f"({most} - {least})")
        numbers = [int(p) for p in parts if p.isdecimal()]
        rest = [p for p in parts if not p.isdecimal()]
        return f"f32({' * '.join([*rest, *([str(prod(numbers))] if prod(numbers) != 1 or not rest else [])])})"


def _pool(w: Writer) -> None:
    """A thread for each result."""
    e, shader = w.root, w.shader
    window, kind, name = Window(e), e.kind_of(0), e.node.op_type.removeprefix("Global")
    batch, channel, *at = shader.subscript(w.a_thread_each(prod(e.shape)), e.shape)
    power = e.literal(e.integer("p", 2), "f32")
    start = shader.literal(LEAST[kind], kind) if name == "MaxPool" else shader.literal(0, kind)
    shader.line(f"var sum = {start};")
    with ExitStack() as loops:
        place: list[Index] = []
        for axis, size in enumerate(window.sizes):
            step = shader.name("k")
            loops.enter_context(shader.block(f"for (var {step} = 0; {step} < {window.kernel[axis]}; {step}++)"))
            i = shader.index(add(window.first(at, axis), mul(step, window.dilations[axis])))
            if not window.stays_inside(axis):
                shader.line(f"if ({i} < 0 || {i} >= {size}) {{ continue; }}")
            place.append(i)
        x = e.input(0, (batch, channel, *place))
        term = {"MaxPool": f"max(sum, {x})", "AveragePool": f"sum + {x}", "LpPool": f"sum + pow(abs({x}), {power})"}
        shader.line(f"sum = {term[name]};")
    text = "sum"
    if name == "AveragePool":
        text = f"sum / {window.count(at, bool(e.integer('count_include_pad', 0)))}"
    elif name == "LpPool":
        text = f"pow(sum, 1.0 / {power})"
    w.store((batch, channel, *at), text)


@kernel("MaxPool", "AveragePool", "LpPool", "GlobalLpPool", reads_often=True, applies=only_first_output)
def pool(node: ir.Node) -> list[Form]:
    """A thread for each result."""
    return [_pool]


def _lrn(w: Writer) -> None:
    """Y = x/(bias + alpha/size·Σx²)^beta over a window of channels."""
    e, shader = w.root, w.shader
    size = e.integer("size", 1)
    at = shader.subscript(w.a_thread_each(prod(e.shape)), e.shape)
    batch, channel, *rest = at
    shader.line("var sum = 0.0;")
    first, last = f"max({channel} - {(size - 1) // 2}, 0)", f"min({channel} + {size // 2}, {e.shape[1] - 1})"
    with shader.block(f"for (var k = {first}; k <= {last}; k++)"):
        x = e.input(0, (batch, "k", *rest))
        shader.line(f"sum += {x} * {x};")
    alpha, beta, bias = e.number("alpha", 1e-4), e.number("beta", 0.75), e.number("bias", 1.0)
    base = f"{e.literal(bias)} + {e.literal(alpha / size)} * sum"
    w.store(at, f"{e.input(0, at)} / pow({base}, {e.literal(beta)})")


@kernel("LRN", reads_often=True, applies=lambda node: len(shape_of(node.outputs[0])) > 1)
def lrn(node: ir.Node) -> list[Form]:
    """A thread for each result."""
    return [_lrn]
