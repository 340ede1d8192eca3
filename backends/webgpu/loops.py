"""Loops whose number of turns is known, turn after turn: a plan has no branches, and needs none for these."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...compiler.ir import constant_array, dims, op_name
from .definitions import Body, Fresh, replace

MOST_TURNS = 64
MOST_NODES = 4096  # that a loop may become


def unroll(graph: ir.Graph, version: int, fresh: Fresh) -> int:
    """Write out the loops of a graph that can be; of how many.

    Args:
        graph: types and shapes inferred, constants folded; changed in place.
        version: opset of the default domain.
        fresh: gives unused names.
    """
    count = 0
    for node in list(graph):
        write = {"Loop": _loop, "Scan": _scan if version >= 9 else None}.get(op_name(node))
        body = Body(node, fresh)
        found = None if write is None else write(_Turns(graph, body))
        if found is None:
            continue
        for value in body.constants:
            graph.register_initializer(value)
        results = tuple(body.op("Identity", value) for value in found)
        replace(graph, node, body.nodes, results)
        count += 1
    return count


class _Turns:
    """A loop being written out.

    Args:
        graph: where.
        body: of its nodes so far.
    """

    def __init__(self, graph: ir.Graph, body: Body) -> None:
        self.graph, self.body = graph, body
        self.inner = body.node.attributes["body"].as_graph()

    def allows(self, turns: int) -> bool:
        """Whether so many turns are few."""
        return turns <= MOST_TURNS and turns * sum(1 for _ in self.inner.all_nodes()) <= MOST_NODES

    def turn(self, operands: Sequence[ir.Value]) -> list[ir.Value]:
        """What the body makes of values."""
        fresh, copy = self.body.fresh, self.inner.clone(allow_outer_scope_values=True)
        given = dict(zip(copy.inputs, operands, strict=True))
        nodes, results = list(copy), list(copy.outputs)
        for value in list(copy.initializers.values()):
            del copy.initializers[value.name or ""]
            value.name = fresh(value.name or "constant")
            self.graph.register_initializer(value)
        copy.outputs.clear()
        copy.remove(nodes)
        for node in nodes:
            node.name = fresh(node.name or node.op_type)
            for value in node.outputs:
                value.name = fresh(value.name) if value.name else value.name
        for inner, value in given.items():
            inner.replace_all_uses_with(value)
        self.body.nodes += nodes
        return [given.get(value, value) for value in results]

    def stacked(self, values: Sequence[ir.Value], axis: int) -> ir.Value:
        """One beside the other along a new axis."""
        where = self.body.constant(np.asarray([axis], np.int64))
        parts = [self.body.op("Unsqueeze", value, where) for value in values]
        return parts[0] if len(parts) == 1 else self.body.op("Concat", *parts, axis=axis)


def _loop(turns: _Turns) -> list[ir.Value] | None:
    """Loop: as often as it says, where nothing else ends it."""
    body, inner = turns.body, turns.inner
    count, start = body.known(0), body.known(1)
    if count is None or (body.input(1) is not None and start is None) or not _goes_on(inner):
        return None
    times = int(count.reshape(-1)[0]) if start is None or bool(start.reshape(-1)[0]) else 0
    state = [v for v in body.node.inputs[2:] if v is not None]
    stacks: list[list[ir.Value]] = [[] for _ in inner.outputs[1 + len(state) :]]
    if not turns.allows(times) or (times < 1 and stacks) or len(inner.inputs) != 2 + len(state):
        return None
    yes = body.constant(np.asarray(True))
    for number in range(max(times, 0)):
        results = turns.turn([body.constant(np.asarray(number, np.int64)), yes, *state])
        state = results[1 : 1 + len(state)]
        for stack, value in zip(stacks, results[1 + len(state) :], strict=True):
            stack.append(value)
    return [*state, *(turns.stacked(stack, 0) for stack in stacks)]


def _goes_on(inner: ir.Graph) -> bool:
    """Whether a body's condition is the one it is given, or true."""
    value = inner.outputs[0]
    while (node := value.producer()) is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        value = node.inputs[0]
    if value is inner.inputs[1]:
        return True
    if node is not None and node.op_type == "Constant" and "value" in node.attributes:
        return bool(np.all(node.attributes["value"].as_tensor().numpy()))
    found = constant_array(value, 1)
    return found is not None and bool(np.all(found))


def _scan(turns: _Turns) -> list[ir.Value] | None:
    """Scan: once for each place of its inputs."""
    body, inner, node = turns.body, turns.inner, turns.body.node
    number = node.attributes["num_scan_inputs"].as_int()
    operands = [v for v in node.inputs if v is not None]
    state, scanned = operands[: len(operands) - number], operands[len(operands) - number :]
    outputs = len(inner.outputs) - len(state)
    into, out_of = (_integers(node, f"scan_{w}_axes", n) for w, n in (("input", number), ("output", outputs)))
    backwards, prepended = (
        _integers(node, f"scan_{w}_directions", n) for w, n in (("input", number), ("output", outputs))
    )
    shapes = [dims(v) for v in scanned]
    lengths = {shape[axis] for shape, axis in zip(shapes, into, strict=True) if shape is not None}
    times = next(iter(lengths), None)
    if len(lengths) != 1 or None in shapes or not isinstance(times, int) or times < 1 or not turns.allows(times):
        return None
    stacks: list[list[ir.Value]] = [[] for _ in range(outputs)]
    for step in range(times):
        elements: list[ir.Value] = []
        for value, axis, back in zip(scanned, into, backwards, strict=True):
            place = body.constant(np.asarray(times - 1 - step if back else step, np.int64))
            elements.append(body.op("Gather", value, place, axis=axis))
        results = turns.turn([*state, *elements])
        state = results[: len(state)]
        for stack, value in zip(stacks, results[len(state) :], strict=True):
            stack.append(value)
    pairs = zip(stacks, out_of, prepended, strict=True)
    return [*state, *(turns.stacked(stack[:: -1 if back else 1], axis) for stack, axis, back in pairs)]


def _integers(node: ir.Node, name: str, count: int) -> list[int]:
    found = node.attributes.get(name)
    return [0] * count if found is None else [int(i) for i in found.as_ints()]
