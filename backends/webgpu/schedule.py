"""Which values lie in buffers, and which operators one kernel does.

An operator that reduces is the root of a kernel. What follows it element by element, or only moves elements, is done
where the root stores its result; what precedes it is computed where it reads. An operator that does neither has a
kernel of its own, with everything before it that nobody else wants. A dispatch costs tens of microseconds in a browser:
an element computed twice costs less than a buffer in between.

What depends on nothing but weights is done once, ahead of all runs; but a weight of few bits of which a kernel reads
every element about once is read as it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import onnx_ir as ir

from ...compiler.opset import TARGET, same_meaning
from .definitions import DOMAIN
from .expression import shape_of
from .group import Group
from .kernels.registry import KERNELS, Kernel, only_first_output
from .operators import ELEMENTS, MOVES, ElementRule
from .types import computed

MOST_BUFFERS = 7  # that a kernel reads: every device binds eight
FREE = 1  # arithmetic that is done again for each reader rather than stored
FEW = 3  # arithmetic that a product does each time it reads an element
MUCH = 8  # arithmetic that is not done again for each of many readers
LONG = 64  # operators that are written out again and again where a value is read
NEAR = 40  # nodes that are looked at for the end of what follows a root
SELDOM = 4  # results that read an element of a weight of few bits, at most, where it is not made wide ahead


@dataclass
class Schedule:
    """Groups in order, and nodes that there is nothing for."""

    groups: list[Group] = field(default_factory=list[Group])
    unsupported: list[ir.Node] = field(default_factory=list[ir.Node])


# Operators whose versions after tamago's opset were read: rules know what they added, or only types were.
NEWER = frozenset({
    "BitCast", "BitShift", "Cast", "Celu", "CumProd", "DepthToSpace", "DequantizeLinear", "Einsum", "Mod", "OneHot",
    "QuantizeLinear", "Range", "ReduceLogSum", "ReduceLogSumExp", "ReverseSequence", "SpaceToDepth", "Swish",
    "TensorScatter",
})  # fmt: skip


def _is_understood(node: ir.Node) -> bool:
    """Whether an operator means at the model's opset what the rules say."""
    if node.domain not in ("", "ai.onnx") or node.graph is None or node.op_type in NEWER:
        return True
    return same_meaning(node.op_type, node.graph.opset_imports.get("", TARGET))


def element_rule(node: ir.Node) -> ElementRule | None:
    """How an operator is computed element by element; None where it is not."""
    rule = ELEMENTS.get(node.op_type) if node.domain in ("", "ai.onnx", DOMAIN) else None
    if rule is None or not _typed(node) or not _is_understood(node) or not rule.applies(node):
        return None
    return rule if len({v for v in node.inputs if v is not None and v.const_value is None}) <= MOST_BUFFERS else None


def kernel_rule(node: ir.Node) -> Kernel | None:
    """The loop of an operator; None where there is none."""
    rule = KERNELS.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))
    return rule if rule is not None and _typed(node) and _is_understood(node) and rule.applies(node) else None


def _typed(node: ir.Node) -> bool:
    values = [v for v in (*node.inputs, *node.outputs) if v is not None and (v.name or v in node.inputs)]
    return all(computed(v.dtype) is not None and v.shape is not None and v.shape.is_static() for v in values)


