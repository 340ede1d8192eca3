"""LSTM, GRU and RNN: what the inputs contribute as one product for all steps, then the steps.

The steps are one kernel (`kernels/recurrence.py`) where the state fits a workgroup's memory. A few steps of a larger
layer are written out (`recurrent_steps.py`): each is a product that keeps a whole device busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ...compiler.ir import dims
from .definitions import DOMAIN, Body, define
from .kernels.recurrence import FUNCTIONS, GATES, fits
from .recurrent_steps import Steps, kind_of, sizes_of

FEW = 16  # steps that are written out
DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
SPELLED = {name.lower(): name for name in FUNCTIONS}  # runtimes take any case


@define("LSTM", "GRU", "RNN")
def recurrent(body: Body) -> tuple[ir.Value, ...] | None:
    """All outputs; None where sizes are not known or an activation is none of ONNX's."""
    node = body.node
    weight, state = dims(body.given(1)), dims(body.given(2))
    given, activations = dims(body.given(0)), _activations(body)
    if weight is None or state is None or given is None or activations is None:
        return None
    sizes = (*given, *weight, *state)
    if not all(isinstance(d, int) for d in sizes):
        return None
    layer = Recurrent(body, activations)
    if fits(node.op_type, layer.hidden):
        return layer.in_one_kernel()
    return layer.step_by_step() if layer.steps <= FEW and body.input(4) is None else None


def _activations(body: Body) -> list[tuple[str, float, float]] | None:
    """Names with alpha and beta, for each direction in turn."""
    count = 2 if _text(body, "direction", "forward") == "bidirectional" else 1
    names = body.attribute("activations", None)
    chosen = [str(n) for n in names] if isinstance(names, (tuple, list)) else list(DEFAULTS[body.node.op_type]) * count  # pyright: ignore
    given = [_numbers(body, f"activation_{which}") for which in ("alpha", "beta")]
    found: list[tuple[str, float, float]] = []
    for name in (SPELLED.get(n.lower()) for n in chosen):
        if name is None:
            return None
        # Numbers are for those functions that take one, in their order.
        numbers = [0.0 if d is None else g.pop(0) if g else d for d, g in zip(FUNCTIONS[name][1:], given, strict=True)]
        found.append((name, numbers[0], numbers[1]))
    return found if len(found) == count * len(DEFAULTS[body.node.op_type]) else None


def _text(body: Body, name: str, default: str) -> str:
    return str(body.attribute(name, default))


def _numbers(body: Body, name: str) -> list[float]:
    found = body.attribute(name, ())
    assert isinstance(found, (tuple, list))
    return [float(n) for n in found]  # pyright: ignore


