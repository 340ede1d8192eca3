"""Target webgpu from one end to the other: what is compiled, what it is compared with, what ONNX Runtime has to run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import tamago
from tamago.backends.onnxruntime.target import OnnxRuntime
from tamago.backends.webgpu.device import default_device
from tamago.backends.webgpu.limits import Limits
from tamago.backends.webgpu.lowering import is_known, plan_of
from tamago.backends.webgpu.partition import Partitioned
from tamago.backends.webgpu.run import Held, Program
from tamago.backends.webgpu.specialise import specialised
from tamago.backends.webgpu.target import WebGpu
from tamago.compiler.errors import TamagoError
from tamago.compiler.generation.alias import record_aliases
from tamago.compiler.store import Store
from tests.node_cases import floats


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: Mapping[str, int],
    initializers: dict[str, np.ndarray] | None = None,
) -> ir.Model:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in (initializers or {}).items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10))


def node(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, name=f"{op}_{outputs[0]}", **attributes)


def partitioned(model: ir.Model) -> Partitioned:
    return Partitioned(model, default_device(), OnnxRuntime().lower)


def test_a_torch_model_compiled_for_the_device_answers_as_it_does() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.LayerNorm(40), nn.Linear(40, 5), nn.Softmax(-1)).eval()
    x = torch.randn(3, 24)

    with Store.open(":memory:") as store:
        compiled = tamago.compile(module, (x,), target="webgpu", store=store)

    torch.testing.assert_close(compiled(x), module(x), rtol=1e-5, atol=1e-6)
    assert compiled.report.environment.startswith("webgpu")
    assert not compiled.report.notes or all("ONNX Runtime" not in note for note in compiled.report.notes)


def test_one_program_takes_any_size_of_a_free_dimension() -> None:
    model = model_of([node("Softmax", ["x"], ["y"])], {"x": ["N", 7]}, {"y": TensorProto.FLOAT})
    program = Program(model, default_device())
    for count in (1, 5, 70):
        x = floats(count, 7, seed=count)
        power = np.exp(x - x.max(-1, keepdims=True))
        np.testing.assert_allclose(program({"x": x})[0], power / power.sum(-1, keepdims=True), rtol=1e-5)


def test_what_has_no_kernel_is_run_by_onnx_runtime_in_between() -> None:
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("NonZero", ["a"], ["where"]),
        node("Exp", ["a"], ["b"]),
        node("Transpose", ["where"], ["turned"]),
        node("GatherND", ["b", "turned"], ["y"]),
    ]
    kinds = {"y": TensorProto.FLOAT, "b": TensorProto.FLOAT}
    program = partitioned(model_of(nodes, {"x": [4, 5]}, kinds))
    x = floats(4, 5, seed=1)

    y, b = program({"x": x})

    np.testing.assert_allclose(b, np.exp(np.maximum(x, 0)), rtol=1e-5)
    np.testing.assert_allclose(y, np.exp(x[x > 0]), rtol=1e-5)
    assert "NonZero" in program.note


def test_a_part_that_does_not_load_alone_has_the_whole_model_run_elsewhere() -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("NonZero", ["a"], ["y"])]
    model = model_of(nodes, {"x": [4, 5]}, {"y": TensorProto.INT64})

    def lower(part: ir.Model) -> Any:
        if len(list(part.graph)) < len(nodes):
            raise TamagoError("B001", "it does not load")
        return OnnxRuntime().lower(part)

    program = Partitioned(model, default_device(), lower)
    x = floats(4, 5, seed=1)
    np.testing.assert_array_equal(program({"x": x})[0], np.stack(np.nonzero(np.maximum(x, 0))))
    assert "does not load alone" in program.note


def test_what_is_whole_says_nothing_of_onnx_runtime() -> None:
    program = partitioned(model_of([node("Relu", ["x"], ["y"])], {"x": [4, 5]}, {"y": TensorProto.FLOAT}))
    program({"x": floats(4, 5, seed=1)})
    assert not program.note


def test_an_operator_without_a_kernel_is_named() -> None:
    model = model_of([node("NonZero", ["x"], ["y"])], {"x": [4, 5]}, {"y": TensorProto.INT64})
    with pytest.raises(tamago.TamagoError) as error:
        Program(model, default_device())({"x": floats(4, 5, seed=1)})
    assert error.value.code == "B031"
    assert "NonZero" in str(error.value)
    assert error.value.todo


def resized(mode: str, kind: str, scale: float) -> ir.Model:
    return model_of(
        [node("Resize", ["x", "part", "scales"], ["y"], coordinate_transformation_mode=mode, mode=kind)],
        {"x": [1, 1, 5, 4]},
        {"y": TensorProto.FLOAT},
        {
            "part": np.asarray([0, 0, 0.1, 0.2, 1, 1, 0.8, 0.9], np.float32),
            "scales": np.asarray([1, 1, scale, scale], np.float32),
        },
    )


@pytest.mark.parametrize("kind", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("mode", ["align_corners", "half_pixel", "asymmetric", "half_pixel_symmetric"])
@pytest.mark.parametrize("scale", [2.0, 1.5, 0.7])
def test_what_is_resized_is_what_onnx_runtime_makes_of_it(kind: str, mode: str, scale: float) -> None:
    """The standard divides by seven and a half where ONNX Runtime and PyTorch divide by seven."""
    model = resized(mode, kind, scale)
    x = floats(1, 1, 5, 4, seed=1)
    (wanted,) = OnnxRuntime().lower(model)({"x": x})
    program = partitioned(model)

    np.testing.assert_allclose(program({"x": x})[0], wanted, rtol=1e-5, atol=1e-5)

    assert ("Resize" in program.note) == (mode == "align_corners" and scale != 2.0)


def test_scales_that_are_read_two_ways_are_refused_with_a_way_out() -> None:
    with pytest.raises(tamago.TamagoError) as error:
        plan_of(resized("align_corners", "linear", 1.5))
    assert error.value.code == "B031"
    assert "standard" in error.value.why
    assert "sizes" in error.value.todo

    plan_of(resized("align_corners", "linear", 3.0))


def test_a_kernel_that_does_not_fit_says_what_a_device_has_in_words() -> None:
    model = model_of([node("Relu", ["x"], ["y"])], {"x": [4, 5]}, {"y": TensorProto.FLOAT})
    with pytest.raises(tamago.TamagoError) as error:
        plan_of(model, limits=Limits(buffers=1))
    assert error.value.code == "B031"
    assert "Limits(" not in str(error.value)
    assert "1 buffers" in error.value.why
    assert "webgpu" in error.value.todo

    plan_of(model, limits=Limits(buffers=2))


def test_a_shape_that_contradicts_the_model_is_refused() -> None:
    model = model_of([node("Relu", ["x"], ["y"])], {"x": ["N", 5]}, {"y": TensorProto.FLOAT})
    with pytest.raises(tamago.TamagoError) as error:
        Program(model, default_device())({"x": floats(4, 6, seed=1)})
    assert error.value.code == "B033"


def layers() -> tuple[nn.Module, list[Any]]:
    """Products that every approximate method knows, and inputs for them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 96)).eval()
    return model, [((x[None],), None) for x in torch.randn(64, 64)]


