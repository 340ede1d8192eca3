"""The face: compile, optimize, load, save, explain, and what a user's mistakes are answered with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

import tamago
from tamago.compiler.decide import wins
from tamago.compiler.report import Comparison
from tamago.compiler.store import Store

TEXT = """<ir_version: 10, opset_import: ["" : 18]>
g (float[N, 8] x) => (float[N, 8] y, float[N, 8] z)
<float[8, 8] w = {WEIGHTS}, float[1] one = {1.0}>
{
    [first] a = Transpose <perm = [1, 0]> (x)
    [second] b = Transpose <perm = [1, 0]> (a)
    [product] y = MatMul (b, w)
    [scaled] c = Mul (y, one)
    [last] z = Relu (c)
}""".replace("WEIGHTS", ", ".join(f"{i / 64:.4f}" for i in range(64)))


def model() -> onnx.ModelProto:
    return ir.to_proto(ir.from_onnx_text(TEXT))


def quick(source: object, **options: object) -> tamago.CompiledModel:
    return tamago.compile(source, measure=False, store=":memory:", **options)  # type: ignore[arg-type]


def test_names_of_inputs_outputs_and_surviving_nodes_are_kept() -> None:
    graph = quick(model()).graph.graph

    assert [v.name for v in graph.inputs] == ["x"]
    assert [v.name for v in graph.outputs] == ["y", "z"]
    assert [n.name for n in graph] == ["product", "last"]


def test_it_is_called_by_position_by_name_and_with_a_mapping() -> None:
    compiled = quick(model())
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    wanted = compiled(x)

    for found in (compiled(x=x), compiled({"x": x}), compiled(torch.from_numpy(x))):
        assert all(np.array_equal(a, b) for a, b in zip(wanted, found, strict=True))


@pytest.mark.parametrize(
    ("args", "kwargs", "code"),
    [((), {}, "U011"), ((1, 2), {}, "U010"), ((), {"w": 1, "q": 2}, "U010"), ((1,), {"x": 1}, "U010")],
)
def test_wrong_arguments_are_coded(args: tuple[object, ...], kwargs: dict[str, object], code: str) -> None:
    with pytest.raises(tamago.TamagoError, match=code):
        quick(model())(*args, **kwargs)


@pytest.mark.parametrize(
    ("shape", "dtype", "why"),
    [((3, 8), np.float64, "float64"), ((3,), np.float32, "float32[3]"), ((3, 7), np.float32, "float32[3, 7]")],
)
def test_inputs_that_do_not_fit_an_onnx_model_are_coded(shape: tuple[int, ...], dtype: Any, why: str) -> None:
    with pytest.raises(tamago.TamagoError) as error:
        tamago.compile(model(), [np.zeros(shape, dtype)], measure=False, store=":memory:")

    assert (error.value.code, error.value.where) == ("U012", "x")
    assert why in error.value.why


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"target": "tpu"}, "U001"),
        ({"drift": "wild"}, "U002"),
        ({"threads": 0}, "U004"),
        ({"threads": "1"}, "U004"),
        ({"threads": 1.5}, "U004"),
        ({"time_limit": -1}, "U005"),
        ({"time_limit": "1"}, "U005"),
        ({"methods": 3}, "U050"),
        ({"methods": [["gptq"]]}, "U050"),
    ],
)
def test_wrong_options_are_coded(options: dict[str, object], code: str) -> None:
    with pytest.raises(tamago.TamagoError, match=code):
        quick(model(), **options)


def test_a_saved_program_comes_back(tmp_path: Path) -> None:
    compiled = quick(model())
    x = np.ones((2, 8), np.float32)

    compiled.save(tmp_path / "out.onnx")
    again = tamago.load(tmp_path / "out.onnx")

    assert all(np.array_equal(a, b) for a, b in zip(compiled(x), again(x), strict=True))


def test_optimize_takes_a_file_to_a_file_and_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "in.onnx"
    onnx.save(model(), path)

    tamago.optimize(path, path, measure=False, store=":memory:")

    assert len(onnx.load(path).graph.node) == 2


def test_optimize_without_a_destination_gives_a_proto() -> None:
    found = tamago.optimize(model(), measure=False, store=":memory:")

    assert isinstance(found, onnx.ModelProto)


def test_the_source_is_not_changed() -> None:
    source = model()
    before = source.SerializeToString()

    quick(source)

    assert source.SerializeToString() == before


def test_twice_is_once_and_bytes_are_the_same(tmp_path: Path) -> None:
    first, second = quick(model()), quick(model())
    again = quick(ir.to_proto(first.graph))
    first.save(tmp_path / "a.onnx")
    second.save(tmp_path / "b.onnx")
    again.save(tmp_path / "c.onnx")

    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert again.report.after.operators == first.report.after.operators


def test_the_report_says_what_was_done_and_is_json() -> None:
    report = quick(model()).report

    found = json.loads(report.to_json())

    assert found["before"]["operators"] == {"MatMul": 1, "Mul": 1, "Relu": 1, "Transpose": 2}
    assert found["after"]["operators"] == {"MatMul": 1, "Relu": 1}
    assert found["stop"] == "saturated"
    assert "nodes" in str(report)


def test_the_report_is_html_that_cannot_run_scripts(tmp_path: Path) -> None:
    hostile = model()
    hostile.graph.node[0].name = "<script>alert(1)</script>"
    compiled = quick(hostile)

    compiled.report.notes.append("<img src=x onerror=alert(1)>")
    compiled.report.save(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()

    assert "default-src 'none'" in text
    assert "<script" not in text
    assert "<img" not in text


def test_explain_names_refused_rules_with_reasons() -> None:
    text = quick(model()).explain()

    assert "applied" in text
    assert "refused:" in text


class Nested(nn.Module):
    """Dictionaries in, dictionaries out."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, inputs: dict[str, Tensor], scale: Tensor) -> dict[str, object]:
        y = self.linear(inputs["a"]) * scale + inputs["b"]
        return {"y": y, "pair": (y.sum(-1), y > 0)}


