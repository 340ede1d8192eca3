"""Products that were fused for a target are standard operators again, and can be fused anew."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from tamago.backends.onnxruntime.run import Program
from tamago.backends.triton.regions import fused_products
from tamago.compiler.approximate.places import find_places
from tamago.compiler.operators import DOMAIN, attach
from tamago.compiler.serialization import from_proto
from tamago.compiler.written_out import written_out
from tests.cpu.test_fused_products import Graph, check_equal, layer, operators


def test_places_are_found_in_what_fused_products_mean() -> None:
    fused = fused_products(layer(Graph(packed=False)))
    assert fused is not None
    attach(fused)
    assert not find_places(fused.graph)

    found = written_out(fused)

    assert [p.shape for p in find_places(found.graph)] == [(64, 96), (64, 96), (96, 64)]
    assert not any(n.domain == DOMAIN for n in found.graph)
    again = fused_products(found)
    assert again is not None
    assert operators(again) == operators(fused)
    check_equal(fused, again, 1)


def test_a_program_without_them_is_given_back_as_it_is() -> None:
    model = layer(Graph(packed=True))
    assert written_out(model) is model


def residual(added: str) -> ir.Model:
    """A product of matrices to which the input itself, or a constant, is added."""
    text = f"""<ir_version: 10, opset_import: ["" : 23]>
    g (float[rows, 32] x) => (float[rows, 32] y) <float[32, 32] w, float[32] b> {{
        r = Relu(x)
        y = Gemm(r, w, {added})
    }}"""
    proto = onnx.parser.parse_model(text)
    generator = np.random.default_rng(0)
    del proto.graph.initializer[:]
    for name, shape in (("w", (32, 32)), ("b", (32,))):
        array = generator.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return from_proto(proto)


def test_a_gemm_that_adds_a_residual_stream_is_a_place_once_it_is_taken_apart() -> None:
    fused = residual("x")
    assert not find_places(fused.graph)

    found = written_out(fused)

    assert [p.shape for p in find_places(found.graph)] == [(32, 32)]
    assert [n.op_type for n in found.graph] == ["Relu", "Gemm", "Add"]
    assert [n.op_type for n in fused.graph] == ["Relu", "Gemm"]
    x = {"x": np.random.default_rng(1).standard_normal((3, 32)).astype(np.float32)}
    np.testing.assert_allclose(Program(found, 1)(x)[0], Program(fused, 1)(x)[0], rtol=1e-5, atol=1e-5)


def test_a_gemm_that_adds_a_bias_stays() -> None:
    model = residual("b")
    assert written_out(model) is model
    assert len(find_places(model.graph)) == 1
