"""The price of one operator: how much longer a session takes for each further copy of it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.errors import TamagoError
from ...compiler.facts import Array, Fact, item_bytes
from ...compiler.price import DEFAULT_DIM, Site
from ...compiler.schema import split_name
from .run import Program
from .timing import interleave

COPIES = 5
LARGEST = 1 << 28  # bytes of operands and result: beyond this a measurement would cost more than it tells


def measure(site: Site, threads: int | None, version: int) -> tuple[float, float, int] | None:
    """Median milliseconds, spread and samples of a site; None where it cannot be run alone."""
    if any(f is not None and (f.dtype is None or f.shape is None) for f in site.operands):
        return None
    if site.outputs != 1 or sum(_size(f) for f in (*site.operands, site.result) if f is not None) > LARGEST:
        return None
    try:
        runs = []
        for copies in (1, COPIES):
            model, feeds = _model(site, copies, version)
            program = Program(model, threads)
            runs.append(lambda program=program, feeds=feeds: program.session.run(None, feeds))
        one, many = interleave(runs, rounds=5, seconds=0.15, slot=0.002)
    except (TamagoError, RuntimeError, ValueError):
        return None
    except Exception as error:  # ONNX Runtime's own exception classes share no base but Exception
        if type(error).__module__.startswith("onnxruntime"):
            return None
        raise
    each = (np.asarray(many.samples) - np.asarray(one.samples)) / (COPIES - 1)
    return max(float(np.median(each)), 1e-5), float(np.std(each)), len(each)


def _size(fact: Fact) -> int:
    size = int(np.prod([_dim(d) for d in fact.shape or ()]))
    return size * int(item_bytes(fact.dtype))


def _dim(dim: object) -> int:
    return dim if isinstance(dim, int) else DEFAULT_DIM


def _model(site: Site, copies: int, version: int) -> tuple[ir.Model, dict[str, Array]]:
    generator = np.random.default_rng(0)
    inputs: list[ir.Value] = []
    constants: list[ir.Value] = []
    feeds: dict[str, Array] = {}
    nodes: list[ir.Node] = []
    shared: dict[int, ir.Value] = {}
    domain, op_type = split_name(site.op.partition("@")[0])
    attributes = [_attribute(k, v) for k, v in site.attributes]
    for copy in range(copies):
        operands: list[ir.Value | None] = []
        for position, fact in enumerate(site.operands):
            if fact is None:
                operands.append(None)
            elif fact.constant is not None:
                if position not in shared:
                    shared[position] = _constant(f"w{position}", fact, generator)
                    constants.append(shared[position])
                operands.append(shared[position])
            else:
                value, array = _input(f"x{copy}_{position}", fact, generator)
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


def _attribute(name: str, value: object) -> ir.Attr:
    if isinstance(value, np.ndarray):
        return ir.AttrTensor(name, ir.tensor(value))
    return ir.convenience.convert_attribute(name, list(value) if isinstance(value, tuple) else value)  # type: ignore[arg-type]


def _input(name: str, fact: Fact, generator: np.random.Generator) -> tuple[ir.Value, Array]:
    array = sample(fact, generator)
    tensor_type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=tensor_type), array


def _constant(name: str, fact: Fact, generator: np.random.Generator) -> ir.Value:
    known = fact.constant is not None and (fact.size or 0) <= 4096
    array = fact.constant.array(0) if known and fact.constant is not None else sample(fact, generator)
    tensor = ir.tensor(np.asarray(array, order="C"), name=name)
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)


def sample(fact: Fact, generator: np.random.Generator) -> Array:
    """Typical contents: normal numbers; ones for booleans and small non-negative integers for indices."""
    shape = [_dim(d) for d in fact.shape or ()]
    dtype = ir.DataType(fact.dtype or ir.DataType.FLOAT).numpy()
    if dtype.kind == "b":
        return np.ones(shape, dtype)
    if dtype.kind in "iu":
        return generator.integers(0, 2, shape).astype(dtype)
    size = int(np.prod(shape))
    # Values past the first sixteen thousand repeat: drawing megabytes of them takes longer than the measurement.
    return np.resize(generator.standard_normal(min(size, 1 << 14)).astype(dtype), shape)
