"""Recurrent layers (LSTM, GRU, RNN): kept whole while tracing, and translated to ONNX's operators of the same names.

torch.export writes a recurrent layer out step by step as soon as a dimension is dynamic, and so fixes the length of
the sequence. Here it stays one opaque operator, `tamago::lstm` and so on, whose shapes torch can follow.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from onnxscript import opset18

if TYPE_CHECKING:
    import torch

op: Any = opset18  # its own types describe eager arrays, not the values of a graph under construction

_SCHEMA = (
    "(Tensor input, {state} hx, Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, "
    "bool bidirectional, bool batch_first) -> (Tensor, Tensor{cell})"
)

# torch's name -> (ONNX operator, torch's gates in ONNX's order, further attributes)
_LAYERS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "lstm": ("LSTM", (0, 3, 1, 2), {}),  # i f g o -> i o f c
    # torch multiplies by the reset gate after the recurrent product: Cho et al. 2014, as cuDNN computes it.
    "gru": ("GRU", (1, 0, 2), {"linear_before_reset": 1}),  # r z n -> z r h
    "rnn_tanh": ("RNN", (0,), {"activations": ["Tanh"]}),
    "rnn_relu": ("RNN", (0,), {"activations": ["Relu"]}),
}


@contextmanager
def recurrent_layers_kept() -> Generator[None]:
    """While this lasts, torch follows the shapes of a recurrent layer without writing it out."""
    import torch
    from torch._decomp import decomposition_table

    key = torch._C.DispatchKey.CompositeImplicitAutograd
    layers = [(getattr(torch.ops.aten, name).input, opaque_operator(name)) for name in _LAYERS]
    with ExitStack() as stack:
        for layer, opaque in layers:
            stack.callback(layer._dispatch_cache.clear)
            stack.enter_context(_set_for_now(layer.py_kernels, key, opaque))
            # Where a size is a symbol, torch looks here for the shapes, whatever the dispatcher says.
            stack.enter_context(_set_for_now(decomposition_table, layer, opaque))
            layer._dispatch_cache.clear()
        yield


@contextmanager
def _set_for_now(table: Any, key: Any, value: Any) -> Generator[None]:
    before = table.get(key)
    table[key] = value
    try:
        yield
    finally:
        table.pop(key, None)
        if before is not None:
            table[key] = before


@cache
def opaque_operator(name: str) -> Any:
    """The operator `tamago::<name>` with the schema and the shapes of torch's layer of that name."""
    import torch

    def compute(*args: Any) -> Any:
        return getattr(torch.ops.aten, name).input(*args)

    def infer(input: torch.Tensor, hx: Any, *flags: Any) -> Any:
        bidirectional = flags[5]
        states = list(hx) if name == "lstm" else [hx]
        width = states[0].shape[2] * (2 if bidirectional else 1)
        return (input.new_empty([*input.shape[:2], width]), *(state.new_empty(state.shape) for state in states))

    kinds = {"state": "Tensor[]", "cell": ", Tensor"} if name == "lstm" else {"state": "Tensor", "cell": ""}
    operator = torch.library.custom_op(f"tamago::{name}", compute, mutates_args=(), schema=_SCHEMA.format(**kinds))
    operator.register_fake(infer)
    return getattr(torch.ops.tamago, name).default


def translations() -> dict[Any, Callable[..., Any]]:
    """The function that builds the ONNX form of each recurrent layer, kept whole by us or by torch."""
    import torch

    table: dict[Any, Callable[..., Any]] = {}
    for name in _LAYERS:
        table[getattr(torch.ops.aten, name).input] = _translation(name)
        table[opaque_operator(name)] = _translation(name)
    return table


def _translation(name: str) -> Callable[..., Any]:
    def translate(
        input: Any,
        hx: Any,
        params: Sequence[Any],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Any:
        del dropout, train  # `check_program` let only evaluation mode through
        return _layers(name, input, hx, params, has_biases, num_layers, bidirectional, batch_first)

    translate.__name__ = name
    return translate


def _layers(
    name: str,
    x: Any,
    hx: Any,
    params: Sequence[Any],
    has_biases: bool,
    layers: int,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    operator, gates, attributes = _LAYERS[name]
    states = list(hx) if name == "lstm" else [hx]
    directions = 2 if bidirectional else 1
    each = 4 if has_biases else 2
    if len(params) != each * directions * layers:
        raise NotImplementedError("an LSTM with proj_size has no ONNX form")
    if bidirectional and "activations" in attributes:
        attributes = {"activations": attributes["activations"] * 2}
    hidden = states[0].shape[2]
    finals: list[list[Any]] = [[] for _ in states]
    x = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    for layer in range(layers):
        first = layer * directions
        own = [params[each * (first + d) : each * (first + d + 1)] for d in range(directions)]
        initial = [_part(state, first, directions, layers) for state in states]
        w, r = (_stack([_reorder(p[k], gates) for p in own]) for k in (0, 1))
        b = _stack([_biases(p[2], p[3], gates) for p in own]) if has_biases else None
        out = getattr(op, operator)(
            x,
            w,
            r,
            b,
            None,
            *initial,
            hidden_size=hidden,
            direction="bidirectional" if bidirectional else "forward",
            **attributes,
        )
        # [T, directions, N, H] -> [T, N, directions·H]
        x = op.Reshape(op.Transpose(out[0], perm=[0, 2, 1, 3]), op.Constant(value_ints=[0, 0, -1]))
        for final, state in zip(finals, out[1:], strict=False):
            final.append(state)
    x = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    return (x, *(op.Concat(*final, axis=0) if layers > 1 else final[0] for final in finals))


def _part(state: Any, first: int, directions: int, layers: int) -> Any:
    if layers == 1:
        return state
    ends = ([first], [first + directions], [0])
    return op.Slice(state, *(op.Constant(value_ints=value) for value in ends))


def _reorder(weight: Any, gates: tuple[int, ...]) -> Any:
    """Rows of a weight, one block for each gate, in ONNX's order."""
    if len(gates) == 1:
        return weight
    blocks = op.Split(weight, num_outputs=len(gates), axis=0)
    return op.Concat(*(blocks[gate] for gate in gates), axis=0)


def _biases(of_input: Any, of_state: Any, gates: tuple[int, ...]) -> Any:
    return op.Concat(_reorder(of_input, gates), _reorder(of_state, gates), axis=0)


def _stack(parts: list[Any]) -> Any:
    """The directions as a new first axis."""
    raised = [op.Unsqueeze(part, op.Constant(value_ints=[0])) for part in parts]
    return op.Concat(*raised, axis=0) if len(raised) > 1 else raised[0]
