"""The steps of a recurrent layer as operators: a product of the state, and what follows it element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from .recurrent import Recurrent


def sizes_of(value: ir.Value) -> tuple[int, ...]:
    """Of a value whose shape is known."""
    assert value.shape is not None
    return tuple(int(d) for d in value.shape.numpy())


def kind_of(value: ir.Value) -> Any:
    """NumPy's type of a value's elements."""
    assert value.dtype is not None
    return value.dtype.numpy()


class Steps:
    """The steps of one direction, written out.

    Args:
        layer: whose.
        direction: which.
        given: what the inputs contribute, (steps, batch, directions, gates·hidden).
    """

    def __init__(self, layer: Recurrent, direction: int, given: ir.Value) -> None:
        self.layer, self.body, self.given, self.direction = layer, layer.body, given, direction
        self.shape = (layer.batch, layer.hidden)
        each = len(layer.activations) // layer.directions
        self.functions = layer.activations[direction * each : (direction + 1) * each]
        self.clip = float(str(self.body.attribute("clip", 0.0)))
        wide = layer.gates * layer.hidden
        own = layer.cut(self.body.given(2), 0, direction, direction + 1)
        self.weight = layer.op(
            "Transpose", layer.reshaped(own, wide, layer.hidden), perm=[1, 0], shape=(layer.hidden, wide)
        )

    def own(self, value: ir.Value | None) -> ir.Value | None:
        """What of a value of all directions is this one's."""
        if value is None:
            return None
        found = self.layer.cut(value, 0, self.direction, self.direction + 1)
        return self.layer.reshaped(found, *sizes_of(value)[1:])

    def op(self, name: str, *inputs: ir.Value, **more: Any) -> ir.Value:
        """An operator element by element."""
        return self.layer.op(name, *inputs, shape=self.shape, **more)

    def number(self, value: float) -> ir.Value:
        """A constant of the layer's type."""
        return self.body.constant(np.asarray(value, kind_of(self.body.given(0))))

    def product(self, state: ir.Value, start: int, end: int) -> ir.Value:
        """State·weight, for some gates."""
        size = self.layer.hidden
        weight = self.layer.cut(self.weight, 1, start * size, end * size)
        return self.layer.op("MatMul", state, weight, shape=(self.layer.batch, (end - start) * size))

    def gate(self, value: ir.Value, number: int) -> ir.Value:
        """One of several that lie side by side."""
        return self.layer.cut(value, 1, number * self.layer.hidden, (number + 1) * self.layer.hidden)

    def active(self, number: int, x: ir.Value, *, clipped: bool = True) -> ir.Value:
        """The value of an activation function, by its number."""
        name, alpha, beta = self.functions[number]
        if self.clip and clipped:
            x = self.op("Clip", x, self.number(-self.clip), self.number(self.clip))
        match name:
            case "Affine":
                return self.op("Add", self.op("Mul", x, self.number(alpha)), self.number(beta))
            case "ScaledTanh":
                return self.op("Mul", self.op("Tanh", self.op("Mul", x, self.number(beta))), self.number(alpha))
            case "HardSigmoid":
                return self.op(name, x, alpha=alpha, beta=beta)
            case "LeakyRelu" | "ThresholdedRelu" | "Elu":
                return self.op(name, x, alpha=alpha)
            case _:
                return self.op(name, x)

    def run(self, order: Sequence[int]) -> tuple[dict[int, ir.Value], tuple[ir.Value, ...]]:
        """The state of every step, and what is left at the end."""
        layer = self.layer
        nothing = self.body.constant(np.zeros(self.shape, kind_of(self.body.given(0))))
        state = self.own(layer.first(5)) or nothing
        cell = (self.own(layer.first(6)) or nothing) if layer.kind == "LSTM" else None
        found: dict[int, ir.Value] = {}
        for step in order:
            given = layer.cut(layer.cut(self.given, 0, step, step + 1), 2, self.direction, self.direction + 1)
            given = layer.reshaped(given, layer.batch, layer.gates * layer.hidden)
            if cell is not None:
                state, cell = self.lstm(given, state, cell)
            else:
                state = self.gru(given, state) if layer.kind == "GRU" else self.rnn(given, state)
            found[step] = state
        return found, (state,) if cell is None else (state, cell)

    def rnn(self, given: ir.Value, state: ir.Value) -> ir.Value:
        """The next state."""
        return self.active(0, self.op("Add", given, self.product(state, 0, 1)))

    def lstm(self, given: ir.Value, state: ir.Value, cell: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The next state and cell."""
        layer = self.layer
        sums = layer.op("Add", given, self.product(state, 0, 4), shape=sizes_of(given))
        peephole = self.own(self.body.input(7))

        def sum_of(gate: int, seen: ir.Value) -> ir.Value:
            found = self.gate(sums, gate)
            if peephole is None:
                return found
            own = layer.cut(peephole, 0, gate * layer.hidden, (gate + 1) * layer.hidden)
            return self.op("Add", found, self.op("Mul", own, seen))

        i = self.active(0, sum_of(0, cell))
        coupled = bool(self.body.attribute("input_forget", 0))
        f = self.op("Sub", self.number(1.0), i) if coupled else self.active(0, sum_of(2, cell))
        new = self.op("Mul", i, self.active(1, self.gate(sums, 3)))
        cell = self.op("Add", self.op("Mul", f, cell), new)
        o = self.active(0, sum_of(1, cell))
        return self.op("Mul", o, self.active(2, cell, clipped=False)), cell

    def gru(self, given: ir.Value, state: ir.Value) -> ir.Value:
        """The next state."""
        layer, last = self.layer, self.gate(given, 2)
        products = self.product(state, 0, 3 if layer.reset_last else 2)
        z, r = (self.active(0, self.op("Add", self.gate(given, g), self.gate(products, g))) for g in (0, 1))
        if layer.reset_last:
            inner, bias, wide = self.gate(products, 2), self.own(self.body.input(3)), 3 * layer.hidden
            if bias is not None:
                inner = self.op("Add", inner, layer.cut(bias, 0, 2 * wide - layer.hidden, 2 * wide))
            new = self.active(1, self.op("Add", last, self.op("Mul", r, inner)))
        else:
            new = self.active(1, self.op("Add", last, self.product(self.op("Mul", r, state), 2, 3)))
        kept = self.op("Mul", z, state)
        return self.op("Add", self.op("Mul", self.op("Sub", self.number(1.0), z), new), kept)
