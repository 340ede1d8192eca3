"""Bring a model up to the opset that rules are written for, with exactly equal meaning.

A model goes up one opset at a time, all its graphs together, by the table in `opsets/`. Where a node has no safe way
on, the whole model stops below that step: a note says which node, and why. Newer models stay as they are: ONNX rarely
changes what an operator means, and `same_meaning` tells which operators rules may read at another opset.

onnx's own version converter is not used: it rebuilds the graph and loses names and metadata.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from .opsets.step import Site

# The newest opset whose kernels and fusions ONNX Runtime 1.32 has in full, but for the steps in opsets/kernels.py.
TARGET = 23
OLDEST = 7  # before it, broadcasting was stated by attributes
LOWEST = 18  # from here on nearly all operators have the target's form; a model that stops short is left alone

# Operators that ONNX Runtime adds to the default domain at version 1; LayerNormalization became ONNX's own in 17.
_RUNTIME_OWN = frozenset({"SimplifiedLayerNormalization", "LayerNormalization"})

_Container = ir.Model | ir.Function


@cache
def same_meaning(op: str, version: int, target: int = TARGET) -> bool:
    """Whether every node of an operator that is valid at both opsets means the same at both.

    Args:
        op: an operator; those outside ONNX's own domain do not depend on its opset.
        version: opset of the default domain in the file.
        target: the opset to compare with, newer or older.

    Returns:
        False also where the older opset has no such operator.
    """
    if "::" in op or op in _RUNTIME_OWN:
        return True
    from .opsets.unchanged import UNCHANGED

    low, high = min(version, target), max(version, target)
    versions = _histories().get(op, [])
    if not versions or versions[0] > low:
        return False
    return all((op, step) in UNCHANGED for step in steps(op, low, high))


def expressible(op: str, attributes: Iterable[str], version: int) -> bool:
    """Whether a node with these attributes can be written at an opset; some meanings could be stated only later.

    Args:
        op: an operator; outside ONNX's own domain everything is.
        attributes: names of the attributes that the node states.
        version: opset of the default domain in the file.
    """
    return "::" in op or op in _RUNTIME_OWN or set(attributes) <= _attribute_names(op, version)


@cache
def _attribute_names(op: str, version: int) -> frozenset[str]:
    from onnx import defs

    known = [v for v in _histories().get(op, []) if v <= version]
    return frozenset(defs.get_schema(op, known[-1], "").attributes) if known else frozenset()


@cache
def steps(op: str, start: int, end: int) -> tuple[int, ...]:
    """The versions of an operator of the default domain after opset `start`, up to `end`, but not its first."""
    versions = _histories().get(op, [])
    return tuple(v for v in versions[bisect_right(versions, start) :] if v <= end and v != versions[0])


@cache
def _histories() -> dict[str, list[int]]:
    """The versions of every operator of the default domain, rising."""
    from onnx import defs

    found: dict[str, list[int]] = {}
    for schema in defs.get_all_schemas_with_history():
        if not schema.domain:
            found.setdefault(schema.name, []).append(schema.since_version)
    return {op: sorted(versions) for op, versions in found.items()}


def to_target(model: ir.Model, target: int = TARGET) -> list[str]:
    """Convert a model in place, names and metadata kept: all of it to one opset, or nothing.

    Args:
        model: topologically sorted; its weights are no graph inputs where that can be helped (see `prepare`).
        target: at most 26.

    Returns:
        Notes for the report: which node kept the model from the target, and why.
    """
    version = model.opset_imports.get("")
    if version is None or version == target:
        return []
    if version > target:
        return [f"the model keeps its opset {version}, newer than {target}"]
    if version < OLDEST:
        return [f"the model keeps its opset {version}: it is older than {OLDEST}"]
    reached, notes = target, list[str]()
    if any(_needs_care(node, start, target) for start, node in _nodes(model)):
        reached, notes = _convert(_inferred(model.clone()), target)
        if reached < LOWEST or reached <= version:
            return [*notes, f"the model keeps its opset {version}"]
        _inferred(model)
    if reached < target:
        notes.append(f"the model was brought from opset {version} to {reached}, not to {target}")
    _convert(model, reached)
    return notes


def _nodes(model: ir.Model) -> Iterator[tuple[int, ir.Node]]:
    """Every node of the default domain, with the opset it was written for."""
    for container in _containers(model):
        for graph in _graphs(container):
            for node in graph:
                if node.domain == "":
                    yield container.opset_imports.get("", TARGET), node


def _containers(model: ir.Model) -> list[_Container]:
    """What has opset imports of its own."""
    return [model, *model.functions.values()]


def _graphs(container: _Container) -> list[ir.Graph]:
    from .ir import graphs

    return list(graphs(container.graph))


def _needs_care(node: ir.Node, start: int, target: int) -> bool:
    """Whether the node is not simply the same at the target."""
    from .opsets.kernels import loss

    if node.op_type in _RUNTIME_OWN:
        return False
    if not same_meaning(node.op_type, start, target):
        return True
    return any(loss(node, step) is not None for step in steps(node.op_type, start, target))


def _inferred(model: ir.Model) -> ir.Model:
    """The model with ranks and element types, which some rewrites depend on."""
    from .inference import infer

    infer(model)
    return model


def _convert(model: ir.Model, target: int) -> tuple[int, list[str]]:
    """Take every step up to the target; the opset reached, and what stopped the model there."""
    from .ir import unique_names

    containers = _containers(model)
    fresh = _Names({name for container in containers for name in unique_names(container.graph)})
    all_graphs = [(container, _graphs(container)) for container in containers]
    for version in range(min(c.opset_imports.get("", target) for c in containers) + 1, target + 1):
        stopped = [note for container, graphs in all_graphs for note in _step(container, graphs, version, fresh)]
        if stopped:
            return version - 1, stopped
    _state_version(model, target)
    return target, []


def _step(container: _Container, graphs: list[ir.Graph], version: int, fresh: _Names) -> list[str]:
    """Bring one graph with its bodies, or one function, to the next opset; reasons why it cannot be."""
    from .opsets.step import Site, Stop

    if container.opset_imports.get("", version) >= version:
        return []
    stopped: dict[tuple[str, str], list[ir.Node]] = {}
    for graph in graphs:
        for node in list(graph):
            if node.domain != "" or not _needs_step(node.op_type, version):
                continue
            try:
                _step_node(Site(node, fresh, isinstance(container, ir.Function), version))
            except Stop as reason:
                stopped.setdefault((node.op_type, str(reason)), []).append(node)
    return [f"{_named(nodes)} below opset {version}: {reason}" for (_, reason), nodes in stopped.items()]


def _named(nodes: list[ir.Node]) -> str:
    """The first of several nodes of one operator that stay, and how many there are."""
    first = f"{nodes[0].op_type} {nodes[0].name or nodes[0].outputs[0].name}"
    return f"{first} stays" if len(nodes) == 1 else f"{first} and {len(nodes) - 1} more stay"


@cache
def _needs_step(op: str, version: int) -> bool:
    """Whether anything is to be done, or to be refused, for an operator on the way to this opset."""
    from .opsets.kernels import LOST
    from .opsets.unchanged import UNCHANGED

    if op in _RUNTIME_OWN:
        return False
    changed = op not in _histories() or bool(steps(op, version - 1, version))
    return changed and ((op, version) in LOST or (op, version) not in UNCHANGED)


def _step_node(site: Site) -> None:
    from .opsets.kernels import loss
    from .opsets.rewrites import REWRITES
    from .opsets.step import Stop
    from .opsets.unchanged import UNCHANGED

    key = (site.node.op_type, site.version)
    reason = loss(site.node, site.version)
    if reason is not None:
        raise Stop(reason)
    if key in UNCHANGED:
        return
    if key not in REWRITES:
        raise Stop("no way to its next version is known")
    REWRITES[key](site)


def _state_version(model: ir.Model, target: int) -> None:
    """Write the new opset down, and the version of the file format that knows it."""
    from onnx import helper

    for container in _containers(model):
        if "" in container.opset_imports:
            container.opset_imports[""] = max(target, container.opset_imports[""])
        for graph in _graphs(container):
            for node in graph:
                node.version = None
    model.ir_version = max(model.ir_version, helper.find_min_ir_version_for([helper.make_opsetid("", target)]))


class _Names:
    """Gives unused names."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken

    def __call__(self, stem: str) -> str:
        name, count = stem, 0
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name
