"""Which channels of a program can only leave together: groups, found by following each channel wherever it goes.

From what makes a channel (a column of a product, a filter of a convolution) the walk goes forwards and backwards
through every operator that keeps channels apart, until constants make them or sum over them. A sum of two branches
couples what makes both (Fang et al., DepGraph, CVPR 2023, arXiv:2301.12900). What an operator does with a channel is
said in `passages.py`; whatever is not said there makes the group one that stays as it is, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.ir import constant_tensor, dims, op_name
from ...compiler.rule import Skip
from .groups import Count, Group, Size, Slice
from .layout import Layout
from .passages import passage


@dataclass(frozen=True)
class Refused:
    """Channels that stay, and why."""

    name: str
    reason: str


def channel_groups(model: ir.Model) -> tuple[list[Group], list[Refused]]:
    """Groups of single channels: convolutions, products, embeddings, each axis of a constant in one group at most."""
    return collect(seeds(model.graph))


def collect(starts: Iterator[tuple[ir.Value, Layout]]) -> tuple[list[Group], list[Refused]]:
    """The groups that contain these values' channels, each once, and what was refused."""
    found: list[Group] = []
    refused: list[Refused] = []
    claimed: set[tuple[str, int]] = set()
    for value, layout in starts:
        if any(g.values.get(value) == layout for g in found):
            continue
        try:
            group = follow(value, layout)
        except Skip as reason:
            refused.append(Refused(value.name or "", str(reason)))
            continue
        if group.claims & claimed:
            refused.append(Refused(value.name or "", "another group shrinks the same weights"))
            continue
        claimed |= group.claims
        found.append(group)
    return found, refused


def seeds(graph: ir.Graph) -> Iterator[tuple[ir.Value, Layout]]:
    """Every value whose channels a constant makes, and where they lie."""
    for node in graph:
        output = node.outputs[0]
        shape = dims(output)
        axis = _made_along(node, 0 if shape is None else len(shape))
        if shape is None or axis is None:
            continue
        width = shape[axis]
        if isinstance(width, int) and width > 1:
            yield output, Layout(axis, width)


def _made_along(node: ir.Node, rank: int) -> int | None:
    match op_name(node):
        case "Conv" | "com.microsoft::FusedConv" | "ConvTranspose":
            return 1 if _constant(node, 1) else None
        case "MatMul" | "com.microsoft::FusedMatMul" | "Gemm":
            return rank - 1 if _constant(node, 1) and rank else None
        case "Gather":
            return rank - 1 if _constant(node, 0) and rank else None
        case _:
            return None


def _constant(node: ir.Node, index: int) -> bool:
    value = node.inputs[index]
    tensor = None if value is None else constant_tensor(value)
    return tensor is not None and len(tensor.shape) >= 2


def follow(value: ir.Value, layout: Layout) -> Group:
    """The group that contains the units of a value.

    Raises:
        Skip: they cannot be removed, or removing them would save nothing.
    """
    group = Group(value.name or "", layout.units)
    waiting = [(value, layout)]
    passed: set[tuple[ir.Node, ir.Value]] = set()
    slices: dict[tuple[ir.Node, int, int], Slice] = {}
    sizes: dict[tuple[ir.Node, int, int], Size] = {}
    counts: dict[tuple[ir.Node, str], Count] = {}
    while waiting:
        value, layout = waiting.pop()
        if value in group.values:
            if group.values[value] != layout:
                raise Skip(f"{value.name} carries the channels in two orders")
            continue
        group.values[value] = layout
        for node in _around(value, layout):
            if (node, value) in passed:
                continue
            passed.add((node, value))
            for part in passage(node, value, layout):
                match part:
                    case Slice():
                        slices.setdefault((part.node, part.index, part.layout.axis), part)
                        if slices[part.node, part.index, part.layout.axis] != part:
                            raise Skip(f"{node.name} reads the same channels in two orders")
                    case Size():
                        sizes[part.node, part.index, part.position] = part
                    case Count():
                        counts[part.node, part.name] = part
                    case _:
                        waiting.append(part)
    group.slices, group.sizes, group.counts = list(slices.values()), list(sizes.values()), list(counts.values())
    _check(group)
    return group


def _around(value: ir.Value, layout: Layout) -> list[ir.Node]:
    """What makes the value, and what reads it."""
    shape = dims(value)
    if shape is None or shape[layout.axis] != layout.length:
        raise Skip(f"the size of {value.name} is not known")
    if value.is_graph_output():
        raise Skip(f"{value.name} is an output of the model")
    producer = value.producer()
    if producer is None:
        raise Skip(f"{value.name} comes from outside")
    readers = [use.node for use in value.uses()]
    if any(r.graph is not producer.graph for r in readers):
        raise Skip(f"{value.name} is read inside a branch or a loop")
    return [producer, *readers]


def _check(group: Group) -> None:
    if not group.of("source") or not group.of("sink"):
        raise Skip("nothing makes the channels, or nothing sums over them")
    reads = {(s.node, s.index) for s in group.slices}
    for part in group.slices:
        tensor = constant_tensor(part.constant)
        assert tensor is not None
        if tensor.size <= part.layout.length:  # a bias: a copy costs nothing
            continue
        elsewhere = [use for use in part.constant.uses() if (use.node, use.idx) not in reads]
        if elsewhere or part.constant.is_graph_output():
            raise Skip(f"{part.constant.name} is read elsewhere as well")
