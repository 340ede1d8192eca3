"""A program with the branches that its inputs take written in place: what torch can look into, value by value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ..facts import Array
from ..fold import remove_unused, take_branch
from ..ir import new_constant
from ..optimise import Names
from .costs import Target

DEEPEST = 16  # of If inside If


@dataclass(frozen=True)
class Taken:
    """A program without the Ifs whose condition these inputs decide.

    Args:
        program: it computes what the original computes on inputs that decide the same.
        decisions: the branch of each If, in the order in which they were met.
        names: of values that are called otherwise in the program: a branch's output bears the name of the If's.
    """

    program: ir.Model
    decisions: tuple[tuple[str, bool], ...] = ()
    names: Mapping[str, str] = field(default_factory=dict[str, str])

    def name(self, value: str) -> str:
        """What a value of the original is called in the program."""
        while value in self.names:
            value = self.names[value]
        return value


def taken_branches(model: ir.Model, feeds: Mapping[str, Array], target: Target) -> Taken:
    """Write the branches that these inputs take in the place of their Ifs, from the outermost in.

    Raises:
        TamagoError: the target cannot run what decides.
    """
    if not any(node.op_type == "If" for node in model.graph):
        return Taken(model)
    program = model.clone()
    graph, fresh = program.graph, Names(_own_names(model.graph))
    decisions: list[tuple[str, bool]] = []
    names: dict[str, str] = {}
    kept: set[ir.Node] = set()
    for _ in range(DEEPEST):
        found = [node for node in graph if node.op_type == "If" and node not in kept]
        if not found:
            break
        for node, condition in zip(found, _conditions(program, found, feeds, target), strict=True):
            number = len(decisions)
            decisions.append((node.name or "", condition))
            decided = new_constant(fresh(f"tamago/decided{number}"), np.asarray(condition))
            graph.register_initializer(decided)
            node.replace_input_with(0, decided)
            branch = node.attributes["then_branch" if condition else "else_branch"].as_graph()
            ends = zip(list(branch.outputs), node.outputs, strict=True)
            pairs = [(inner, inner.name or "", outer.name or "") for inner, outer in ends]
            if not take_branch(graph, node, fresh):
                kept.add(node)
                continue
            for inner, before, after in pairs:
                inner.name, names[before] = after, after
    remove_unused(graph)
    return Taken(program, tuple(decisions), names)


def _own_names(graph: ir.Graph) -> set[str]:
    """Of the graph itself: names in bodies are to be kept where they come to stand in it."""
    values = [*graph.inputs, *graph.initializers.values(), *(v for n in graph for v in n.outputs)]
    return {v.name for v in values if v.name} | {n.name for n in graph if n.name}


def _conditions(program: ir.Model, found: Sequence[ir.Node], feeds: Mapping[str, Array], target: Target) -> list[bool]:
    asked = program.clone()
    twins = dict(zip(program.graph, asked.graph, strict=True))
    conditions = [twins[node].inputs[0] for node in found]
    computed = list(dict.fromkeys(v for v in conditions if v is not None and v.name not in feeds))
    known: dict[str | None, Array] = {**feeds}
    if computed:
        asked.graph.outputs.clear()
        asked.graph.outputs.extend(computed)
        remove_unused(asked.graph)
        known |= {v.name: a for v, a in zip(computed, target.lower(asked)(feeds), strict=True)}
    return [bool(np.asarray(known[None if v is None else v.name]).reshape(-1)[0]) for v in conditions]