def test_a_torch_model_keeps_its_structure() -> None:
    torch.manual_seed(0)
    module = Nested().eval()
    inputs = {"a": torch.randn(2, 4), "b": torch.randn(2, 4)}
    scale = torch.tensor(0.5)

    compiled = tamago.compile(module, (inputs, scale), measure=False, store=":memory:")
    found, wanted = compiled(inputs, scale), module(inputs, scale)

    assert set(found) == {"y", "pair"}
    torch.testing.assert_close(found["y"], wanted["y"])
    torch.testing.assert_close(found["pair"][0], wanted["pair"][0])
    assert torch.equal(found["pair"][1], wanted["pair"][1])


def test_measured_programs_are_never_slower_by_their_own_figures() -> None:
    with Store.open(":memory:") as store:
        compiled = tamago.compile(model(), np.ones((4, 8), np.float32), store=store, threads=1, time_limit=20)

    timing = compiled.report.timing
    assert timing is not None
    assert compiled.report.verdict in ("faster", "no slower", "no gain")
    assert (compiled.report.verdict != "no gain") == wins(timing)
    assert (compiled.report.verdict == "faster") == (wins(timing) and timing.low > 1)


@pytest.mark.parametrize(
    ("ratio", "low", "best", "won"),
    [
        (1.9, 1.5, 0.9, True),  # all rounds agree: one lucky sample of the original says nothing
        (1.9, 1.0, 0.9, False),
        (1.01, 0.99, 0.99, True),
        (1.01, 0.99, 0.97, False),
        (0.99, 0.98, 1.1, False),
    ],
)
def test_the_fastest_samples_count_where_the_rounds_leave_a_doubt(
    ratio: float, low: float, best: float, won: bool
) -> None:
    assert wins(Comparison(1.0, 0.1, 1.0, 0.1, ratio, low, ratio + 0.1, best, 12)) == won


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_the_target_cuda_says_that_it_needs_a_gpu() -> None:
    with pytest.raises(tamago.TamagoError) as error:
        tamago.compile(nn.Linear(4, 4).eval(), (torch.ones(1, 4),), target="cuda", store=":memory:")

    assert error.value.code == "B020"


def test_a_tensor_that_stays_where_it_is_is_checked_all_the_same() -> None:
    compiled = tamago.compile(nn.Linear(4, 4).eval(), (torch.ones(1, 4),), measure=False, store=":memory:")
    signature = compiled._signature  # pyright: ignore[reportPrivateUsage]
    assert signature is not None
    x = torch.ones(1, 4)

    (given,) = signature.feeds((x,), keep_tensors=True).values()

    assert given is x
    with pytest.raises(tamago.TamagoError) as error:
        signature.feeds((torch.ones(2, 4),), keep_tensors=True)
    assert error.value.code == "T031"


