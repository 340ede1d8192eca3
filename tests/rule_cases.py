"""A rule's example becomes two models: the pattern as written, and the same after the rule was applied."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir

from tamago.backends.onnxruntime.alternatives import RULES as ALTERNATIVES
from tamago.backends.triton.alternatives import RULES as KERNELS
from tamago.compiler.blocks import find_blocks
from tamago.compiler.choose import Problem, choose
from tamago.compiler.decode import decode
from tamago.compiler.egraph import Row
from tamago.compiler.encode import encode
from tamago.compiler.facts import Array
from tamago.compiler.fold import remove_unused
from tamago.compiler.inference import infer
from tamago.compiler.ir import new_constant, unique_names
from tamago.compiler.operators import attach
from tamago.compiler.opset import TARGET
from tamago.compiler.optimise import Names, problem_of
from tamago.compiler.price import Prices
from tamago.compiler.rule import Number, Pattern, Rest, Rule, Var
from tamago.compiler.saturate import Limits, Saturation, saturate
from tamago.compiler.schema import split_name
from tamago.compiler.splice import splice
from tamago.compiler.store import Store
from tamago.rewrites import all_rules

DTYPES = {
    "f64": np.dtype(np.float64),
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "i64": np.dtype(np.int64),
    "i32": np.dtype(np.int32),
    "i8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "b": np.dtype(np.bool_),
}
TYPE = re.compile(r"(?P<dtype>\w+)\[(?P<shape>[^\]]*)\](?P<const> const)?(?: = (?P<values>.+))?$")


@dataclass(frozen=True)
class Case:
    """One pattern of one rule on one example."""

    rule: Rule
    pattern: Pattern
    example: Mapping[str, Any]

    def __str__(self) -> str:
        place = self.rule.patterns.index(self.pattern)
        return f"{self.rule.name}-{place}-" + ",".join(f"{k}:{v}" for k, v in self.example.items())[:60]


def rules() -> tuple[Rule, ...]:
    return (*all_rules(), *ALTERNATIVES, *KERNELS)


def cases(which: str) -> Iterator[Case]:
    """All examples ("examples") or all refusals ("refusals") of all rules."""
    for rule in rules():
        for example in getattr(rule, which):
            chosen = example.get("pattern")
            patterns = rule.patterns if chosen is None else (rule.patterns[chosen],)
            yield from (Case(rule, pattern, example) for pattern in patterns)


def array_of(text: str, seed: int) -> Array:
    """Contents for a constant such as "f32[2,3] const" or "i64[2] = 0 1"."""
    found = TYPE.match(text)
    assert found is not None, f"not a type: {text!r}"
    shape = [int(d) for d in found["shape"].split(",") if d]
    dtype = DTYPES[found["dtype"]]
    if found["values"] is not None:
        numbers = [_number(v) for v in found["values"].split()]
        return np.resize(np.asarray(numbers), shape).astype(dtype)
    return random(shape, dtype, np.random.default_rng(seed))


def _number(text: str) -> float | int:
    return float(text) if any(c in text for c in ".einf") else int(text)


def random(shape: list[int], dtype: np.dtype[Any], generator: np.random.Generator) -> Array:
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        return generator.integers(0, 8, shape).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)


def model_of(case: Case, seed: int = 0) -> ir.Model:
    """The pattern as an ONNX model: variables are inputs, or initializers where the example says so."""
    builder = _Builder(case, seed)
    result = builder.write(case.pattern)
    result = result if isinstance(result, ir.Value) else result[0]
    extra = case.example.get("outputs", ())
    outputs = [result, *(builder.values[name] for name in extra)]
    opsets = {"": TARGET} | {n.domain: 1 for n in builder.nodes if n.domain}
    graph = ir.Graph(
        builder.inputs, outputs, nodes=builder.nodes, initializers=builder.constants, opset_imports=opsets, name="case"
    )
    model = ir.Model(graph, ir_version=10)
    infer(model)
    attach(model)
    return model


class _Builder:
    def __init__(self, case: Case, seed: int) -> None:
        self.case, self.seed = case, seed
        self.values: dict[str, ir.Value] = {}
        self.written: dict[int, ir.Value | list[ir.Value]] = {}
        self.inputs: list[ir.Value] = []
        self.constants: list[ir.Value] = []
        self.nodes: list[ir.Node] = []

    def variable(self, name: str, text: str) -> ir.Value:
        if name in self.values:
            return self.values[name]
        found = TYPE.match(text)
        assert found is not None, f"{self.case.rule}: not a type: {text!r}"
        if found["const"] or found["values"] is not None:
            value = self.constant(name, array_of(text, self.seed + len(self.constants)))
        else:
            shape = [int(d) if d.isdigit() else d for d in found["shape"].split(",") if d]
            tensor_type = ir.TensorType(ir.DataType.from_numpy(DTYPES[found["dtype"]]))
            value = ir.Value(name=name, shape=ir.Shape(shape), type=tensor_type)
            self.inputs.append(value)
        self.values[name] = value
        return value

    def constant(self, name: str, array: Array) -> ir.Value:
        value = new_constant(name, array)
        self.constants.append(value)
        return value

    def write(self, pattern: Pattern) -> ir.Value | list[ir.Value]:
        if id(pattern) not in self.written:
            self.written[id(pattern)] = self._write(pattern)
        return self.written[id(pattern)]

    def _write(self, pattern: Pattern) -> ir.Value | list[ir.Value]:
        if pattern.op == "out":
            source = pattern.inputs[0]
            assert isinstance(source, Pattern)
            many = self.write(source)
            assert isinstance(many, list)
            return many[self.attribute(pattern.attributes["index"])]
        # Literals take the dtype of what stands beside them, so they are written last.
        operands: list[ir.Value | Number | None] = []
        for child in pattern.inputs:
            match child:
                case Pattern():
                    value = self.write(child)
                    assert isinstance(value, ir.Value), "an operator with several outputs needs .out(i)"
                    operands.append(value)
                case Var():
                    text = self.case.example[child.name]
                    operands.append(None if text is None else self.variable(child.name, text))
                case Rest():
                    texts = self.case.example.get(child.name, ())
                    operands += [self.variable(f"{child.name}{i}", t) for i, t in enumerate(texts)]
                case Number():
                    operands.append(child)
        inputs = [self.literal(o.number) if isinstance(o, Number) else o for o in operands]
        stated: dict[str, Any] = {}
        for name, value in pattern.attributes.items():
            if name == "attributes":
                stated.update(self.attribute(value) or {})
            else:
                stated[name] = self.attribute(value)
        attributes = [
            ir.convenience.convert_attribute(k, list(v) if isinstance(v, tuple) else v)
            for k, v in stated.items()
            if v is not None
        ]
        domain, op_type = split_name(pattern.op)
        name = f"n{len(self.nodes)}"
        node = ir.Node(domain, op_type, inputs, attributes, num_outputs=pattern.outputs or 1, name=name)
        for i, output in enumerate(node.outputs):
            output.name = f"{name}_{i}"
        self.nodes.append(node)
        return list(node.outputs) if pattern.outputs else node.outputs[0]

    def attribute(self, value: Any) -> Any:
        return self.case.example.get(value.name) if isinstance(value, Var) else value

    def literal(self, number: float) -> ir.Value:
        dtype = next((v.dtype for v in self.inputs if v.dtype is not None and v.dtype.is_floating_point()), None)
        dtype = dtype or next((v.dtype for v in self.inputs if v.dtype is not None), ir.DataType.FLOAT)
        return self.constant(f"literal{len(self.constants)}", np.asarray(number, dtype=dtype.numpy()))


def apply(case: Case, model: ir.Model) -> tuple[ir.Model, Saturation]:
    """The model after the case's rule alone was applied wherever it can be, and what happened."""
    changed = model.clone()
    names = Names(unique_names(changed.graph))
    (block,) = find_blocks(changed.graph)
    encoded = encode(block, TARGET)
    report = saturate(encoded.egraph, [case.rule], Limits(iterations=1), strict=True)
    encoded.egraph.matches([])  # congruence closes over what the last match joined
    problem = problem_of(encoded, Prices(Store.open(":memory:"), "tests"))

    def prefer_new(uid: int, row: Row) -> float:
        return 1e-3 if encoded.egraph.origins[row].rule is not None else 1.0

    preferring = Problem(problem.classes, problem.roots, problem.free, prefer_new)
    choice = choose(preferring)
    for index, instance in enumerate(block.instances):
        splice(changed.graph, instance, decode(block, encoded, choice, index, names), names)
    remove_unused(changed.graph)
    attach(changed)
    return changed, report


def to_proto(model: ir.Model) -> onnx.ModelProto:
    domains = {n.domain for n in model.graph if n.domain}
    model.opset_imports.update({d: 1 for d in domains if d not in model.opset_imports})
    return to_proto(model)