class Recurrent:
    """One layer being written.

    Args:
        body: where.
        activations: names with alpha and beta.
    """

    def __init__(self, body: Body, activations: Sequence[tuple[str, float, float]]) -> None:
        self.body, self.activations, self.kind = body, activations, body.node.op_type
        self.turned = bool(body.attribute("layout", 0))
        shape = [int(str(d)) for d in dims(body.given(0)) or ()]
        self.batch, self.steps = shape[:2] if self.turned else (shape[1], shape[0])
        self.directions, rows, self.inputs = (int(str(d)) for d in dims(body.given(1)) or ())
        self.gates = GATES[self.kind]
        self.hidden = rows // self.gates
        direction = _text(body, "direction", "forward")
        self.backward = [0, 1] if direction == "bidirectional" else [int(direction == "reverse")]
        self.reset_last = self.kind == "GRU" and bool(body.attribute("linear_before_reset", 0))

    def op(self, name: str, *inputs: ir.Value | None, shape: Sequence[int], **more: Any) -> ir.Value:
        """The result of one more operator, of this shape."""
        found = self.body.op(name, *inputs, **more)
        found.type, found.shape = ir.TensorType(self.body.given(0).dtype or ir.DataType.FLOAT), ir.Shape(shape)
        return found

    def numbers(self, *values: int) -> ir.Value:
        """A list of integers."""
        return self.body.constant(np.asarray(values, np.int64))

    def reshaped(self, value: ir.Value, *shape: int) -> ir.Value:
        """The same elements in another shape."""
        return self.op("Reshape", value, self.numbers(*shape), shape=shape)

    def cut(self, value: ir.Value, axis: int, start: int, end: int) -> ir.Value:
        """Places of an axis."""
        assert value.shape is not None
        shape = [end - start if a == axis else int(d) for a, d in enumerate(value.shape.numpy())]
        return self.op("Slice", value, *(self.numbers(n) for n in (start, end, axis)), shape=shape)

    # --- operands ---------------------------------------------------------------------------------------------

    def projected(self) -> ir.Value:
        """What the inputs contribute to all gates, biases added: (steps, batch, directions, gates·hidden)."""
        body, x, wide = self.body, self.body.given(0), self.gates * self.hidden
        if self.turned:
            x = self.op("Transpose", x, perm=[1, 0, 2], shape=(self.steps, self.batch, self.inputs))
        rows = self.reshaped(body.given(1), self.directions * wide, self.inputs)
        weight = self.op("Transpose", rows, perm=[1, 0], shape=(self.inputs, self.directions * wide))
        found = self.op("MatMul", x, weight, shape=(self.steps, self.batch, self.directions * wide))
        bias = body.input(3)
        if bias is not None:
            ours = self.cut(bias, 1, 0, wide)
            whole = wide - self.hidden if self.reset_last else wide  # the last gate's is added before it is reset
            theirs = self.cut(bias, 1, wide, wide + whole)
            if self.reset_last:
                nothing = body.constant(np.zeros((self.directions, self.hidden), kind_of(bias)))
                theirs = self.op("Concat", theirs, nothing, axis=1, shape=(self.directions, wide))
            both = self.op("Add", ours, theirs, shape=(self.directions, wide))
            found = self.op("Add", found, self.reshaped(both, self.directions * wide), shape=sizes_of(found))
        return self.reshaped(found, self.steps, self.batch, self.directions, wide)

    def first(self, number: int) -> ir.Value | None:
        """A state before the first step, (directions, batch, hidden)."""
        value = self.body.input(number)
        if value is None or not self.turned:
            return value
        return self.op("Transpose", value, perm=[1, 0, 2], shape=(self.directions, self.batch, self.hidden))

    # --- results ----------------------------------------------------------------------------------------------

    def in_one_kernel(self) -> tuple[ir.Value, ...]:
        """All outputs, from one buffer that holds every state, the last one, and the last cell."""
        body, wide = self.body, self.gates * self.hidden
        weight = self.op("Transpose", body.given(2), perm=[0, 2, 1], shape=(self.directions, self.hidden, wide))
        peephole, bias = body.input(7) if self.kind == "LSTM" else None, body.input(3)
        cell = self.first(6) if self.kind == "LSTM" else None
        last = self.cut(bias, 1, 2 * wide - self.hidden, 2 * wide) if bias is not None and self.reset_last else None
        states = 2 if self.kind == "LSTM" else 1
        found = self.op(
            "Recurrence",
            *(self.projected(), weight, self.first(5), body.input(4), cell, peephole, last),
            domain=DOMAIN,
            shape=(self.steps + states, self.directions, self.batch, self.hidden),
            kind=self.kind,
            activations=tuple(name for name, _, _ in self.activations),
            numbers=tuple(n for _, alpha, beta in self.activations for n in (alpha, beta)),
            backward=self.backward,
            clip=float(str(body.attribute("clip", 0.0))),
            input_forget=int(str(body.attribute("input_forget", 0))),
            linear_before_reset=int(self.reset_last),
        )
        every = self.cut(found, 0, 0, self.steps)
        ends = [
            self.reshaped(self.cut(found, 0, self.steps + i, self.steps + i + 1), *sizes_of(found)[1:])
            for i in range(states)
        ]
        return self._results(every, ends)

    def step_by_step(self) -> tuple[ir.Value, ...]:
        """All outputs, every step a product of the state and what follows it."""
        given = self.projected()
        lines: list[ir.Value] = []
        ends: list[tuple[ir.Value, ...]] = []
        for d in range(self.directions):
            order = range(self.steps)[:: -1 if self.backward[d] else 1]
            every, last = Steps(self, d, given).run(order)
            lines.append(self._joined([every[step] for step in range(self.steps)], 0, lead=2))
            ends.append(last)
        results = [self._joined([end[i] for end in ends], 0, lead=1) for i in range(len(ends[0]))]
        return self._results(self._joined(lines, 1), results)

    def _joined(self, values: Sequence[ir.Value], axis: int, lead: int = 0) -> ir.Value:
        """Side by side, with so many axes in front first."""
        if lead:
            values = [self.reshaped(v, *(1,) * lead, *sizes_of(v)) for v in values]
        shape = [sum(sizes_of(v)[a] for v in values) if a == axis else s for a, s in enumerate(sizes_of(values[0]))]
        return values[0] if len(values) == 1 else self.op("Concat", *values, axis=axis, shape=shape)

    def _results(self, every: ir.Value, ends: Sequence[ir.Value]) -> tuple[ir.Value, ...]:
        """Outputs with their axes in the order that the node has them in."""
        if not self.turned:
            return every, *ends
        shape = tuple(sizes_of(every)[i] for i in (2, 0, 1, 3))
        turned = (self.batch, self.directions, self.hidden)
        ends = [self.op("Transpose", end, perm=[1, 0, 2], shape=turned) for end in ends]
        return self.op("Transpose", every, perm=[2, 0, 1, 3], shape=shape), *ends
