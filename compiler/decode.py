"""A chosen program becomes nodes again, written once for each instance of its block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from .blocks import Block, Instance
from .egraph import ABSENT, OUTPUTS, Row
from .encode import UNIQUE, Encoded
from .evaluate import CannotEvaluate
from .facts import Array, Fact
from .ir import bodies, captured, metadata, new_constant
from .schema import split_name

Choice = Mapping[int, Row]


@dataclass
class Written:
    """One instance's new program: nodes in order, constants to add, the values of the block's outputs."""

    nodes: list[ir.Node] = field(default_factory=list)
    constants: list[ir.Value] = field(default_factory=list)
    outputs: list[ir.Value] = field(default_factory=list)
    replaced: dict[ir.Value, ir.Value] = field(default_factory=dict)


def decode(
    block: Block,
    encoded: Encoded,
    choice: Choice,
    index: int,
    fresh: Callable[[str], str],
    shared: dict[int, ir.Value] | None = None,
) -> Written:
    """The program for one instance.

    Nodes of the model that were chosen again keep their names, values and metadata; a new node is named after its rule
    and records it, with the nodes it stands for.

    Args:
        block: where the program goes.
        encoded: the block's e-graph.
        choice: for every class the program computes, the row it is computed by.
        index: which instance.
        fresh: gives an unused name that starts with its argument.
        shared: what was written for earlier instances and depends on the block's context alone; grows.
    """
    return _Writer(block, encoded, choice, index, fresh, {} if shared is None else shared).write()


class _Writer:
    def __init__(
        self,
        block: Block,
        encoded: Encoded,
        choice: Choice,
        index: int,
        fresh: Callable[[str], str],
        shared: dict[int, ir.Value],
    ) -> None:
        self.shared = shared
        self.encoded, self.egraph, self.choice, self.index, self.fresh = encoded, encoded.egraph, choice, index, fresh
        self.instance: Instance = block.instances[index]
        self.read = block.inputs(self.instance)
        self.twins = dict(zip(block.nodes, self.instance.nodes, strict=True))
        self.result = Written()
        self.values: dict[int, ir.Value] = {}
        self.many: dict[int, Sequence[ir.Value]] = {}

    def write(self) -> Written:
        for uid, value in zip(self.encoded.inputs, self.read, strict=True):
            self.values.setdefault(self.egraph.find(uid), value)
        for uid, value in self.encoded.context:
            self.values.setdefault(self.egraph.find(uid), value)
        for uid, value in self.shared.items():
            self.values.setdefault(uid, value)
        self.common = {self.egraph.find(uid) for uid, _ in self.encoded.context}
        roots = [self.egraph.find(o) for o in self.encoded.outputs]
        for uid in self._order(roots):
            self._write_class(uid)
        self.result.outputs = [self.values[r] for r in roots]
        return self.result

    def _order(self, roots: Iterable[int]) -> list[int]:
        """Classes to write, operands first; a stack rather than recursion, for chains of thousands of nodes."""
        order: list[int] = []
        done = {*self.values, ABSENT}
        stack = [(uid, False) for uid in reversed(list(roots))]
        while stack:
            uid, ready = stack.pop()
            if uid in done:
                continue
            if ready or self._contents(uid) is not None:
                done.add(uid)
                order.append(uid)
                continue
            stack.append((uid, True))
            children = (self.egraph.find(c) for c in self.choice[uid].children)
            stack += [(c, False) for c in reversed(list(children)) if c not in done]
        return order

    def _contents(self, uid: int) -> Array | None:
        """A constant class' array; None also where the fold turned out impossible, and the node must stay."""
        constant = self.egraph.fact(uid).constant
        if constant is None:
            return None
        try:
            return constant.array(self.index)
        except CannotEvaluate:
            return None

    def _write_class(self, uid: int) -> None:
        contents = self._contents(uid)
        if contents is not None:
            self.values[uid] = self._constant(contents)
            return
        row = self.choice[uid]
        attributes = self.egraph.attributes[row.attributes]
        if row.op == "out":
            self.values[uid] = self.many[self.egraph.find(row.children[0])][attributes["index"]]
            return
        node = self._node(row, attributes, uid)
        self.result.nodes.append(node)
        if OUTPUTS in attributes:
            self.many[uid] = node.outputs
            return
        self.values[uid] = node.outputs[0]
        if self.egraph.origins[row].node is None and self._is_common(row):
            self.shared[uid] = node.outputs[0]

    def _is_common(self, row: Row) -> bool:
        """Whether a node computes the same in every instance: from the block's context, and constants they share."""
        children = {self.egraph.find(c) for c in row.children if c != ABSENT}
        common = self.common | set(self.shared)
        constants = [self.egraph.fact(c).constant for c in children - common]
        return bool(children & common) and all(c is not None and len(c) == 1 for c in constants)

    def _constant(self, contents: Array) -> ir.Value:
        value = new_constant(self.fresh("tamago/constant"), contents)
        self.result.constants.append(value)
        return value

    def _node(self, row: Row, attributes: Mapping[str, Any], uid: int) -> ir.Node:
        inputs = [None if c == ABSENT else self.values[self.egraph.find(c)] for c in row.children]
        origin = self.egraph.origins[row]
        source = self.twins.get(origin.node) if isinstance(origin.node, ir.Node) else None
        if source is not None:
            return self._again(source, inputs, attributes)
        domain, op_type = split_name(row.op.partition("@")[0])
        stated = [new_attribute(k, v) for k, v in attributes.items() if k not in (OUTPUTS, UNIQUE)]
        outputs = [ir.Value(name=self.fresh("tamago/value")) for _ in range(attributes.get(OUTPUTS, 1))]
        if OUTPUTS not in attributes:
            _describe(outputs[0], self.egraph.fact(uid))
        name = self.fresh(f"tamago/{origin.rule}")
        sources = [self.names.get(s, s) for s in origin.sources]
        return ir.Node(
            domain,
            op_type,
            inputs,
            stated,
            outputs=outputs,
            name=name,
            metadata_props=dict(metadata(origin.rule or "", sources)),
        )

    @property
    def names(self) -> dict[str, str]:
        """Node names of the first instance → this instance's."""
        return {a.name or "": b.name or "" for a, b in self.twins.items()}

    def _again(self, source: ir.Node, inputs: list[ir.Value | None], attributes: Mapping[str, Any]) -> ir.Node:
        """The model's own node on its new operands."""
        operands = inputs[: len(source.inputs)] if UNIQUE in attributes else inputs
        for old, new in zip(captured(source), inputs[len(source.inputs) :], strict=False):
            if UNIQUE in attributes and new is not None and new is not old:
                _replace_inside(source, old, new)
        count = attributes.get(OUTPUTS, 1)
        outputs: list[ir.Value] = []
        for old in source.outputs[:count]:
            outputs.append(ir.Value(name=old.name, shape=old.shape, type=old.type, doc_string=old.doc_string))
            outputs[-1].metadata_props.update(old.metadata_props)
            self.result.replaced[old] = outputs[-1]
        return ir.Node(
            source.domain,
            source.op_type,
            operands,
            list(source.attributes.values()),
            overload=source.overload,
            outputs=outputs,
            name=source.name,
            doc_string=source.doc_string,
            metadata_props=dict(source.metadata_props),
        )


def _replace_inside(holder: ir.Node, old: ir.Value, new: ir.Value) -> None:
    for body in bodies(holder):
        for node in body:
            for position, value in enumerate(node.inputs):
                if value is old:
                    node.replace_input_with(position, new)
            _replace_inside(node, old, new)
        for position, value in enumerate(body.outputs):
            if value is old:
                body.outputs[position] = new


def _describe(value: ir.Value, fact: Fact) -> None:
    if fact.dtype is None:
        return  # onnx_ir warns of a shape without a type
    value.type = ir.TensorType(ir.DataType(fact.dtype))
    if fact.shape is not None:
        value.shape = ir.Shape(fact.shape)


def new_attribute(name: str, value: Any) -> ir.Attr:
    """An attribute with a Python value: a number, a string, a tuple or list of them, an array."""
    if isinstance(value, np.ndarray):
        return ir.AttrTensor(name, ir.tensor(value))
    return ir.convenience.convert_attribute(name, list(value) if isinstance(value, tuple) else value)