class _Scheduler:
    """State of one pass over a graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self.nodes = list(graph)
        self.order = {node: number for number, node in enumerate(self.nodes)}
        self.outputs = set(graph.outputs)
        self.elements = {n: rule for n in self.nodes if (rule := element_rule(n)) is not None}
        self.kernels = {n: rule for n in self.nodes if n not in self.elements and (rule := kernel_rule(n)) is not None}
        self.ahead = known_ahead(self.nodes)
        self.absorbed: set[ir.Node] = set()
        self.inlined: dict[ir.Value, ir.Node] = {}
        self.together: dict[ir.Node, list[ir.Node]] = {}  # the root and what follows it, by each of them
        self.costs: dict[ir.Value, int] = {}
        self.lengths: dict[ir.Value, int] = {}
        self.leaves: dict[ir.Value, frozenset[ir.Value]] = {}

    def readers(self, value: ir.Value) -> list[ir.Node]:
        """Nodes that read a value, each once."""
        return list(dict.fromkeys(use.node for use in value.uses() if use.node in self.order))

    # --- what follows a root ----------------------------------------------------------------------------------

    def path(self, root: ir.Node) -> tuple[list[ir.Node | ir.Value], ir.Value, dict[ir.Value, ir.Node]]:
        """As far as the kernel can go on from the root's result; where it ends; what it computes on the way."""
        value, found, inside = root.outputs[0], list[ir.Node | ir.Value](), dict[ir.Value, ir.Node]()
        together = self.together[root] = [root]
        while value not in self.outputs and self.kernels[root].starts_from(root) is None:
            readers = self.readers(value)
            if len(readers) == 1 and self._moves(readers[0], value) and self._alike(root, readers):
                found.append(readers[0])
                region = readers
            else:
                region = self._region(value, readers)
                if not region or not self._alike(root, region) or len(self._bound([*together, *region])) > MOST_BUFFERS:
                    break
                found.append(region[-1].outputs[0])
            inside |= {n.outputs[0]: n for n in region}
            together += region
            self.absorbed |= set(region)
            self.together |= dict.fromkeys(region, together)
            value = region[-1].outputs[0]
        return found, value, inside

    def _alike(self, root: ir.Node, region: Sequence[ir.Node]) -> bool:
        """Whether all are done as often as the root."""
        return root not in self.ahead or all(n in self.ahead for n in region)

    def _moves(self, node: ir.Node, value: ir.Value) -> bool:
        free = node in self.elements and node not in self.absorbed and node.op_type in MOVES
        return (
            free
            and only_first_output(node)
            and node.inputs[0] is value
            and all(v is not value for v in node.inputs[1:])
        )

    def _region(self, value: ir.Value, readers: Sequence[ir.Node]) -> list[ir.Node]:
        """The nodes between a value and the one that all who read it lead to, element by element."""
        if not readers:
            return []
        first = min(self.order[n] for n in readers)
        shape, region, made = shape_of(value), list[ir.Node](), {value}
        for node in self.nodes[first : first + NEAR]:
            if not any(v in made for v in node.inputs if v is not None):
                continue
            if not self._follows(node, made, shape):
                return []
            region.append(node)
            inner = [v for v in made if v not in self.outputs]
            if len(inner) == len(made) and all(r in region for v in made for r in self.readers(v)):
                return region
            if any(v in self.outputs for v in made):
                return []
            made.add(node.outputs[0])
        return []

    def _follows(self, node: ir.Node, made: set[ir.Value], shape: tuple[int, ...]) -> bool:
        rule = self.elements.get(node)
        if rule is None or not rule.pointwise or node in self.absorbed or shape_of(node.outputs[0]) != shape:
            return False
        if not only_first_output(node):
            return False
        return all(v is None or v not in made or shape_of(v) == shape for v in node.inputs)

    # --- what precedes ----------------------------------------------------------------------------------------

    def place(self, node: ir.Node) -> list[ir.Value]:
        """The results of a node that works element by element that need a buffer."""
        rule = self.elements[node]
        inputs = [v for v in node.inputs if v is not None]
        for value in node.outputs:
            if not value.name or not (self.readers(value) or value in self.outputs):
                continue
            self.costs[value] = rule.cost + sum(self.costs[v] for v in inputs if v in self.inlined)
            self.lengths[value] = 1 + sum(self.lengths[v] for v in inputs if v in self.inlined)
            leaves = self.leaves[value] = self._bound([node])
            short = len(leaves) <= MOST_BUFFERS - 2 and self.lengths[value] <= LONG
            if short and self._is_computed_again(value):
                self.inlined[value] = node
        return [v for v in node.outputs if v in self.costs and v not in self.inlined]

    def _bound(self, nodes: Sequence[ir.Node], inlined: ir.Value | None = None) -> frozenset[ir.Value]:
        """The buffers that a kernel of these nodes reads, one more value inlined if that is said."""
        made = {v for n in nodes for v in n.outputs}
        read = {v for n in nodes for v in n.inputs if v is not None and v not in made}
        return frozenset(leaf for v in read for leaf in (self.leaves[v] if v is inlined else self._leaves(v)))

    def _leaves(self, value: ir.Value) -> frozenset[ir.Value]:
        if value.const_value is not None and value.const_value.size == 1:
            return frozenset()
        return self.leaves[value] if value in self.inlined else frozenset([value])

    def _is_computed_again(self, value: ir.Value) -> bool:
        """Whether a value is computed where it is read instead of stored."""
        cost, readers = self.costs[value], self.readers(value)
        if value in self.outputs or any(r not in self.elements and r not in self.kernels for r in readers):
            return False
        if len(readers) > 1 and cost > FREE:
            return False
        return all(self._may_compute(r, value, cost) for r in readers)

    def _may_compute(self, reader: ir.Node, value: ir.Value, cost: int) -> bool:
        if len(self._bound(self.together.get(reader, [reader]), value)) > MOST_BUFFERS:
            return False
        kernel = self.kernels.get(reader)
        prepared = value.producer() in self.ahead and reader not in self.ahead
        if prepared and cost and self._is_read_often(value, reader):
            return False
        if kernel is not None:
            start = kernel.starts_from(reader)
            if start is not None and reader.inputs[start] is value:  # the result is a copy of its buffer
                return False
            return cost <= FEW or not kernel.reads_often
        often = prod(shape_of(reader.outputs[0])) > 4 * max(prod(shape_of(value)), 1)
        return not (often and cost >= MUCH)

    def _is_read_often(self, value: ir.Value, reader: ir.Node) -> bool:
        """Whether a kernel that loops over a weight reads each of its elements many times."""
        kernel = self.kernels.get(reader)
        return kernel is not None and kernel.reads_often and _reads(value, reader) > SELDOM


