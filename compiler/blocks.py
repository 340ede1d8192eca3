"""A graph's distinct blocks, and where each repeats.

A block is a run of nodes; two runs are the same block when they agree in operators, attributes, wiring, shapes, dtypes
and small constants. Weights are named leaves: two layers with different weights are one block, although they
are different functions. Saturating each distinct block once makes forty layers cost what one does.

Repeats are tandem repeats of the nodes' signatures in topological order: a period p is a repeat where node i and node
i+p look alike for at least p nodes in a row. Of the phases a repeat may be cut at, the one with the fewest live values
wins: that is where layers begin.

Equality is structural. Equal functions that are written differently could be found by what they compute on random
probes, but probes prove nothing (a Clip that random data never reaches looks like the identity), and what rules can
prove equal the e-graph of one block finds by itself. In 18 trained models, after optimisation, no two values agreed on
probes that were not either one value already or equal by accident (all zeros, one element).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from .ir import captured, constant_array, describe_attributes, is_opaque, owners

SMALLEST_BLOCK = 4  # nodes: shorter repeats (x·2·2·2) are left to their neighbourhood
SMALLEST_BRANCH = 16  # nodes: shorter repeats that do not feed one another (Q, K and V) stay with what reads them
LARGEST_BLOCK = 600  # nodes in one e-graph; longer stretches are cut where few values live
SMALL_CONSTANT = 64  # elements: up to here the contents of integers (shapes, axes) belong to a block's identity


@dataclass(frozen=True)
class Wiring:
    """How a block's values hang together, the same in all its instances.

    Values are numbered in order of first appearance. `places` says where each input is first read, as (node, operand).
    """

    operands: tuple[tuple[int | None, ...], ...]
    results: tuple[tuple[int, ...], ...]
    places: tuple[tuple[int, int], ...]
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Instance:
    """One occurrence of a block: its nodes in order, and the values read from it."""

    nodes: tuple[ir.Node, ...]
    outputs: tuple[ir.Value, ...]


@dataclass(frozen=True)
class Block:
    """A distinct block; `instances[0]` stands for all, inputs and outputs correspond by position."""

    instances: tuple[Instance, ...]
    wiring: Wiring

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        """Those of the first instance."""
        return self.instances[0].nodes

    def inputs(self, instance: Instance) -> tuple[ir.Value, ...]:
        """The values an instance reads now: an earlier block's rewriting may have replaced those it was found with."""
        found: list[ir.Value] = []
        for node, operand in self.wiring.places:
            value = operands_of(instance.nodes[node])[operand]
            assert value is not None, "the place of an input is never empty"
            found.append(value)
        return tuple(found)


def operands_of(node: ir.Node) -> tuple[ir.Value | None, ...]:
    """What a node reads: its inputs, then what its bodies capture."""
    return (*node.inputs, *captured(node))


def find_blocks(graph: ir.Graph, *, largest: int = LARGEST_BLOCK, offset: int = 0) -> list[Block]:
    """The graph's nodes (topologically sorted) as distinct blocks, in order of first occurrence.

    Args:
        graph: shapes should be known; unknown ones compare as unknown.
        largest: nodes in a block at the most.
        offset: shifts where long stretches are cut, so that a second pass sees across the first one's borders.
    """
    nodes = list(graph)
    if not nodes:
        return []
    codes = _codes([_signature(node) for node in nodes])
    owner_of = owners(graph)
    cuts = live_values(graph, nodes, owner_of)
    stretches: list[tuple[int, int]] = []
    position = 0
    for start, period, count in _repeats(nodes, codes, cuts, largest):
        stretches += _split(position, start, cuts, largest, offset)
        stretches += [(start + k * period, start + (k + 1) * period) for k in range(count)]
        position = start + count * period
    stretches += _split(position, len(nodes), cuts, largest, offset)
    grouped: dict[bytes, tuple[Wiring, list[Instance]]] = {}
    for begin, end in stretches:
        instance, wiring, identity = instance_of(graph, nodes[begin:end], owner_of)
        grouped.setdefault(identity, (wiring, []))[1].append(instance)
    return [Block(tuple(instances), wiring) for wiring, instances in grouped.values()]


def _signature(node: ir.Node) -> str:
    values = [*(_kind(v) for v in node.inputs), "->", *(_kind(v) for v in node.outputs)]
    unique = f"#{id(node)}" if is_opaque(node) else ""
    return f"{node.domain}::{node.op_type}{unique}{describe_attributes(node)}({' '.join(values)})"


def _kind(value: ir.Value | None) -> str:
    if value is None:
        return "absent"
    # One number is part of what a block computes; a vector of floats is a weight, however narrow the model.
    exact = value.dtype is not None and not value.dtype.is_floating_point()
    constant = constant_array(value, SMALL_CONSTANT if exact else 1)
    contents = f"={constant.tobytes().hex()}" if constant is not None else ("w" if value.is_initializer() else "")
    return f"{value.dtype}{value.shape}{contents}"


def _codes(signatures: Sequence[str]) -> npt.NDArray[np.int64]:
    numbers: dict[str, int] = {}
    return np.asarray([numbers.setdefault(s, len(numbers)) for s in signatures])


