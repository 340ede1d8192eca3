"""Recurrent layers: all steps of a sequence in one dispatch, a workgroup for each sequence and direction.

What depends on the inputs alone was multiplied before, for all steps at once. The state lies in the workgroup's memory;
in each step its threads share the sums of the gates, wait for each other, and share the units. The result is every
step's state, then the last state, then the last cell (LSTM).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from ..expression import Element, shape_of
from ..index import add
from ..limits import Limits
from ..operators.elementwise import call
from .registry import Form, kernel
from .writer import Writer

DOMAIN = "ai.tamago"
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}  # in this order: i o f c, z r h
ARRAYS = {"LSTM": 6, "GRU": 5, "RNN": 2}  # of the workgroup's memory, each a number for each unit
X, WEIGHT, STATE, LENGTHS, CELL, PEEPHOLE, BIAS = range(7)  # inputs
AT_ONCE = 4  # products of a turn

Function = Callable[[Element, str, str, str], str]
# Activations by ONNX's names, from an argument, alpha and beta; what alpha and beta are unless they are said.
FUNCTIONS: dict[str, tuple[Function, float | None, float | None]] = {
    "Sigmoid": (lambda e, x, a, b: call(e, "sigmoid", x), None, None),
    "Tanh": (lambda e, x, a, b: call(e, "tanh_", x), None, None),
    "Relu": (lambda e, x, a, b: f"max({x}, 0.0)", None, None),
    "Softsign": (lambda e, x, a, b: f"({x} / (1.0 + abs({x})))", None, None),
    "Softplus": (lambda e, x, a, b: call(e, "softplus", x), None, None),
    "Affine": (lambda e, x, a, b: f"({a} * {x} + {b})", 1.0, 0.0),
    "LeakyRelu": (lambda e, x, a, b: f"select({a} * {x}, {x}, {x} >= 0.0)", 0.01, None),
    "ThresholdedRelu": (lambda e, x, a, b: f"select(0.0, {x}, {x} > {a})", 1.0, None),
    "ScaledTanh": (lambda e, x, a, b: f"({a} * {call(e, 'tanh_', f'{b} * {x}')})", 1.0, 1.0),
    "HardSigmoid": (lambda e, x, a, b: f"clamp({a} * {x} + {b}, 0.0, 1.0)", 0.2, 0.5),
    "Elu": (lambda e, x, a, b: f"select({a} * (exp({x}) - 1.0), {x}, {x} >= 0.0)", 1.0, None),
}


@dataclass(frozen=True)
class Activation:
    """A function of a gate, by ONNX's name."""

    name: str
    alpha: float
    beta: float


def fits(kind: str, hidden: int) -> bool:
    """Whether a layer's state lies in the workgroup's memory of every device."""
    return 4 * ARRAYS[kind] * hidden <= Limits().memory