class Hopeless(nn.Module):
    """Nothing but NaN, whatever comes in."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(-torch.exp(x) - 1.0) * 1.0


def test_what_gives_no_number_proves_nothing() -> None:
    compiled = tamago.compile(Hopeless().eval(), (torch.randn(3, 4),), threads=1, store=":memory:")

    assert compiled.report.verdict == "not verified"
    assert any("nothing but NaN" in note for note in compiled.report.notes)


def test_a_few_infinities_are_compared_like_numbers() -> None:
    compiled = tamago.compile(
        nn.Softplus(beta=-1.0).eval(), (torch.tensor([1.0, -200.0]),), threads=1, store=":memory:"
    )

    assert compiled.report.verdict != "not verified"


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x.t().relu().t() * 2 * 3  # fewer nodes before the draw: another seed
        return y + torch.rand_like(y)


def test_a_model_that_draws_random_numbers_is_kept() -> None:
    compiled = tamago.compile(Noisy().eval(), (torch.ones(4, 5),), measure=False, store=":memory:")

    assert compiled.report.verdict == "not verified"
    assert any("draws random numbers" in note for note in compiled.report.notes)


@pytest.mark.parametrize(
    ("module", "shape", "dtype"),
    [
        (nn.Linear(4, 4), (1, 4), torch.bfloat16),
        (nn.Conv2d(1, 1, 1), (1, 1, 2, 2), torch.float64),
    ],
    ids=["bfloat16", "float64"],
)
def test_a_model_in_a_precision_without_kernels_is_told_what_would_run(
    module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    with pytest.raises(tamago.TamagoError, match="B001") as told:
        quick(module.to(dtype).eval(), args=(torch.ones(*shape, dtype=dtype),))

    assert "model.float()" in str(told.value)


def test_a_model_in_float64_is_taken_where_there_are_kernels() -> None:
    compiled = quick(nn.Linear(4, 4).double().eval(), args=(torch.ones(1, 4, dtype=torch.float64),))

    assert compiled(torch.ones(1, 4, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("node", "kept"), [("TopK (c, two)", 2), ("MaxPool <kernel_shape = [2]> (c)", 1)], ids=["needed", "optional"]
)
def test_a_result_that_nobody_reads_stays_only_where_the_operator_has_to_have_it(node: str, kept: int) -> None:
    """ONNX Runtime loads no TopK without its indices."""
    compiled = quick(
        ir.from_onnx_text(f"""<ir_version: 10, opset_import: ["" : 18]> g (float[3, 5, 8] x) => (float[3, 5, n] y)
        <int64[1] two = {{2}}> {{
            a = Transpose <perm = [0, 2, 1]> (x) b = Transpose <perm = [0, 2, 1]> (a) c = Neg (b)
            values, places = {node} y = Abs (values) }}""")
    )
    operators = [n.op_type for n in compiled.graph.graph]

    assert "Transpose" not in operators
    assert [len(n.outputs) for n in compiled.graph.graph if n.op_type == node.split()[0]] == [kept]


class OnAGrid(nn.Module):
    """A layer as training for quantisation leaves it: weights and inputs rounded where they are read."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
        self.step = float(self.layer.weight.detach().abs().max()) / 127

    def forward(self, x: Tensor) -> Tensor:
        rounded = torch.fake_quantize_per_tensor_affine(x, 0.03, 0, -128, 127)
        weight = torch.fake_quantize_per_tensor_affine(self.layer.weight, self.step, 0, -128, 127)
        return torch.nn.functional.linear(rounded, weight, self.layer.bias)


def test_a_model_trained_for_quantisation_keeps_its_grid() -> None:
    """With its weights as plain constants the runtime would choose grids of its own, for the biases too."""
    torch.manual_seed(0)
    relu = nn.ReLU()
    module = nn.Sequential(OnAGrid(64, 128), relu, OnAGrid(128, 128), relu, OnAGrid(128, 10)).eval()
    x = torch.rand(1, 64)

    found = tamago.compile(module, (x,), threads=1, measure=False, store=":memory:")(x)

    with torch.no_grad():
        torch.testing.assert_close(found, module(x), rtol=1e-4, atol=1e-5)


def declared(text: str, shape: str) -> onnx.ModelProto:
    """Relu of `x`, with the shape that the file gives it, and the rest of a graph with the output `y`."""
    head = f'<ir_version: 9, opset_import: ["" : 18]> g (float[n,2,3] x) => ({text.split("|", maxsplit=1)[0]} y)'
    return onnx.parser.parse_model(f"{head} <{shape} a> {{ a = Relu (x) {text.split('|')[1]} }}")


SHAPES_READ = (
    "|s = Shape (a) z = Constant <value_ints = [0]> () g = Gather (s, z) m = Constant <value_ints = [-1]> () "
    "t = Concat <axis = 0> (g, m) y = Reshape (a, t)"
)


def test_shapes_of_a_file_that_are_wrong_are_not_believed_even_where_the_runtime_believes_them() -> None:
    """Somebody freed the batch of the inputs; ONNX Runtime computes shapes from what was left, and the wrong result."""
    compiled = quick(declared(SHAPES_READ, "float[1,2,3]"))

    assert compiled(np.ones((4, 2, 3), np.float32))[0].shape == (4, 6)
    assert any("as it is written" in note for note in compiled.report.notes)


def test_of_right_shapes_nothing_is_said() -> None:
    compiled = quick(declared(SHAPES_READ, "float[n,2,3]"))

    assert compiled(np.ones((4, 2, 3), np.float32))[0].shape == (4, 6)
    assert not any("as it is written" in note for note in compiled.report.notes)