def test_a_budget_is_spent_on_forms_that_there_are_kernels_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # A processor that plays a GPU takes longer to unpack weights than to read them, as no GPU does.
    monkeypatch.setattr(WebGpu, "timed", property(lambda _: False))
    model, samples = layers()
    compiled = tamago.compile(
        model, samples[0][0], target="webgpu", budget=tamago.Budget(rise=0.1), calibration=samples, objective="size"
    )
    (x,), _ = samples[40]

    assert compiled.report.verdict == "smaller within the budget"
    assert compiled.report.after.bytes < 0.3 * compiled.report.before.bytes
    assert not compiled.program.note  # nothing is left to ONNX Runtime
    with torch.no_grad():
        error = (compiled(x) - model(x)).norm() / model(x).norm()
    assert 0 < float(error) < 0.15
    assert "it needs what is not used here" in compiled.explain()  # integer arithmetic


@pytest.mark.parametrize("words", [{"objective": "latency"}, {"objective": "size", "latency": 1.0}])
def test_a_browser_is_not_timed_here(words: dict[str, Any]) -> None:
    model, samples = layers()
    budget = tamago.Budget(rise=0.1, latency=words.pop("latency", None))
    with pytest.raises(tamago.TamagoError) as error:
        tamago.compile(model, samples[0][0], target="web", budget=budget, calibration=samples, **words)
    assert error.value.code == "U052"


def test_what_is_saved_for_a_browser_is_what_was_proved(tmp_path: Path) -> None:
    """No runtime rounds activations in it that shaders do not."""
    model, samples = layers()
    words: dict[str, Any] = {"target": "web", "objective": "size", "methods": ["block_weights"]}
    compiled = tamago.compile(model, samples[0][0], budget=tamago.Budget(rise=0.2), calibration=samples, **words)
    compiled.save(tmp_path / "small.onnx")
    again = tamago.load(tmp_path / "small.onnx")
    (x,), _ = samples[3]

    assert any(n.op_type == "MatMulNBits" for n in compiled.graph.graph)
    np.testing.assert_array_equal(again(x.numpy())[0], compiled(x).numpy())
    assert not any("accuracy_level" in n.attributes for n in compiled.graph.graph)


