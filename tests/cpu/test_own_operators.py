"""tamago's own operators: the function that travels with a model, the FX program and the shapes say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from tamago.backends.onnxruntime.run import Program as Plain
from tamago.backends.triton.run import Program
from tamago.compiler.errors import TamagoError
from tamago.compiler.facts import Array
from tamago.compiler.files import read_model, write_model
from tamago.compiler.inference import infer
from tamago.compiler.ir import dims
from tamago.compiler.operators import DOMAIN, OPERATORS, VERSION, attach, detach
from tamago.compiler.opset import TARGET
from tests.rule_cases import array_of

TOLERANCE: dict[np.dtype[Any], float] = {np.dtype(np.float32): 1e-5, np.dtype(np.float16): 4e-3}


@dataclass(frozen=True)
class Sample:
    """One operator on one of its samples."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}-{self.number}"

    @property
    def texts(self) -> dict[str, str]:
        return OPERATORS[self.name].samples[self.number]

    def feeds(self) -> dict[str, Array]:
        """Its operands, drawn; a weight is a tenth, as trained ones are."""
        found = {k: array_of(t, seed) for seed, (k, t) in enumerate(self.texts.items()) if "[" in t}
        weights = [k for k, a in found.items() if k in "wv" and a.ndim == 2]
        return found | {k: np.multiply(found[k], 0.1, dtype=found[k].dtype) for k in weights}

    def attributes(self) -> dict[str, ir.Attr]:
        return {k: _attribute(k, t) for k, t in self.texts.items() if "[" not in t}


def _attribute(name: str, text: str) -> ir.Attr:
    """A number, or "ints 1 2"."""
    if text.startswith("ints "):
        return ir.AttrInt64s(name, [int(n) for n in text.split()[1:]])
    return ir.AttrInt64(name, int(text)) if text.isdigit() else ir.AttrFloat32(name, float(text))


def _another(attribute: ir.Attr) -> ir.Attr:
    """The attribute with another value."""
    if attribute.type == ir.AttributeType.INT:
        return ir.AttrInt64(attribute.name, 2 * attribute.as_int() + 1)
    if attribute.type == ir.AttributeType.INTS:
        return ir.AttrInt64s(attribute.name, [2 * n + 1 for n in attribute.as_ints()])
    return ir.AttrFloat32(attribute.name, 2 * attribute.as_float() + 1)


SAMPLES = [Sample(name, number) for name, operator in OPERATORS.items() for number in range(len(operator.samples))]


def model_of(*samples: Sample) -> ir.Model:
    """A node for each sample, its operands inputs of the graph, nothing known of its results."""
    nodes: list[ir.Node] = []
    inputs: list[ir.Value] = []
    for place, sample in enumerate(samples):
        operands = [
            ir.Value(name=f"{k}{place}", shape=ir.Shape(a.shape), type=ir.TensorType(ir.DataType.from_numpy(a.dtype)))
            for k, a in sample.feeds().items()
        ]
        attributes = list(sample.attributes().values())
        count = len(OPERATORS[sample.name].like)
        node = ir.Node(DOMAIN, sample.name, operands, attributes, num_outputs=count, name=f"n{place}")
        for number, output in enumerate(node.outputs):
            output.name = f"y{place}_{number}"
            output.type = operands[0].type
        nodes.append(node)
        inputs += operands
    outputs = [v for n in nodes for v in n.outputs]
    graph = ir.Graph(inputs, outputs, nodes=nodes, opset_imports={"": TARGET, DOMAIN: VERSION}, name="sample")
    return ir.Model(graph, ir_version=10)


def feeds_of(*samples: Sample) -> dict[str, Array]:
    return {f"{k}{place}": a for place, sample in enumerate(samples) for k, a in sample.feeds().items()}


