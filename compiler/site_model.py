"""A model of one operator, or of several copies of it: what a backend times to price it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from .decode import new_attribute
from .evaluate import CannotEvaluate
from .facts import Array, Fact, item_bytes
from .hidden_scores import hide, hides
from .ir import fact_of
from .price import DEFAULT_DIM, Site
from .schema import split_name

AGREE = 1e-2  # relative: a program that differs more is no candidate, whatever its time
KNOWN = 4096  # elements
LARGEST = 1 << 28  # bytes of operands and result: beyond this a measurement would cost more than it tells


def size_of(site: Site) -> int | None:
    """Bytes of a site's operands and result; None where it cannot be run alone, or would cost more than it tells."""
    if any(f is not None and (f.dtype is None or f.shape is None) for f in site.operands) or site.outputs != 1:
        return None
    size = sum(_size(f) for f in (*site.operands, site.result) if f is not None)
    return size if size <= LARGEST else None


def site_model(
    site: Site, copies: int, version: int, *, own_constants: bool = False, integers: int = 2
) -> tuple[ir.Model, dict[str, Array]]:
    """Several copies of one operator side by side, and inputs for them.

    Args:
        site: the operator with the facts of its operands.
        copies: how many.
        version: the opset of the default domain.
        integers: made-up indices are below it: one that is out of range is an error here and a dead device there.
        own_constants: each copy reads weights of its own: where caches would hold one copy's, and will not the model's.
    """
    generator = np.random.default_rng(0)
    inputs: list[ir.Value] = []
    constants: list[ir.Value] = []
    feeds: dict[str, Array] = {}
    nodes: list[ir.Node] = []
    shared: dict[str, ir.Value] = {}
    domain, op_type = split_name(site.op.partition("@")[0])
    attributes = [new_attribute(k, v) for k, v in site.attributes]
    lengths = _lengths(site)
    for copy in range(copies):
        operands: list[ir.Value | None] = []
        for position, fact in enumerate(site.operands):
            if fact is None:
                operands.append(None)
            elif fact.constant is not None:
                name = f"w{copy}_{position}" if own_constants else f"w{position}"
                if name not in shared:
                    shared[name] = _constant(name, fact, generator, integers)
                    constants.append(shared[name])
                operands.append(shared[name])
            else:
                value, array = _input(f"x{copy}_{position}", fact, generator, integers)
                if position in lengths:
                    array = np.full_like(array, lengths[position])
                inputs.append(value)
                feeds[value.name or ""] = array
                operands.append(value)
        node = ir.Node(domain, op_type, operands, attributes, num_outputs=1, name=f"n{copy}")
        node.outputs[0].name = f"y{copy}"
        node.outputs[0].type = ir.TensorType(ir.DataType(site.result.dtype)) if site.result.dtype else None
        nodes.append(node)
    opsets = {"": version} | ({domain: 1} if domain else {})
    outputs = [n.outputs[0] for n in nodes]
    graph = ir.Graph(inputs, outputs, nodes=nodes, initializers=constants, opset_imports=opsets, name="price")
    return ir.Model(graph, ir_version=10), feeds


def _lengths(site: Site) -> dict[int, int]:
    """Operands that say how long another one is: a made-up number would be another operator, or none."""
    keys = site.operands[1] if len(site.operands) > 1 else None
    if site.op != "com.microsoft::GroupQueryAttention" or keys is None or keys.shape is None:
        return {}
    length = _dim(keys.shape[1])
    return {5: length - 1, 6: length}


def _input(name: str, fact: Fact, generator: np.random.Generator, integers: int) -> tuple[ir.Value, Array]:
    array = sample(fact, generator, integers)
    tensor_type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=tensor_type), array


def _constant(name: str, fact: Fact, generator: np.random.Generator, integers: int) -> ir.Value:
    array = _contents(fact)
    array = sample(fact, generator, integers) if array is None else array
    tensor = ir.tensor(np.asarray(array, order="C"), name=name)
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)


def _contents(fact: Fact) -> Array | None:
    """A small constant itself: what it holds may decide how long it takes."""
    if fact.constant is None or ((fact.size or 0) > KNOWN and not hides(fact)):
        return None
    try:
        return fact.constant.array(0)
    except CannotEvaluate:
        return None


def sample(fact: Fact, generator: np.random.Generator, integers: int = 2) -> Array:
    """Typical contents: normal numbers, those that a mask hides -∞; ones for booleans, small integers for indices."""
    shape = [_dim(d) for d in fact.shape or ()]
    dtype = ir.DataType(fact.dtype or ir.DataType.FLOAT).numpy()
    if dtype.kind == "b":
        return np.ones(shape, dtype)
    if dtype.kind in "iu":
        return generator.integers(0, integers, shape).astype(dtype)
    size = int(np.prod(shape))
    # Values past the first sixteen thousand repeat: drawing megabytes of them takes longer than the measurement.
    typical = np.resize(generator.standard_normal(min(size, 1 << 14)).astype(dtype), shape)
    return hide(typical) if hides(fact) else typical


def _size(fact: Fact) -> int:
    size = int(np.prod([_dim(d) for d in fact.shape or ()]))
    return size * int(item_bytes(fact.dtype))


def _dim(dim: object) -> int:
    return dim if isinstance(dim, int) else DEFAULT_DIM


def made_up(model: ir.Model, integers: int = 2) -> dict[str, Array] | None:
    """Typical inputs for a model of tensors; None where there are none to be made."""
    generator = np.random.default_rng(0)
    feeds: dict[str, Array] = {}
    for value in model.graph.inputs:
        fact = fact_of(value)
        if fact.dtype is None or fact.shape is None or fact.dtype == ir.DataType.STRING:
            return None
        feeds[value.name or ""] = sample(fact, generator, integers)
    return feeds


def agree(a: Sequence[Any], b: Sequence[Any], within: float = AGREE) -> bool:
    """Whether two programs' outputs are near enough for both to be candidates."""
    for p, q in zip(a, b, strict=True):
        if not isinstance(p, np.ndarray) or p.dtype.kind not in "fc":
            continue
        scale = float(np.max(np.abs(p), initial=0.0, where=np.isfinite(p)))
        close = np.isclose(p, q, rtol=within, atol=within * scale, equal_nan=True)
        if not bool(np.all(close)):
            return False
    return True
