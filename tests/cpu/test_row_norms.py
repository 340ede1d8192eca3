"""Which norms the GPU's own kernels take over, and that they mean the same there."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from tamago.backends.onnxruntime.run import Program as Plain
from tamago.backends.triton.jobs import LayerNormJob, NormedAffineJob
from tamago.backends.triton.lowering import LAYER_NORM
from tamago.backends.triton.regions import epilogues, merged_linears, normed_affines
from tamago.backends.triton.row_norm import normalises_rows
from tamago.backends.triton.run import Program
from tamago.compiler.inference import infer
from tamago.compiler.ir import new_constant
from tamago.compiler.operators import DOMAIN, attach

ROWS = "float16[2,5,24] x, float16[24] s, float16[24] t"
TOLERANCE = 2e-3  # of the largest output


def written(body: str, inputs: str = ROWS, outputs: str = "float16[2,5,24] y") -> ir.Model:
    text = f'<ir_version: 10, opset_import: ["" : 23]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = ir.serde.deserialize_model(onnx.parser.parse_model(text))
    infer(model)
    return model


def feeds_of(model: ir.Model) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    shapes = {
        str(v.name): (tuple(2 if not isinstance(d, int) else d for d in v.shape or ()), v) for v in model.graph.inputs
    }
    return {
        name: (3 + generator.standard_normal(shape)).astype(value.dtype.numpy() if value.dtype else np.float32)
        for name, (shape, value) in shapes.items()
    }


def check(model: ir.Model, *, taken: int) -> Program:
    """As many norms are the kernel's, and the program's outputs are ONNX Runtime's."""
    program = Program(model, device="cpu")
    assert len(program.module.graph.find_nodes(op="call_function", target=LAYER_NORM)) == taken
    feeds = feeds_of(model)
    for wanted, found in zip(Plain(model, 1)(feeds), program(feeds), strict=True):
        assert (wanted.shape, wanted.dtype) == (found.shape, found.dtype)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * float(np.abs(wanted).max()))
    return program


@pytest.mark.parametrize(
    "body",
    [
        "y = LayerNormalization <epsilon = 0.5> (x, s, t)",
        "y = LayerNormalization <axis = 2> (x, s)",
        "y = LayerNormalization <axis = -1, stash_type = 1> (x, s, t)",
        "y = RMSNormalization <epsilon = 0.5> (x, s)",
        "z = LayerNormalization (x, s, t)  y = Add (z, z)",
    ],
)
def test_rows_in_half_precision_are_the_kernel_s(body: str) -> None:
    check(written(body), taken=1)


@pytest.mark.parametrize(
    ("body", "inputs", "outputs"),
    [
        (
            "y = LayerNormalization <axis = 1> (x, s, t)",
            "float16[2,5,24] x, float16[5,24] s, float16[5,24] t",
            "float16[2,5,24] y",
        ),
        ("y, m = LayerNormalization (x, s, t)", ROWS, "float16[2,5,24] y, float[2,5,1] m"),
        ("y = LayerNormalization (x, s, t)", ROWS.replace("float16", "float"), "float[2,5,24] y"),
        ("y = LayerNormalization (x, s, t)", ROWS.replace("[2,", "[N,"), "float16[N,5,24] y"),
        ("y = LayerNormalization (x, s, t)", ROWS.replace("[24] s", "[1] s"), "float16[2,5,24] y"),
    ],
    ids=["axis", "mean", "single", "unknown", "one scale"],
)
def test_others_stay_torch_s(body: str, inputs: str, outputs: str) -> None:
    check(written(body, inputs, outputs), taken=0)


@pytest.mark.parametrize(
    ("body", "centred", "shifted"),
    [
        ("y = LayerNormalization (x, s, t)", True, True),
        ("y = LayerNormalization (x, s)", True, False),
        ("y = RMSNormalization (x, s)", False, False),
    ],
)
def test_the_job_is_read_from_the_call(body: str, centred: bool, shifted: bool) -> None:
    model = written(body)
    program = check(model, taken=1)
    (call,) = program.module.graph.find_nodes(op="call_function", target=LAYER_NORM)

    job = LayerNormJob.of_call(program.module, call, model.graph[0])

    assert job == LayerNormJob(10, 24, "float16", centred, shifted)
    assert job is not None
    assert str(job) == "layer_norm 10x24, float16"
    assert list(call.args)[LayerNormJob.settings] is None
    assert job.candidates()[0] == (0, 0)
    assert LayerNormJob.of_call(program.module, call, None) is None


def test_a_scale_of_another_precision_stays_too() -> None:
    body = "y = RMSNormalization (x, s)"

    assert normalises_rows(written(body).graph[0])
    assert not normalises_rows(written(body, ROWS.replace("float16[24] s", "float[24] s"), "float[2,5,24] y").graph[0])


