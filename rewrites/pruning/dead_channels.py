"""Dead channels: units that add exactly nothing to what reads them go; no error but that of sums reordered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from ...compiler.approximate.structure import Observed, Variant, structure
from ...compiler.facts import Floats
from ...compiler.ir import attribute_values, constant_array, op_name
from .groups import Group, Slice
from .layout import Indices
from .prune import prunable
from .removal import without

UNKNOWN = np.nan
_KEPT = {"Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "MaxPool", "GlobalMaxPool"}


@structure(paper="Hu et al., Network Trimming, 2016, arXiv:1607.03250 (zero activations; here only proved ones)")
def dead_channels(observed: Observed) -> Iterator[Variant]:
    """Σ W[c]·x[c] = Σ over c with W[c] ≠ 0 and x[c] ≢ 0, where weights of nothing but zeros make x[c] a constant.

    What no sample shows but weights prove: for every finite input the outputs stay what they were.
    """
    groups = prunable(observed.model)
    alive = [living(g) for g in groups]
    kept = [(g, units) for g, units in zip(groups, alive, strict=True) if len(units) < g.units]
    if kept:
        count = sum(g.units - len(units) for g, units in kept)
        yield Variant(f"{count} units that add nothing", without(observed.model, kept))


def living(group: Group) -> Indices:
    """The units that may add something; one where none does."""
    silent = np.all([~np.any(part.array != 0, axis=1) for part in group.of("sink")], axis=0)
    zero = np.all([known == 0 for known in _read(group)], axis=0)
    found = np.arange(group.units, dtype=np.int64)[~np.asarray(silent | zero, np.bool_)]
    return found if found.size else np.zeros(1, np.int64)


def _read(group: Group) -> list[Floats]:
    """The number that each unit always holds in what sinks read; NaN: not always the same, or not known."""
    nothing = np.full(group.units, UNKNOWN)
    known: dict[ir.Value, Floats] = {}
    for node in _in_order(group):
        value = node.outputs[0]
        if value in group.values:
            known[value] = _always(node, group, known)
    return [known.get(value, nothing) for value in group.read] or [nothing]


def _in_order(group: Group) -> Sequence[ir.Node]:
    nodes = {value.producer() for value in group.values}
    graph = next(n.graph for n in nodes if n is not None)
    assert isinstance(graph, ir.Graph)
    return [n for n in graph if n in nodes]


def _always(node: ir.Node, group: Group, known: dict[ir.Value, Floats]) -> Floats:
    nothing = np.full(group.units, UNKNOWN)
    slices = {part.index: part for part in group.slices if part.node is node and part.role != "sink"}
    inputs = [_constant(group, slices.get(i), v, known) for i, v in enumerate(node.inputs)]
    with np.errstate(all="ignore"):
        match op_name(node):
            case "Conv" | "Gemm" | "MatMul":
                return _product(node, slices, inputs, nothing)
            case "Relu":
                return np.maximum(inputs[0], 0.0)
            case "Clip" if len(inputs) == 3:
                return np.clip(inputs[0], inputs[1], inputs[2])
            case "Add":
                return inputs[0] + inputs[1]
            case "Sub":
                return inputs[0] - inputs[1]
            case "Mul":
                return np.where((inputs[0] == 0) | (inputs[1] == 0), 0.0, inputs[0] * inputs[1])
            case "LeakyRelu" | "Elu" | "Selu" | "Gelu" | "Tanh" | "com.microsoft::QuickGelu" | "com.microsoft::Gelu":
                return np.where(inputs[0] == 0, 0.0, UNKNOWN)
            case "AveragePool" | "GlobalAveragePool":  # zeros of the padding may count
                return np.where(inputs[0] == 0, 0.0, UNKNOWN)
            case name if name in _KEPT:
                return inputs[0]
            case _:
                return nothing


def _product(node: ir.Node, slices: dict[int, Slice], inputs: Sequence[Floats], nothing: Floats) -> Floats:
    """A product with nothing but zeros, or of zeros channel by channel, is its bias."""
    part = slices.get(1)
    if part is None:
        return nothing
    zero = ~np.any(part.array != 0, axis=1)
    if part.role == "each":
        zero |= inputs[0] == 0
    bias = inputs[2] if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(len(zero))
    beta = float(attribute_values(node).get("beta", 1.0))
    return np.where(zero, bias * beta, UNKNOWN)


def _constant(group: Group, part: Slice | None, value: ir.Value | None, known: dict[ir.Value, Floats]) -> Floats:
    """What each unit always holds in one operand."""
    if part is not None:
        array = np.asarray(part.array, np.float64)
        return np.where(np.all(array == array[:, :1], axis=1), array[:, 0], UNKNOWN)
    if value in known:
        return known[value]
    single = None if value is None else constant_array(value, 1)
    return np.full(group.units, UNKNOWN if single is None else float(single.reshape(-1)[0]))
