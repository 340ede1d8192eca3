"""A block becomes an e-graph: nodes as rows, values as classes, weights as named leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from .blocks import Block
from .egraph import ABSENT, OUTPUTS, EGraph, Origin, Row, constant_key
from .facts import Constant, Fact
from .ir import attribute_values, captured, constant_tensor, digest, fact_of, is_opaque, op_name
from .opset import same_meaning
from .schema import default_attributes, schema_of

CONTEXT = 48  # nodes outside a repeated block that its e-graph knows
SMALL = 1 << 12  # elements: constants up to this are compared by contents
UNIQUE = "unique "  # attribute that keeps two opaque nodes from being taken for equal


@dataclass
class Encoded:
    """A block in its e-graph.

    Attributes:
        inputs: uids by position; so for the outputs.
        program: the rows of the program as it was.
        context: values that the graph computes before the first instance, the same for all of them. How they are
            computed is known in the e-graph, so that patterns match across the block's border; reading them is free.
    """

    egraph: EGraph
    inputs: list[int]
    outputs: list[int]
    program: dict[int, Row]
    version: int
    context: list[tuple[int, ir.Value]] = field(default_factory=list[tuple[int, ir.Value]])


def encode(block: Block, version: int, *, context: bool = True) -> Encoded:
    """The block's first instance as terms; constants hold the contents of every instance.

    Args:
        block: its nodes are topologically sorted.
        version: opset of the default domain.
        context: whether what lies outside a repeated block is looked at.
    """
    egraph = EGraph(len(block.instances))
    wiring = block.wiring
    uids: dict[int | None, int] = {None: ABSENT}
    seen: dict[tuple[str, ...], int] = {}
    inputs: list[int] = []
    read = [block.inputs(instance) for instance in block.instances]
    for number, values in zip(wiring.inputs, zip(*read, strict=True), strict=True):
        fact = _input_fact(values)
        identity = _identity(fact)
        uid = seen.get(identity) if identity is not None else None
        uid = egraph.leaf(fact) if uid is None else uid
        if identity is not None:
            seen[identity] = uid
        if fact.constant is not None and _is_small(fact):
            egraph.constants.setdefault(constant_key(fact.constant.array(0)), [uid])
        uids[number] = uid
        inputs.append(uid)
    repeats = len(block.instances) > 1
    around = _encode_context(egraph, dict(_shared(read, inputs)), version) if context and repeats else []
    program: dict[int, Row] = {}
    made: dict[ir.Value, int] = {}
    for count, node in enumerate(block.nodes):
        found = _encode_node(egraph, node, count, [uids[n] for n in wiring.operands[count]], program, version)
        uids.update(zip(wiring.results[count], found, strict=False))
        made.update(zip(node.outputs, found, strict=False))
    return Encoded(egraph, inputs, [made[v] for v in block.instances[0].outputs], program, version, around)


def _shared(read: Sequence[Sequence[ir.Value]], inputs: Sequence[int]) -> Iterator[tuple[ir.Value, int]]:
    """Inputs that are the same value in every instance: tables of positions, masks, what all layers read."""
    for place, uid in enumerate(inputs):
        values = {values[place] for values in read}
        if len(values) == 1:
            yield values.pop(), uid


def _encode_context(egraph: EGraph, known: dict[ir.Value, int], version: int) -> list[tuple[int, ir.Value]]:
    """How values from outside came about, a few nodes far; the values met on the way.

    Args:
        egraph: of the block.
        known: such values and their uids; grows.
        version: opset of the default domain.
    """
    context: list[tuple[int, ir.Value]] = []
    waiting = list(known)
    for _ in range(CONTEXT):
        if not waiting:
            break
        value = waiting.pop(0)
        node = value.producer()
        if node is None or is_opaque(node) or captured(node) or len(node.outputs) != 1:
            continue
        children: list[int] = []
        for operand in node.inputs:
            if operand is not None and operand not in known:
                known[operand] = egraph.leaf(fact_of(operand))
                context.append((known[operand], operand))
                waiting.append(operand)
            children.append(ABSENT if operand is None else known[operand])
        while children and children[-1] == ABSENT:
            children.pop()
        name = _row_name(node, version)
        row = egraph.row(name, egraph.intern(stated_attributes(name, attribute_values(node))), children)
        uid = egraph.term(row, fact_of(value), Origin(None, (node.name or op_name(node),)))
        egraph.union(uid, known[value])
    return context


def _input_fact(values: Sequence[ir.Value]) -> Fact:
    """One leaf for the same position in every instance."""
    first = fact_of(values[0])
    if all(v is values[0] for v in values):
        return first
    tensors = [constant_tensor(v) for v in values]
    if any(t is None for t in tensors):
        return Fact(first.dtype, first.shape)
    digests = {digest(t.numpy()) for t in tensors if t is not None and t.size <= SMALL}
    if len(digests) == 1 and all(t is not None and t.size <= SMALL for t in tensors):
        return first
    thunks = [t.numpy for t in tensors if t is not None]
    return Fact(first.dtype, first.shape, Constant(thunks, tuple(v.name or "" for v in values)))


def _is_small(fact: Fact) -> bool:
    """Whether the leaf is a constant that all instances share, small enough to be compared by contents."""
    return fact.constant is not None and len(fact.constant) == 1 and fact.size is not None and fact.size <= SMALL


def _identity(fact: Fact) -> tuple[str, ...] | None:
    """What makes two constant leaves the same value: the initializer itself, or small equal contents."""
    constant = fact.constant
    if constant is None:
        return None
    if _is_small(fact):
        return (str(fact.dtype), str(fact.shape), digest(constant.array(0)))
    return constant.owners


def _made_fact(egraph: EGraph, value: ir.Value) -> Fact:
    """Of a value that the first instance of a block computes, as far as it holds in every other."""
    fact = fact_of(value)
    return fact if egraph.instances() == 1 else replace(fact, causal=False)


def _encode_node(
    egraph: EGraph,
    node: ir.Node,
    count: int,
    operands: Sequence[int],
    program: dict[int, Row],
    version: int,
) -> list[int]:
    """The uids of the node's outputs, up to the last that is read."""
    name = _row_name(node, version)
    opaque = is_opaque(node)
    attributes: dict[str, Any] = {UNIQUE: count} if opaque else stated_attributes(name, attribute_values(node))
    children = list(operands)
    while not opaque and children and children[-1] == ABSENT:
        children.pop()
    used = len(node.outputs) if opaque else _used_outputs(node)
    if used > 1 or opaque:
        attributes[OUTPUTS] = used
    origin = Origin(None, (node.name or op_name(node),), node)
    row = egraph.row(name, egraph.intern(attributes), children)
    if OUTPUTS not in attributes:
        uid = egraph.term(row, _made_fact(egraph, node.outputs[0]), origin)
        program.setdefault(uid, row)
        return [uid]
    whole = egraph.term(row, Fact(), origin)
    program.setdefault(whole, row)
    found: list[int] = []
    for index in range(attributes[OUTPUTS]):
        projection = egraph.row("out", egraph.intern({"index": index}), [whole])
        uid = egraph.term(projection, _made_fact(egraph, node.outputs[index]), origin)
        program.setdefault(uid, projection)
        found.append(uid)
    return found


def stated_attributes(op: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes without those that state ONNX's default: equal meanings have equal attributes."""
    defaults = default_attributes(op.partition("@")[0])
    return {k: v for k, v in attributes.items() if isinstance(v, np.ndarray) or v != defaults.get(k)}


def _row_name(node: ir.Node, version: int) -> str:
    """The operator's name; marked with the opset where its meaning there is not the one that rules are written for."""
    name = op_name(node)
    if node.domain == "" and not is_opaque(node) and not same_meaning(name, version):
        return f"{name}@{version}"
    return name


def _used_outputs(node: ir.Node) -> int:
    """Outputs up to the last one that anybody reads or that ONNX asks for, at least one; all of Split's.

    Their number is Split's meaning. TopK has its indices even where nobody reads them.
    """
    if node.op_type == "Split":
        return len(node.outputs)
    schema = schema_of(op_name(node))
    least = 1 if schema is None else min(max(schema.min_output, 1), len(node.outputs))
    for index in reversed(range(least, len(node.outputs))):
        value = node.outputs[index]
        if value.uses() or value.is_graph_output():
            return index + 1
    return least