def test_an_output_declared_with_another_shape_than_it_has_is_verified_all_the_same() -> None:
    compiled = quick(declared("float[1,5]|b = Relu (a) y = Neg (b)", "float[n,2,3]"))

    assert compiled.report.verdict == "not timed"
    assert [v.shape for v in compiled.graph.graph.outputs] == [ir.Shape(["n", 2, 3])]


SCORES = """<ir_version: 8, opset_import: ["" : 15, "ai.onnx.ml" : 3]>
g (float[N, 3] x) => (RESULT) {
    a = Transpose <perm = [1, 0]> (x) b = Transpose <perm = [1, 0]> (a)
    scores = ai.onnx.ml.Normalizer <norm = "L1"> (b)
    maps = ai.onnx.ml.ZipMap <classlabels_int64s = [3, 5, 9]> (scores) }"""


@pytest.mark.parametrize("result", ["seq(map(int64, float)) maps", "float[N, 3] scores"])
def test_a_classifier_that_hands_out_maps_is_optimised(result: str) -> None:
    """The IR has no type for ZipMap's result, which ends what scikit-learn's converter writes."""
    compiled = quick(onnx.parser.parse_model(SCORES.replace("RESULT", result)))
    (found,) = compiled(np.array([[1, 1, 2]], np.float32))

    assert "Transpose" not in [n.op_type for n in compiled.graph.graph]
    assert np.asarray(found).tolist() in ([{3: 0.25, 5: 0.25, 9: 0.5}], [[0.25, 0.25, 0.5]])


CONTAINERS = """<ir_version: 8, opset_import: ["" : 16]>
g (seq(float[N, 2]) xs, optional(float[2]) shift) => (float[M, 2] y) {
    rows = ConcatFromSequence <axis = 0> (xs) a = Relu (rows) b = Relu (a)
    given = OptionalHasElement (shift)
    least = If (given) <
        then_branch = t () => (float[2] some) { some = OptionalGetElement (shift) },
        else_branch = e () => (float[2] none) { none = Constant <value = float[2] {0.0, 0.0}> () }>
    y = Add (b, least) }"""


@pytest.mark.parametrize(("shift", "added"), [(np.array([1, 2], np.float32), [1, 2]), (None, [0, 0])])
def test_a_sequence_of_tensors_that_differ_and_an_optional_one(shift: Any, added: list[int]) -> None:
    rows = [np.ones((2, 2), np.float32), np.ones((1, 2), np.float32)]
    source = onnx.parser.parse_model(CONTAINERS)
    compiled = quick(source, args={"xs": rows, "shift": shift})

    assert [n.op_type for n in compiled.graph.graph].count("Relu") == 1
    assert compiled.report.errors == {"y": 0.0}
    (found,) = compiled({"xs": rows, "shift": shift})
    assert found.tolist() == [[1 + added[0], 1 + added[1]]] * 3
    with pytest.raises(tamago.TamagoError, match=r"U011.*\n*.*xs"):
        compiled({"xs": None, "shift": shift})
    with pytest.raises(tamago.TamagoError, match=r"U011.*\n*.*xs"):
        quick(source, args={"xs": None, "shift": shift})


LOOKED_UP = """<ir_version: 8, opset_import: ["" : 17]>
g (int64[N] i, float[2] s) => (float[N, 2] y) <float[3, 2] table = {1, 2, 3, 4, 5, 6}> {
    a = Gather (table, i) b = Mul (a, s) c = Relu (b) y = Relu (c) }"""


def test_inputs_that_the_original_does_not_run_on_are_spoken_of() -> None:
    source = onnx.parser.parse_model(LOOKED_UP)
    scale = np.ones(2, np.float32)
    outside = quick(source, args={"i": np.array([0, 7]), "s": scale})
    assert outside.report.verdict == "not timed"
    assert "does not run on the inputs given" in outside.report.notes[0]
    assert "idx=7" in outside.report.notes[0]

    inside = quick(source, args={"i": np.array([0, 2]), "s": scale})
    assert inside.report.notes == []


def test_it_is_not_asked_for_inputs_that_were_given() -> None:
    """What is made up is refused too: a sequence cannot be."""
    source = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (seq(float[N, 2]) xs) => (float[M, 2] y) {
        one = Constant <value = int64 {1}> () a = SequenceAt (xs, one) b = Relu (a) y = Relu (b) }"""
    )
    short = quick(source, args={"xs": [np.ones((1, 2), np.float32)]})
    assert short.report.verdict == "not verified"
    assert "does not run on the inputs given" in short.report.notes[0]
    assert "pass args" not in short.report.notes[0]

    nothing = quick(source)
    assert nothing.report.verdict == "not verified"
    assert "pass args" in nothing.report.notes[0]