def _reads(value: ir.Value, reader: ir.Node) -> float:
    """How often a loop reads each element of an operand."""
    result, shape = prod(shape_of(reader.outputs[0])), shape_of(value)
    match reader.op_type:
        case "Conv" if value is reader.inputs[1]:  # of shape (channels of the result, …)
            return result / shape[0]
        case "Gemm" if value is reader.inputs[1]:
            return shape_of(reader.outputs[0])[0]
        case "MatMul" if value is reader.inputs[1] and len(shape) > 1:
            return result / (prod(shape[:-2]) * shape[-1])
        case _:
            return result / max(prod(shape), 1)


def known_ahead(nodes: Sequence[ir.Node]) -> set[ir.Node]:
    """Nodes that depend on nothing but weights, and make no output of the model."""
    found: set[ir.Node] = set()
    for node in nodes:
        inputs = [v for v in node.inputs if v is not None]
        known = all(v.producer() in found or (v.const_value is not None and not v.is_graph_input()) for v in inputs)
        if inputs and known and not any(v.is_graph_output() for v in node.outputs):
            found.add(node)
    return found


def schedule(graph: ir.Graph) -> Schedule:
    """Kernels for a graph whose shapes are known.

    Args:
        graph: in topological order, constants folded.
    """
    state, found = _Scheduler(graph), Schedule()
    found.unsupported = [n for n in state.nodes if n not in state.elements and n not in state.kernels]
    roots = {node: state.path(node) for node in state.nodes if node in state.kernels}
    stored: list[ir.Value] = []
    for node in state.nodes:
        if node in state.elements and node not in state.absorbed:
            stored += state.place(node)
    for root, (path, result, inside) in roots.items():
        found.groups.append(Group(root, tuple(path), result, state.inlined | inside, root in state.ahead))
    for value in stored:
        producer = value.producer()
        assert producer is not None
        found.groups.append(Group(None, (), value, state.inlined | {value: producer}, producer in state.ahead))
    return found