def test_what_is_run_elsewhere_reads_its_weights_as_constants() -> None:
    wide, steps = 700, 17  # a state that no workgroup holds, and more steps than are written out
    codes = np.random.default_rng(0).integers(-9, 9, (1, 4 * wide, 16)).astype(np.int8)
    nodes = [
        helper.make_node("Cast", ["w"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("LSTM", ["x", "f", "r"], ["", "h"], hidden_size=wide),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    weights = {"w": codes, "r": np.zeros((1, 4 * wide, wide), np.float32)}
    model = model_of(nodes, {"x": [steps, 1, 16]}, {"y": TensorProto.FLOAT}, weights)
    program = partitioned(model)
    feeds = {"x": floats(steps, 1, 16, seed=1)}
    np.testing.assert_allclose(program(feeds)[0], OnnxRuntime().lower(model)(feeds)[0], rtol=1e-5, atol=1e-6)
    assert program.note == "run by ONNX Runtime, for there is no kernel: LSTM"
    folded = specialised(model, {}, is_known, few_copies=False)
    assert [n.op_type for n in folded.graph] == ["LSTM", "Relu"]  # no device makes its weights wide in every run


def counter() -> ir.Model:
    """A state that every run adds to."""
    outputs = {"next": TensorProto.FLOAT, "y": TensorProto.FLOAT}
    nodes = [node("Add", ["state", "x"], ["next"]), node("Neg", ["next"], ["y"])]
    model = model_of(nodes, {"x": [3], "state": [3]}, outputs)
    record_aliases(model, {"next": "state"})
    return model


def test_a_state_stays_on_the_device() -> None:
    program = partitioned(counter())
    state: object = np.zeros(3, np.float32)
    for turn in range(1, 4):
        state, y = program.run_keeping({"x": np.ones(3, np.float32), "state": state})
        assert isinstance(state, Held)
        np.testing.assert_array_equal(y, np.full(3, -turn, np.float32))
    np.testing.assert_array_equal(np.asarray(state), np.full(3, 3, np.float32))


def test_a_state_that_was_written_over_is_refused() -> None:
    program = partitioned(counter())
    feeds = {"x": np.ones(3, np.float32), "state": np.zeros(3, np.float32)}
    old, _ = program.run_keeping(feeds)
    program.run_keeping(feeds)
    with pytest.raises(tamago.TamagoError) as error:
        program.run_keeping({**feeds, "state": old})
    assert error.value.code == "B002"


def test_an_integer_beyond_32_bits_is_refused() -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node("Add", ["x", "x"], ["y"])],
        "g",
        [info("x", TensorProto.INT64, [2])],
        [info("y", TensorProto.INT64, [2])],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10))
    program = Program(model, default_device())
    np.testing.assert_array_equal(program({"x": np.array([3, -4])})[0], [6, -8])
    with pytest.raises(tamago.TamagoError) as error:
        program({"x": np.array([3, 1 << 40])})
    assert error.value.code == "B002"


def test_generated_text_is_the_models_own() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=61,
        max_position_embeddings=32,
    )
    model: Any = LlamaForCausalLM(config).eval()
    prompt = torch.randint(0, 61, (1, 4))
    with Store.open(":memory:") as store:
        compiled = tamago.compile_causal_lm(
            model, max_length=24, prompt_lengths=[6], target="webgpu", store=store, measure=False
        )

    wanted = model.generate(prompt, max_new_tokens=10, do_sample=False, pad_token_id=0)

    assert torch.equal(compiled.generate(prompt, max_new_tokens=10), wanted)


def test_triton_can_be_imported_after_a_device_was_used() -> None:
    """Drivers that a processor plays a GPU with bring an LLVM, and so does Triton: only one order works."""
    script = """
import numpy as np, onnx_ir as ir
from tamago.backends.webgpu.run import Program
text = '<ir_version: 10, opset_import: ["" : 20]> g (float[4] x) => (float[4] y) { y = Relu (x) }'
assert Program(ir.from_onnx_text(text))({"x": np.ones(4, np.float32)})[0].sum() == 4
import triton
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_integers_that_shaders_lack_are_run_elsewhere() -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node("Add", ["x", "c"], ["a"]), node("Sub", ["a", "c"], ["y"])],
        "g",
        [info("x", TensorProto.INT64, [2])],
        [info("y", TensorProto.INT64, [2])],
        [onnx.numpy_helper.from_array(np.array([1 << 40, 2]), "c")],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10))
    program = partitioned(model)
    np.testing.assert_array_equal(program({"x": np.array([3, -4])})[0], [3, -4])
    assert "ONNX Runtime" in program.note


def test_states_may_change_places() -> None:
    outputs = {"p": TensorProto.FLOAT, "q": TensorProto.FLOAT}
    nodes = [node("Add", ["a", "x"], ["p"]), node("Sub", ["b", "x"], ["q"])]
    model = model_of(nodes, {"x": [2], "a": [2], "b": [2]}, outputs)
    record_aliases(model, {"p": "a", "q": "b"})
    program, x = partitioned(model), np.ones(2, np.float32)
    p, q = program.run_keeping({"x": x, "a": np.zeros(2, np.float32), "b": np.full(2, 5, np.float32)})
    p, q = program.run_keeping({"x": x, "a": q, "b": p})
    np.testing.assert_array_equal(np.asarray(p), [5, 5])
    np.testing.assert_array_equal(np.asarray(q), [0, 0])


def test_a_wgpu_without_the_private_names_runs_the_same_program(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program(model_of([node("Relu", ["x"], ["y"])], {"x": [4, 5]}, {"y": TensorProto.FLOAT}), default_device())
    monkeypatch.setitem(sys.modules, "wgpu.backends.wgpu_native", None)
    x = floats(4, 5, seed=1)
    np.testing.assert_array_equal(program({"x": x})[0], np.maximum(x, 0))