class _Layer:
    """State of one kernel."""

    def __init__(self, w: Writer, threads: int) -> None:
        self.w, self.e, self.shader, self.threads = w, w.root, w.shader, threads
        e = self.e
        self.kind = e.text("kind", "")
        self.steps, self.batch, self.directions, _ = e.shape_of(X)
        self.hidden = e.shape_of(WEIGHT)[1]
        names, numbers = e.attribute("activations"), e.attribute("numbers")
        assert isinstance(names, (tuple, list))
        assert isinstance(numbers, (tuple, list))
        found = [
            Activation(str(name), float(numbers[2 * i]), float(numbers[2 * i + 1]))
            for i, name in enumerate(names)  # pyright: ignore
        ]
        each = len(found) // self.directions
        self.functions = [found[d * each : (d + 1) * each] for d in range(self.directions)]
        self.backward = e.integers("backward")
        self.clip = e.number("clip", 0.0)
        self.reset_last = bool(e.integer("linear_before_reset", 0))

    # --- pieces -----------------------------------------------------------------------------------------------

    def active(self, number: int, text: str, *, clipped: bool = True) -> str:
        """The value of an activation function, by its number."""
        e = self.e
        clips = self.clip and clipped
        x = self.shader.let(f"clamp({text}, {e.literal(-self.clip)}, {e.literal(self.clip)})" if clips else text)
        values: list[str] = []
        for functions in self.functions:
            one = functions[number]
            values.append(FUNCTIONS[one.name][0](e, x, e.literal(one.alpha), e.literal(one.beta)))
        if len(set(values)) == 1:
            return self.shader.let(values[0])
        return self.shader.let(f"select({values[1]}, {values[0]}, {self.direction} == 0)")

    def units(self, name: str, count: int, body: Callable[[str], None]) -> None:
        """Things that threads share; they wait for each other after it."""
        with self.shader.block(f"for (var {name} = t; {name} < {count}; {name} += {self.threads})"):
            body(name)
        self.shader.line("workgroupBarrier();")

    def weighed(self, array: str, column: str, start: str, depth: str = "k") -> str:
        """Start + Σ state·weight, for a column of the weights."""
        shader, step = self.shader, AT_ONCE if self.hidden % AT_ONCE == 0 else 1
        total = shader.name("sum")
        shader.line(f"var {total} = {start};")
        with shader.block(f"for (var {depth} = 0; {depth} < {self.hidden}; {depth} += {step})"):
            at = [shader.index(add(depth, i)) for i in range(step)]
            weights = [shader.let(self.e.input(WEIGHT, (self.direction, k, column))) for k in at]
            terms = " + ".join(f"{array}[{k}] * {x}" for k, x in zip(at, weights, strict=True))
            shader.line(f"{total} += {terms};")
        return total

    def given(self, step: str, column: str) -> str:
        """What the input contributes."""
        return self.e.input(X, (step, self.row, self.direction, column))

    # --- the kernel -------------------------------------------------------------------------------------------

    def write(self) -> None:
        """All of it."""
        w, e, shader, hidden = self.w, self.e, self.shader, self.hidden
        n = w.a_workgroup_each(self.directions * self.batch, self.threads)
        self.direction, self.row = (str(i) for i in shader.subscript(n, (self.directions, self.batch)))
        for name, count in self._arrays():
            w.shared(name, "f32", count * hidden)
        length = str(self.steps)
        if e.has(LENGTHS):
            length = shader.let(f"clamp(i32({e.input(LENGTHS, (self.row,))}), 0, {self.steps})", "length")

        def begin(j: str) -> None:
            place = (self.direction, self.row, j)
            shader.line(f"state[{j}] = {e.input(STATE, place) if e.has(STATE) else '0.0'};")
            if self.kind == "LSTM":
                shader.line(f"cell[{j}] = {e.input(CELL, place) if e.has(CELL) else '0.0'};")

        self.units("j", hidden, begin)
        with shader.block(f"for (var s = 0; s < {self.steps}; s++)"):
            inside = shader.let(f"s < {length}", "inside") if e.has(LENGTHS) else "true"
            self._step(shader.let(self._time(length, inside), "step"), inside)

        def end(j: str) -> None:
            w.store((self.steps, self.direction, self.row, j), f"state[{j}]")
            if self.kind == "LSTM":
                w.store((self.steps + 1, self.direction, self.row, j), f"cell[{j}]")

        self.units("j", hidden, end)

    def _arrays(self) -> Sequence[tuple[str, int]]:
        found = [("state", 1), ("gates", GATES[self.kind])]
        return [*found, ("cell", 1)] if self.kind == "LSTM" else [*found, ("reset", 1)] if self.kind == "GRU" else found

    def _time(self, length: str, inside: str) -> str:
        if not any(self.backward):
            return "s"
        back = f"{length} - 1 - s"
        here = "true" if all(self.backward) else f"{self.direction} == {self.backward.index(1)}"
        conditions = [c for c in (here, inside) if c != "true"]
        return f"select(s, {back}, {' && '.join(conditions)})" if conditions else back

    def _step(self, step: str, inside: str) -> None:
        write = {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[self.kind]
        write(step, inside)

    def _keep(self, j: str, step: str, inside: str, new: str) -> None:
        """A unit's new state; past the end of its sequence it stays, and the result is 0."""
        shader, place = self.shader, (step, self.direction, self.row, j)
        if inside == "true":
            shader.line(f"state[{j}] = {new};")
            self.w.store(place, new)
            return
        shader.line(f"state[{j}] = select(state[{j}], {new}, {inside});")
        self.w.store(place, f"select(0.0, {new}, {inside})")

    def _gates(self, count: int, step: str) -> None:
        """Sums of gates."""

        def gate(q: str) -> None:
            self.shader.line(f"gates[{q}] = {self.weighed('state', q, self.given(step, q))};")

        self.units("q", count * self.hidden, gate)

    def _rnn(self, step: str, inside: str) -> None:
        self._gates(1, step)
        self.units("j", self.hidden, lambda j: self._keep(j, step, inside, self.active(0, f"gates[{j}]")))

    def _lstm(self, step: str, inside: str) -> None:
        e, shader, size = self.e, self.shader, self.hidden
        self._gates(4, step)

        def peeped(gate: int, j: str, cell: str) -> str:
            text = f"gates[{j} + {gate * size}]" if gate else f"gates[{j}]"
            if not e.has(PEEPHOLE):
                return text
            at = (self.direction, shader.index(add(j, gate * size)))
            return f"{text} + {e.input(PEEPHOLE, at)} * {cell}"

        def unit(j: str) -> None:
            old = shader.let(f"cell[{j}]")
            i = self.active(0, peeped(0, j, old))
            f = f"(1.0 - {i})" if e.integer("input_forget", 0) else self.active(0, peeped(2, j, old))
            c = shader.let(f"{f} * {old} + {i} * {self.active(1, f'gates[{j} + {3 * size}]')}")
            o = self.active(0, peeped(1, j, c))
            # ONNX Runtime clips gates but not the cell, where the standard speaks of all arguments of activations.
            h = shader.let(f"{o} * {self.active(2, c, clipped=False)}")
            shader.line(f"cell[{j}] = {c if inside == 'true' else f'select({old}, {c}, {inside})'};")
            self._keep(j, step, inside, h)

        self.units("j", size, unit)

    def _gru(self, step: str, inside: str) -> None:
        e, shader, size = self.e, self.shader, self.hidden
        if self.reset_last:

            def gate(q: str) -> None:
                last = f"{q} >= {2 * size}"
                bias = (self.direction, shader.index(f"max({q} - {2 * size}, 0)"))
                start = e.when(last, lambda: e.input(BIAS, bias) if e.has(BIAS) else "0.0", lambda: self.given(step, q))
                shader.line(f"gates[{q}] = {self.weighed('state', q, start)};")

            self.units("q", 3 * size, gate)
        else:
            self._gates(2, step)

            def reset(j: str) -> None:
                shader.line(f"reset[{j}] = {self.active(0, f'gates[{j} + {size}]')} * state[{j}];")

            self.units("j", size, reset)

        def unit(j: str) -> None:
            column = str(shader.index(add(j, 2 * size)))
            given = self.given(step, column)
            if self.reset_last:
                inner = f"{given} + {self.active(0, f'gates[{j} + {size}]')} * gates[{column}]"
            else:
                inner = self.weighed("reset", column, given)
            new, z = self.active(1, inner), self.active(0, f"gates[{j}]")
            self._keep(j, step, inside, shader.let(f"(1.0 - {z}) * {new} + {z} * state[{j}]"))

        self.units("j", size, unit)


def _form(threads: int) -> Form:
    return lambda w: _Layer(w, threads).write()


@kernel("Recurrence", domain=DOMAIN, reads_often=True)
def recurrence(node: ir.Node) -> list[Form]:
    """With as many threads as there are sums, within what every device has."""
    weight = node.inputs[WEIGHT]
    assert weight is not None
    wanted = prod(shape_of(weight)[2:])
    sizes = [64, 128, 256]
    first = next((s for s in sizes if s >= wanted), sizes[-1])
    return [_form(first), *(_form(s) for s in sizes if s != first)]