def check(wanted: Sequence[Array], found: Sequence[Array]) -> None:
    for a, b in zip(wanted, found, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        allowed = TOLERANCE[a.dtype] * float(np.abs(a).max())
        np.testing.assert_allclose(b.astype(np.float64), a.astype(np.float64), rtol=0, atol=allowed)


def with_functions(model: ir.Model) -> ir.Model:
    attach(model)
    return model


def test_every_operator_has_samples_in_two_precisions() -> None:
    for operator in OPERATORS.values():
        kinds = {array_of(t, 0).dtype.name for s in operator.samples for t in s.values() if t.startswith("f")}
        assert kinds == {"float32", "float16"}, operator.name


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_the_function_and_the_program_of_torch_operators_agree(sample: Sample) -> None:
    feeds = feeds_of(sample)
    wanted = Plain(with_functions(model_of(sample)), 1)(feeds)

    program = Program(model_of(sample), device="cpu")

    check(wanted, program(feeds))
    called = [str(n.target) for n in program.module.graph.nodes if n.op == "call_function"]
    assert sum(name.startswith("tamago.") for name in called) == 1, "the function was written out"


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_every_operand_and_attribute_has_a_say(sample: Sample) -> None:
    """Else the comparison above would prove nothing of it."""
    run = Plain(with_functions(model_of(sample)), 1)
    feeds = feeds_of(sample)
    if "position0" in feeds:
        feeds["position0"] = np.asarray([7])  # at the first one there is nothing to weigh
    wanted = run(feeds)

    for name, array in feeds.items():
        other = np.add(np.roll(array, 1), 1, dtype=array.dtype)
        found = run({**feeds, name: other})
        assert any(not np.array_equal(a, b) for a, b in zip(wanted, found, strict=True)), name
    for name, attribute in sample.attributes().items():
        model = model_of(sample)
        model.graph[0].attributes[name] = _another(attribute)
        try:
            found = Plain(with_functions(model), 1)(feeds)
        except TamagoError:  # a size: another does not fit the operands
            assert attribute.type != ir.AttributeType.FLOAT, name
            continue
        assert any(not np.array_equal(a, b) for a, b in zip(wanted, found, strict=True)), name


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_inference_says_what_comes_out(sample: Sample) -> None:
    model = model_of(sample)

    infer(model)

    found = Program(model, device="cpu")(feeds_of(sample))
    assert [(dims(v), v.dtype) for v in model.graph.outputs] == [
        (array.shape, ir.DataType.from_numpy(array.dtype)) for array in found
    ]


@pytest.mark.parametrize("position", [0, 5, 23])
def test_a_step_of_attention_writes_its_position_and_no_other(position: int) -> None:
    sample = Sample("AttentionStep", 0)
    feeds = {**feeds_of(sample), "position0": np.asarray([position])}

    for run in (Plain(with_functions(model_of(sample)), 1), Program(model_of(sample), device="cpu")):
        _, keys, values = run(feeds)
        for now, then in ((keys, feeds["past_key0"]), (values, feeds["past_value0"])):
            assert np.array_equal(np.delete(now, position, 2), np.delete(then, position, 2))
            assert not np.array_equal(now, then)
        assert np.array_equal(values[:, :, position], feeds["v0"][:, :, 0])
    program = Program(model_of(sample), device="cpu")
    check(Plain(with_functions(model_of(sample)), 1)(feeds), program(feeds))


def test_the_program_does_not_write_to_its_caller_s_cache() -> None:
    sample = Sample("AttentionStep", 0)
    feeds = {k: torch.from_numpy(a.copy()) for k, a in feeds_of(sample).items()}

    Program(model_of(sample), device="cpu").run_by_name(feeds)

    assert all(np.array_equal(feeds[k].numpy(), a) for k, a in feeds_of(sample).items())


def test_functions_come_with_what_uses_them_and_with_nothing_else() -> None:
    plain = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": TARGET}), ir_version=10)
    two = model_of(Sample("Linear", 0), Sample("SwiGLU", 0), Sample("Linear", 1))

    for model in (plain, two):
        attach(model)
        attach(model)  # which changes nothing more

    assert not plain.functions
    assert DOMAIN not in plain.opset_imports
    assert sorted((i[0], i[1]) for i in two.functions) == [(DOMAIN, "Linear"), (DOMAIN, "SwiGLU")]


def test_a_saved_model_runs_wherever_onnx_does(tmp_path: Path) -> None:
    firsts = [Sample(name, 0) for name in OPERATORS]
    model, path = model_of(*firsts), tmp_path / "model.onnx"
    wanted = Program(model, device="cpu")(feeds_of(*firsts))

    infer(model)
    write_model(with_functions(model), path)

    onnx.checker.check_model(str(path))
    found = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds_of(*firsts))
    check(wanted, [np.asarray(f) for f in found])
    check(wanted, Program(read_model(path), device="cpu")(feeds_of(*firsts)))


def test_detaching_takes_these_functions_away_and_no_others() -> None:
    model = with_functions(model_of(Sample("Linear", 0), Sample("NormLinear", 0)))
    other = ir.Function("my.own", "Linear", graph=ir.Graph([], [], nodes=[], opset_imports={"": TARGET}), attributes=[])
    model.functions[other.identifier()] = other

    detach(model)

    assert list(model.functions) == [other.identifier()]
    assert [n.op_type for n in model.graph] == ["Linear", "NormLinear"]
    with pytest.raises(TamagoError, match="B001"):
        Plain(model, 1)
