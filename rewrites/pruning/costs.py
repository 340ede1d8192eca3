"""What one unit of a group costs: its share of the program's bytes and of its multiply-adds, in equal parts."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from ...compiler.approximate.places import find_places
from ...compiler.ir import constant_tensor, dims
from .groups import Group


def unit_costs(model: ir.Model, groups: Sequence[Group]) -> list[float]:
    """For each group what one of its units costs, of a program that costs 1."""
    tensors = [t for t in map(constant_tensor, model.graph.initializers.values()) if t is not None]
    stored = max(sum(t.nbytes for t in tensors), 1)
    work = max(
        sum(_positions(p.nodes[0]) * prod(p.shape) for p in find_places(model.graph) if p.kind != "embedding"), 1
    )
    return [0.5 * _bytes(g) / stored + 0.5 * _multiply_adds(g) / work for g in groups]


def _bytes(group: Group) -> float:
    parts = {(p.constant, p.layout.axis) for p in group.slices}
    tensors = [t for t in (constant_tensor(value) for value, _ in parts) if t is not None]
    return sum(t.nbytes for t in tensors) / group.units


def _multiply_adds(group: Group) -> float:
    found = [(p.node, constant_tensor(p.constant)) for p in group.slices if p.index == 1]
    return sum(_positions(node) * t.size for node, t in found if t is not None) / group.units


def _positions(node: ir.Node) -> int:
    """How often a weight is used in one run; a dimension that is a name counts as 1."""
    shape = dims(node.outputs[0]) or ()
    match node.op_type:
        case "Conv" | "FusedConv" | "ConvTranspose":
            return prod(d for d in shape[2:] if isinstance(d, int))
        case "MatMul" | "FusedMatMul" | "Gemm":
            return prod(d for d in shape[:-1] if isinstance(d, int))
        case _:
            return 0