def live_values(
    graph: ir.Graph,
    nodes: Sequence[ir.Node],
    owner_of: Mapping[ir.Graph, ir.Node],
    counts: Callable[[ir.Value], bool] = lambda value: True,
) -> npt.NDArray[np.int64]:
    """For each position between nodes, how many computed values are alive across it; only those that count."""
    index = {node: i for i, node in enumerate(nodes)}
    change = np.zeros(len(nodes) + 2, dtype=np.int64)
    outputs = {id(v) for v in graph.outputs}
    for i, node in enumerate(nodes):
        for value in filter(counts, node.outputs):
            users = (_user(user, owner_of) for user, _ in value.uses())
            last = max((index.get(user, i) for user in users), default=i)
            last = len(nodes) if id(value) in outputs else last
            change[i + 1] += 1
            change[last + 1] -= 1
    return np.cumsum(change)[: len(nodes) + 1]


def _repeats(
    nodes: Sequence[ir.Node], codes: npt.NDArray[np.int64], cuts: npt.NDArray[np.int64], largest: int
) -> list[tuple[int, int, int]]:
    """Non-overlapping (start, period, count) with count ≥ 2, those that cover most nodes first, in order."""
    made = {value: i for i, node in enumerate(nodes) for value in node.outputs}
    candidates: list[tuple[int, int, int, int]] = []
    for period in range(SMALLEST_BLOCK, min(largest, len(codes) // 2) + 1):
        same = np.concatenate(([False], codes[period:] == codes[:-period], [False]))
        edges = np.flatnonzero(np.diff(same.astype(np.int8)))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            if end - begin >= period:
                candidates.append((-int(end - begin + period), period, int(begin), int(end) + period))
    taken = np.zeros(len(codes), dtype=bool)
    chosen: list[tuple[int, int, int]] = []
    for _, period, begin, end in sorted(candidates):
        free = np.flatnonzero(taken[begin:end])
        if len(free):
            continue
        slack = (end - begin) % period
        phases = range(begin, begin + max(slack, period) + 1)
        fitting = [p for p in phases if (end - p) // period >= 2]
        if not fitting:
            continue
        start = min(fitting, key=lambda p: (int(cuts[p]) * ((end - p) // period + 1), -((end - p) // period), p))
        count = (end - start) // period
        if period < SMALLEST_BRANCH and not _is_chain(nodes, made, start, period, count):
            continue
        taken[start : start + count * period] = True
        chosen.append((start, period, count))
    return sorted(chosen)


def _is_chain(nodes: Sequence[ir.Node], made: Mapping[ir.Value, int], start: int, period: int, count: int) -> bool:
    """Whether each repeat reads something of the one before it, as layers do."""
    for k in range(1, count):
        begin, end = start + (k - 1) * period, start + k * period
        read = (made.get(v, -1) for node in nodes[end : end + period] for v in node.inputs if v is not None)
        if not any(begin <= place < end for place in read):
            return False
    return True


def _split(begin: int, end: int, cuts: npt.NDArray[np.int64], largest: int, offset: int) -> Iterable[tuple[int, int]]:
    """A stretch in pieces of at most `largest` nodes, cut where fewest values live in the last third of each."""
    first = largest - offset % largest if offset else largest
    while end - begin > first:
        window = range(begin + max(1, first * 2 // 3), begin + first + 1)
        cut = min(window, key=lambda p: (int(cuts[p]), -p))
        yield begin, cut
        begin, first = cut, largest
    if end > begin:
        yield begin, end


def instance_of(
    graph: ir.Graph, nodes: Sequence[ir.Node], owner_of: Mapping[ir.Graph, ir.Node]
) -> tuple[Instance, Wiring, bytes]:
    """The instance, its wiring, and its identity: signatures, wiring and which results are read outside."""
    inside = set(nodes)
    numbers: dict[ir.Value, int] = {}
    operands: list[tuple[int | None, ...]] = []
    results: list[tuple[int, ...]] = []
    places: list[tuple[int, int]] = []
    for position, node in enumerate(nodes):
        for operand, value in enumerate(operands_of(node)):
            if value is not None and value not in numbers:
                numbers[value] = len(numbers)
                places.append((position, operand))
        operands.append(tuple(None if v is None else numbers[v] for v in operands_of(node)))
        for value in node.outputs:
            numbers[value] = len(numbers)
        results.append(tuple(numbers[v] for v in node.outputs))
    inputs = tuple(n for p, o in places if (n := operands[p][o]) is not None)
    wiring = Wiring(tuple(operands), tuple(results), tuple(places), inputs)
    outside = {id(v) for v in graph.outputs}
    made = [v for node in nodes for v in node.outputs]
    outputs = tuple(v for v in made if id(v) in outside or any(_user(u, owner_of) not in inside for u, _ in v.uses()))
    text = "\n".join(_signature(n) for n in nodes) + repr((operands, [numbers[v] for v in outputs]))
    return Instance(tuple(nodes), outputs), wiring, blake2b(text.encode(), digest_size=16).digest()


def _user(node: ir.Node, owner_of: Mapping[ir.Graph, ir.Node]) -> ir.Node:
    """The node of this graph that a use belongs to: a use inside a body belongs to the node that holds the body."""
    return owner_of.get(node.graph, node) if isinstance(node.graph, ir.Graph) else node