def product(body: str, inputs: str = ROWS, outputs: str = "float16[2,5,16] y") -> ir.Model:
    """With constants w (24, 16), v (24, 16) and b (16)."""
    model = written(body, f"{inputs}, float16[24,16] w, float16[24,16] v, float16[16] b", outputs)
    generator = np.random.default_rng(1)
    for value in [v for v in model.graph.inputs if v.name in ("w", "v", "b")]:
        shape = tuple(d for d in value.shape or () if isinstance(d, int))
        value.const_value = new_constant("", generator.standard_normal(shape).astype(np.float16)).const_value
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return model


def own(model: ir.Model) -> dict[str, int]:
    return dict(Counter(n.op_type for n in model.graph if n.domain == DOMAIN))


def check_same(model: ir.Model, found: ir.Model) -> Program:
    """In ONNX Runtime, by what the operators say they mean, and as the program's."""
    attach(found)
    feeds = feeds_of(model)
    wanted = Plain(model, 1)(feeds)
    program = Program(found, device="cpu")
    assert program.outputs == [v.name for v in model.graph.outputs]
    for outputs in (Plain(found, 1)(feeds), program(feeds)):
        for a, b in zip(wanted, outputs, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(b, a, rtol=0, atol=5 * TOLERANCE * float(np.abs(a).max()))
    return program


NORM = "n = LayerNormalization <epsilon = 0.5> (x, s, t) "
RESIDUAL = f"{ROWS}, float16[2,5,16] r"


@pytest.mark.parametrize("first", [True, False], ids=["after epilogues", "before"])
@pytest.mark.parametrize(
    ("body", "inputs", "name"),
    [
        (f"{NORM} y = MatMul (n, w)", ROWS, "NormAffine"),
        (f"{NORM} m = MatMul (n, w)  y = Add (m, b)", ROWS, "NormAffine"),
        (f"{NORM} m = MatMul (n, w)  p = Add (m, b)  y = Gelu (p)", ROWS, "NormAffineGelu"),
        (f"{NORM} m = MatMul (n, w)  p = Add (m, b)  y = Add (p, r)", RESIDUAL, "NormAffineAdd"),
        ("n = LayerNormalization (x, s)  m = MatMul (n, w)  y = Relu (m)", ROWS, "NormAffineRelu"),
    ],
)
def test_a_product_takes_in_the_norm_ahead_of_it(body: str, inputs: str, name: str, first: bool) -> None:
    model = product(body, inputs)
    fused = (epilogues(model) or model) if first else model

    found = normed_affines(fused)

    assert found is not None
    assert own(found) == {name: 1}
    assert not any(n.op_type == "LayerNormalization" for n in found.graph)
    program = check_same(model, found)
    (call,) = program.module.graph.find_nodes(op="call_function", target=NormedAffineJob.target)
    job = NormedAffineJob.of_call(program.module, call, next(n for n in found.graph if n.op_type == name))
    assert job is not None
    assert str(job) == "normed_affine 10x24x16, float16"
    assert list(call.args)[NormedAffineJob.settings] is None
    assert normed_affines(found) is None


@pytest.mark.parametrize(
    ("body", "inputs", "outputs"),
    [
        (f"{NORM} y = MatMul (n, w)  z = MatMul (n, v)", ROWS, "float16[2,5,16] y, float16[2,5,16] z"),
        (f"{NORM} y = MatMul (n, w)", ROWS, "float16[2,5,16] y, float16[2,5,24] n"),
        (
            "n = LayerNormalization <axis = 1> (x, s, t)  y = MatMul (n, w)",
            "float16[2,5,24] x, float16[5,24] s, float16[5,24] t",
            "float16[2,5,16] y",
        ),
        ("n, m = LayerNormalization (x, s, t)  y = MatMul (n, w)", ROWS, "float16[2,5,16] y, float[2,5,1] m"),
        ("n = RMSNormalization (x, s)  y = MatMul (n, w)", ROWS, "float16[2,5,16] y"),
        (f"{NORM} y = MatMul (k, n)", f"{ROWS}, float16[2,3,5] k", "float16[2,3,24] y"),
        (f"{NORM} y = Relu (n)", ROWS, "float16[2,5,24] y"),
    ],
    ids=["two readers", "an output", "axis", "mean", "rms", "right", "no product"],
)
def test_other_norms_stay(body: str, inputs: str, outputs: str) -> None:
    assert normed_affines(product(body, inputs, outputs)) is None


def test_single_precision_stays() -> None:
    model = written(
        f"{NORM} y = MatMul (n, w)", f"{ROWS}, float16[24,16] w".replace("float16", "float"), "float[2,5,16] y"
    )

    assert normed_affines(model) is None


def test_several_products_are_merged_before_they_take_in_the_norm() -> None:
    model = product(f"{NORM} y = MatMul (n, w)  z = MatMul (n, v)", ROWS, "float16[2,5,16] y, float16[2,5,16] z")
    merged = merged_linears(model)
    assert merged is not None

    found = normed_affines(merged)

    assert found is not None
    assert own(found) == {"NormAffine": 1}
    check_same(model, found)
