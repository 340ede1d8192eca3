"""RNN, GRU and LSTM: torch's own where it computes the same, else step by step.

Source: the ONNX operator specifications. Gate orders: LSTM `iofc` (torch `ifgo`), GRU `zrh` (torch `rzn`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .operation import Operation
from .registry import Unsupported, operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
# default alpha and beta; `None` takes nothing from the attribute's list
_PARAMETERS: dict[str, tuple[float | None, float | None]] = {
    "Affine": (1.0, 0.0),
    "Elu": (1.0, None),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01, None),
    "ScaledTanh": (1.0, 1.0),
    "ThresholdedRelu": (1.0, None),
}
_FUNCTIONS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "Affine": lambda x, alpha, beta: alpha * x + beta,
    "Elu": lambda x, alpha, _: functional.elu(x, alpha),
    "HardSigmoid": lambda x, alpha, beta: (alpha * x + beta).clamp(0.0, 1.0),
    "LeakyRelu": lambda x, alpha, _: functional.leaky_relu(x, alpha),
    "Relu": lambda x, _, __: torch.relu(x),
    "ScaledTanh": lambda x, alpha, beta: alpha * torch.tanh(beta * x),
    "Sigmoid": lambda x, _, __: torch.sigmoid(x),
    "Softplus": lambda x, _, __: functional.softplus(x),
    "Softsign": lambda x, _, __: functional.softsign(x),
    "Tanh": lambda x, _, __: torch.tanh(x),
    "ThresholdedRelu": lambda x, alpha, _: functional.threshold(x, alpha, 0.0),
}

Activation = tuple[str, float, float]


@operator("RNN", "GRU", "LSTM")
def recurrent(
    op: Operation,
    x: Tensor,
    weights: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    hidden: Tensor | None = None,
    cell: Tensor | None = None,
    peepholes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """All hidden states (time, direction, batch, hidden), the last one, and for LSTM the last cell."""
    kind, direction = op.node.op_type, op.attribute("direction", "forward")
    directions = 2 if direction == "bidirectional" else 1
    chosen = activations(op, directions)
    clip, layout = op.attribute("clip", 0.0), op.attribute("layout", 0)
    standard = [name for name, _, _ in chosen] == _DEFAULTS[kind] * directions
    standard = standard and lengths is None and peepholes is None and not clip and not op.attribute("input_forget", 0)
    if standard and not (kind == "GRU" and not op.attribute("linear_before_reset", 0)):
        found = op.call(by_torch, kind, x, weights, recurrence, bias, hidden, cell, direction, layout)
    else:
        found = op.call(
            by_steps,
            kind,
            x,
            (weights, recurrence, bias, peepholes),
            lengths,
            (hidden, cell),
            direction,
            layout,
            chosen,
            clip,
            bool(op.attribute("linear_before_reset", 0)),
            bool(op.attribute("input_forget", 0)),
        )
    return tuple(found[index] for index in range(3 if kind == "LSTM" else 2))


def activations(op: Operation, directions: int) -> list[Activation]:
    """Each activation with its alpha and beta, which are dealt out in order to those that take one."""
    names = op.numbers("activations") or _DEFAULTS[op.node.op_type] * directions
    alphas, betas = list(op.numbers("activation_alpha") or []), list(op.numbers("activation_beta") or [])
    result: list[Activation] = []
    for name in names:
        name = next((known for known in _FUNCTIONS if known.lower() == str(name).lower()), None)
        if name is None:
            raise Unsupported("unknown activation function")
        alpha, beta = _PARAMETERS.get(name, (None, None))
        if alpha is not None and alphas:
            alpha = alphas.pop(0)
        if beta is not None and betas:
            beta = betas.pop(0)
        result.append((name, alpha or 0.0, beta or 0.0))
    return result


def activation_function(name: str, parameters: list[float]) -> Callable[[Tensor], Tensor]:
    """An activation by its ONNX name, with its alpha and beta where given."""
    if name not in _FUNCTIONS:
        raise Unsupported(f"activation {name!r} is not known")
    alpha, beta = _PARAMETERS.get(name, (None, None))
    alpha = parameters[0] if parameters else alpha or 0.0
    beta = parameters[1] if len(parameters) > 1 else beta or 0.0
    return lambda x: _FUNCTIONS[name](x, alpha, beta)


def reordered(kind: str, packed: Tensor) -> Tensor:
    """Gates stacked in ONNX's order, in torch's."""
    if kind == "RNN":
        return packed
    gates = packed.chunk(_GATES[kind])
    order = (0, 2, 3, 1) if kind == "LSTM" else (1, 0, 2)
    return torch.cat([gates[index] for index in order])


def by_torch(
    kind: str,
    x: Tensor,
    weights: Tensor,
    recurrence: Tensor,
    bias: Tensor | None,
    hidden: Tensor | None,
    cell: Tensor | None,
    direction: str,
    layout: int,
) -> tuple[Tensor, ...]:
    """The layer by `torch.lstm`, `torch.gru` or `torch.rnn_tanh`."""
    directions = weights.shape[0]
    if layout:
        x = x.transpose(0, 1)
        hidden = None if hidden is None else hidden.transpose(0, 1)
        cell = None if cell is None else cell.transpose(0, 1)
    parameters: list[Tensor] = []
    for index in range(directions):
        parameters += [reordered(kind, weights[index]), reordered(kind, recurrence[index])]
        if bias is not None:
            parameters += [reordered(kind, part) for part in bias[index].chunk(2)]
    size = recurrence.shape[-1]
    blank = torch.zeros(directions, x.shape[1], size, dtype=x.dtype, device=x.device)
    state = [(blank if part is None else part).contiguous() for part in (hidden, cell)]
    backward = direction == "reverse"
    source = x.flip(0) if backward else x
    settings = (parameters, bias is not None, 1, 0.0, False, directions == 2, False)
    if kind == "LSTM":
        y, *last = torch.lstm(source, state, *settings)
    else:
        y, *last = (torch.gru if kind == "GRU" else torch.rnn_tanh)(source, state[0], *settings)
    y = y.flip(0) if backward else y
    y = y.reshape(y.shape[0], y.shape[1], directions, size).transpose(1, 2)
    return arranged(y, last, layout)


def by_steps(
    kind: str,
    x: Tensor,
    parameters: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    lengths: Tensor | None,
    states: tuple[Tensor | None, Tensor | None],
    direction: str,
    layout: int,
    chosen: list[Activation],
    clip: float,
    linear_before_reset: bool,
    input_forget: bool,
) -> tuple[Tensor, ...]:
    """The layer written out in time, for what torch's own layers lack."""
    weights, recurrence, bias, peepholes = parameters
    if layout:
        x = x.transpose(0, 1)
        states = (
            None if states[0] is None else states[0].transpose(0, 1),
            None if states[1] is None else states[1].transpose(0, 1),
        )
    directions, size, gates = weights.shape[0], recurrence.shape[-1], _GATES[kind]
    outputs: list[Tensor] = []
    finals: list[list[Tensor]] = []
    for index in range(directions):
        own = chosen[index * (len(chosen) // directions) :]
        # like ONNX Runtime, the cell's own activation (the third of an LSTM) is not clipped
        functions = [bounded(activation, 0.0 if place == 2 else clip) for place, activation in enumerate(own)]
        blank = torch.zeros(x.shape[1], size, dtype=x.dtype, device=x.device)
        state = [blank if part is None else part[index] for part in states]
        offset = bias[index] if bias is not None else torch.zeros(2 * gates * size, dtype=x.dtype, device=x.device)
        input_bias, state_bias = offset.chunk(2)
        projected = torch.matmul(x, weights[index].t()) + input_bias
        peephole = None if peepholes is None else peepholes[index].chunk(3)
        backward = direction == "reverse" or index == 1
        steps: list[Tensor] = []
        for time in reversed(range(x.shape[0])) if backward else range(x.shape[0]):
            if kind == "LSTM":
                new = lstm_step(
                    projected[time], state, recurrence[index], state_bias, functions, peephole, input_forget
                )
            elif kind == "GRU":
                new = gru_step(projected[time], state, recurrence[index], state_bias, functions, linear_before_reset)
            else:
                new = [functions[0](projected[time] + torch.matmul(state[0], recurrence[index].t()) + state_bias)]
            active = None if lengths is None else (time < lengths.to(x.device)).unsqueeze(1)
            steps.append(new[0] if active is None else torch.where(active, new[0], torch.zeros_like(new[0])))
            kept = zip(new, state, strict=False)
            state = new if active is None else [torch.where(active, fresh, old) for fresh, old in kept]
        outputs.append(torch.stack(list(reversed(steps)) if backward else steps))
        finals.append(state)
    last = [torch.stack(parts) for parts in zip(*finals, strict=True)]
    return arranged(torch.stack(outputs, 1), last, layout)


def lstm_step(
    projected: Tensor,
    state: list[Tensor],
    recurrence: Tensor,
    bias: Tensor,
    functions: list[Callable[[Tensor], Tensor]],
    peephole: tuple[Tensor, ...] | None,
    input_forget: bool,
) -> list[Tensor]:
    """One step of an LSTM: hidden state and cell."""
    hidden, cell = state
    i, o, f, c = (projected + torch.matmul(hidden, recurrence.t()) + bias).chunk(4, -1)
    i = functions[0](i if peephole is None else i + peephole[0] * cell)
    f = 1 - i if input_forget else functions[0](f if peephole is None else f + peephole[2] * cell)
    cell = f * cell + i * functions[1](c)
    o = functions[0](o if peephole is None else o + peephole[1] * cell)
    return [o * functions[2](cell), cell]


def gru_step(
    projected: Tensor,
    state: list[Tensor],
    recurrence: Tensor,
    bias: Tensor,
    functions: list[Callable[[Tensor], Tensor]],
    linear_before_reset: bool,
) -> list[Tensor]:
    """One step of a GRU."""
    hidden = state[0]
    size = hidden.shape[-1]
    gates = torch.matmul(hidden, recurrence[: 2 * size].t()) + bias[: 2 * size]
    z, r = (functions[0](gate) for gate in (projected[:, : 2 * size] + gates).chunk(2, -1))
    candidate = projected[:, 2 * size :]
    if linear_before_reset:
        inner = r * (torch.matmul(hidden, recurrence[2 * size :].t()) + bias[2 * size :])
    else:
        inner = torch.matmul(r * hidden, recurrence[2 * size :].t()) + bias[2 * size :]
    return [(1 - z) * functions[1](candidate + inner) + z * hidden]


def bounded(activation: Activation, clip: float) -> Callable[[Tensor], Tensor]:
    """The activation of an input limited to ±`clip`."""
    name, alpha, beta = activation
    function = _FUNCTIONS[name]
    return lambda x: function(x.clamp(-clip, clip) if clip else x, alpha, beta)


def arranged(y: Tensor, last: list[Tensor], layout: int) -> tuple[Tensor, ...]:
    """Outputs with the batch first when `layout` is 1."""
    if not layout:
        return (y, *last)
    return (y.permute(2, 0, 1, 3), *[part.transpose(0, 1) for part in last])
