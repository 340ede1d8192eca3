"""Functions of a model are written out where that says the same; every other call stays."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from tamago.compiler.files import to_proto
from tamago.compiler.inline import inline

X = np.linspace(-2, 2, 8, dtype=np.float32).reshape(2, 4)
LEAKY = "<k: float = 0.2> (a) => (o) { o = LeakyRelu <alpha: float = @k> (a) }"


def inlined(main: str, *functions: str, opset: int = 18, own: int = 18) -> tuple[onnx.ModelProto, ir.Model]:
    """The model as text gives it, and a copy after `inline`; functions are of domain `own`, written for opset `own`."""
    head = f'<ir_version: 9, opset_import: ["" : {opset}, "own" : 1]> g (float[n,4] x) => (float[n,4] y) '
    bodies = "".join(f' <domain: "own", opset_import: ["" : {own}, "own" : 2]> {text}' for text in functions)
    proto = parser.parse_model(head + main + bodies)
    model = ir.from_proto(proto)
    inline(model)
    return proto, model


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def agree(proto: onnx.ModelProto, model: ir.Model) -> None:
    (wanted,), (found,) = (list(ReferenceEvaluator(m).run(None, {"x": X})) for m in (proto, to_proto(model)))
    assert np.array_equal(found, wanted)


def test_functions_in_functions_with_references_and_defaults() -> None:
    model = inlined("{ t = own.f <k = 0.5> (x) y = own.g (t) }", f"f {LEAKY}", "g (a) => (o) { o = own.f (a) }")[1]

    assert operators(model) == ["LeakyRelu", "LeakyRelu"]
    assert [round(node.attributes["alpha"].as_float(), 3) for node in model.graph] == [0.5, 0.2]
    assert not model.functions


@pytest.mark.parametrize("call", ["y = own.f (x)", "p, y = own.g (x)"])
def test_a_call_may_leave_out_its_last_outputs(call: str) -> None:
    both = [
        "f (a) => (o, p) { o = Neg (a) p = Relu (o) }",
        "g (a) => (o, p, q) { o = Neg (a) p = Abs (a) q = Exp (p) }",
    ]
    model = inlined("{ " + call + " }", *both)[1]

    assert not {"f", "g"} & set(operators(model))
    assert model.graph.outputs[0].name == "y"


def test_a_function_of_an_older_opset_is_written_out_where_its_operators_mean_the_same() -> None:
    proto, model = inlined("{ y = own.f (x) }", "f (a) => (o) { s = Sigmoid (a) o = Mul (a, s) }", own=15)

    assert operators(model) == ["Sigmoid", "Mul"]
    assert model.opset_imports[""] == 18
    agree(proto, model)


def test_it_stays_where_they_do_not() -> None:
    """Softmax over all dimensions from the second on became one over the last in opset 13."""
    model = inlined("{ t = own.f (x) y = own.g (t) }", "f (a) => (o) { o = Softmax (a) }", f"g {LEAKY}", own=12)[1]

    assert operators(model) == ["f", "LeakyRelu"]
    assert next(iter(model.functions.values())).opset_imports[""] == 12


@pytest.mark.parametrize("call", ["y = own.f (x, x)", "y, z = own.f (x)"])
def test_a_call_with_more_than_the_function_has_stays(call: str) -> None:
    assert operators(inlined("{ " + call + " }", f"f {LEAKY}")[1]) == ["f"]
