"""If, Loop and Scan.

A sub-graph becomes a `GraphModule` of its own, and the node a call of one of the functions below: which branch, and
how often, is decided by Python when the program runs. Such a program runs and differentiates as any other;
`torch.export` and `torch.compile` can follow it only where the decision does not depend on data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from .operation import Operation
from .registry import Unsupported, operator

if TYPE_CHECKING:
    from torch import Tensor

Body = Callable[..., tuple[Any, ...]]


@operator("If", folds=False)
def if_(op: Operation, condition: Tensor) -> list[Any]:
    """One of two sub-graphs; written in place when the condition is known now."""
    branches = [op.node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    known = op.number(0)
    if known is not None:
        return list(op.scope.inline(branches[0] if known else branches[1]))
    then, then_captures = op.scope.subgraph(branches[0])
    otherwise, else_captures = op.scope.subgraph(branches[1])
    found = op.call(run_if, condition, then, then_captures, otherwise, else_captures)
    return [found[index] for index in range(len(op.node.outputs))]


@operator("Loop", folds=False)
def loop(op: Operation, trips: Tensor | None = None, condition: Tensor | None = None, *initial: Any) -> list[Any]:
    """A body repeated a number of times or while a condition holds; values of each round are stacked."""
    graph = op.node.attributes["body"].as_graph()
    body, captures = op.scope.subgraph(graph)
    scans = [template(value) for value in graph.outputs[1 + len(initial) :]]
    known = op.fixed(0)
    rounds = trips if known is None else known[0]
    found = op.call(run_loop, rounds, condition, list(initial), body, captures, scans, op.device)
    return [found[index] for index in range(len(op.node.outputs))]


@operator("Scan", folds=False)
def scan(op: Operation, *inputs: Tensor | None) -> list[Any]:
    """A body run along an axis of its inputs."""
    graph = op.node.attributes["body"].as_graph()
    body, captures = op.scope.subgraph(graph)
    count = op.required("num_scan_inputs")
    if op.version < 9:
        if inputs[0] is not None:
            raise Unsupported("sequence lengths of Scan-8")
        directions = op.numbers("directions") or [0] * count
        found = op.call(run_batched_scan, list(inputs[1:]), count, body, captures, directions)
        return [found[index] for index in range(len(op.node.outputs))]
    outputs = len(op.node.outputs) - (len(inputs) - count)
    spec = (
        op.numbers("scan_input_axes") or [0] * count,
        op.numbers("scan_input_directions") or [0] * count,
        op.numbers("scan_output_axes") or [0] * outputs,
        op.numbers("scan_output_directions") or [0] * outputs,
    )
    found = op.call(run_scan, list(inputs), count, body, captures, *spec)
    return [found[index] for index in range(len(op.node.outputs))]


def template(value: Any) -> tuple[torch.dtype, list[int]]:
    """Type and shape of one element of a stacked output, for loops that never run."""
    from .dtypes import torch_dtype

    dims = [] if value.shape is None else [dim if isinstance(dim, int) else 0 for dim in value.shape.dims]
    return (torch.float32 if value.dtype is None else torch_dtype(value.dtype)), dims


def run_if(condition: Tensor, then: Body, then_captures: list[Any], otherwise: Body, else_captures: list[Any]) -> Any:
    """Call one of two branches."""
    return then(*then_captures) if bool(condition) else otherwise(*else_captures)


def run_loop(
    trips: Tensor | int | None,
    condition: Tensor | None,
    state: list[Any],
    body: Body,
    captures: list[Any],
    scans: list[tuple[torch.dtype, list[int]]],
    device: torch.device,
) -> list[Any]:
    """Call a body `(round, condition, *state) -> (condition, *state, *values)` again and again."""
    limit = None if trips is None else int(trips)
    going = condition is None or bool(condition)
    rounds, count = 0, len(state)
    rows: list[tuple[Any, ...]] = []
    while going and (limit is None or rounds < limit):
        index = torch.tensor(rounds, device=device)
        result = body(index, torch.tensor(True, device=device), *state, *captures)
        going, state = bool(result[0]), list(result[1 : 1 + count])
        rows.append(result[1 + count :])
        rounds += 1
    if not rows:
        return state + [torch.empty(0, *dims, dtype=dtype, device=device) for dtype, dims in scans]
    return state + [torch.stack(column) for column in zip(*rows, strict=True)]


def run_scan(
    inputs: list[Tensor],
    count: int,
    body: Body,
    captures: list[Any],
    input_axes: list[int],
    input_directions: list[int],
    output_axes: list[int],
    output_directions: list[int],
) -> list[Tensor]:
    """Call a body `(*state, *slices) -> (*state, *values)` along the axes of the last `count` inputs."""
    split = len(inputs) - count
    state = inputs[:split]
    columns = [x.unbind(axis) for x, axis in zip(inputs[split:], input_axes, strict=True)]
    columns = [tuple(reversed(c)) if backward else c for c, backward in zip(columns, input_directions, strict=True)]
    rows: list[tuple[Tensor, ...]] = []
    for slices in zip(*columns, strict=True):
        result = body(*state, *slices, *captures)
        state = list(result[:split])
        rows.append(result[split:])
    stacked: list[Tensor] = []
    for column, axis, backward in zip(zip(*rows, strict=True), output_axes, output_directions, strict=True):
        stacked.append(torch.stack(tuple(reversed(column)) if backward else column, axis))
    return state + stacked


def run_batched_scan(inputs: list[Tensor], count: int, body: Body, captures: list[Any], directions: list[int]) -> Any:
    """Scan-8: every input has the batch first and, when scanned, the sequence second."""
    zeros = [0] * count
    samples: list[list[Tensor]] = []
    for sample in zip(*(x.unbind(0) for x in inputs), strict=True):
        outputs = len(body(*sample[: len(inputs) - count], *(x[0] for x in sample[len(inputs) - count :]), *captures))
        outputs -= len(inputs) - count
        samples.append(run_scan(list(sample), count, body, captures, zeros, directions, [0] * outputs, [0] * outputs))
    return [torch.stack(column) for column in zip(*samples, strict=True)]
