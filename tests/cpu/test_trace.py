"""Tracing: every source, every kind of argument and result, dynamic shapes, and the errors that name their place."""

import logging
import re
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch._export import utils as export_utils
from torch.export import Dim
from torch.nn import functional
from torch.utils import _pytree as pytree

from tamago.compiler.errors import TamagoError
from tamago.compiler.from_torch.translate import translate
from tamago.compiler.trace import Traced, trace


def run(traced: Traced, *args: Any, **kwargs: Any) -> Any:
    """The traced model in ONNX Runtime, called like the original."""
    assert traced.signature is not None
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(ir.to_proto(traced.model).SerializeToString(), options)
    arrays: Any = session.run(None, traced.signature.flatten(args, kwargs))
    return traced.signature.unflatten(arrays)


def check(module: nn.Module, *args: Any, traced: Traced | None = None, **kwargs: Any) -> Traced:
    """Trace, run, and compare values and structure with the module; returns what was traced."""
    module.eval()
    traced = traced or trace(module, args, kwargs)
    with torch.no_grad():
        wanted = module(*args, **kwargs)
    found = run(traced, *args, **kwargs)
    wanted_leaves, wanted_spec = pytree.tree_flatten(wanted)
    found_leaves, found_spec = pytree.tree_flatten(found)
    assert wanted_spec == found_spec
    for a, b in zip(wanted_leaves, found_leaves, strict=True):
        if isinstance(a, Tensor):
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
        else:
            assert type(a) is type(b)
            assert a == b
    return traced


def input_names(traced: Traced) -> list[str | None]:
    return [value.name for value in traced.model.graph.inputs]


def output_names(traced: Traced) -> list[str | None]:
    return [value.name for value in traced.model.graph.outputs]


def dims(value: ir.Value) -> list[int | str]:
    assert value.shape is not None
    return [d if isinstance(d, int) else str(d.value) for d in value.shape]


def expect(code: str, *mentions: str) -> Any:
    """The coded error, whose message holds each of the mentions."""
    together = "".join(f"(?=[\\s\\S]*{re.escape(text)})" for text in mentions)
    return pytest.raises(TamagoError, match=rf"^(?=error\[{code}\]){together}")


class Point(NamedTuple):
    p: Tensor
    q: int


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("scale", torch.full((4,), 2.0))
        self.register_buffer("shift", torch.ones(4), persistent=False)

    def forward(self, x: Tensor, batch: dict[str, Any], *, n: int = 3, mask: Tensor | None = None) -> dict[str, Any]:
        y = self.linear(x) * self.scale + self.shift + batch["a"][0] * n
        y = y if mask is None else torch.where(mask, y, torch.zeros_like(y))
        return {
            "y": y,
            "list": [y, x, None, 3, self.scale, "text"],
            "point": Point(y + 1, x.shape[0]),
            "made": torch.ones(2),
        }


def test_nested_arguments_and_results_come_back_in_their_own_structure() -> None:
    traced = check(Nested(), torch.randn(2, 4), {"a": [torch.randn(4), None]}, n=2, mask=None)
    assert input_names(traced) == ["x", "batch_a_0"]
    assert output_names(traced) == ["y", "list_1", "list_4", "point_p", "made"]


def test_the_files_own_outputs_are_distinct_from_inputs_and_weights() -> None:
    traced = check(Nested(), torch.randn(2, 4), {"a": [torch.randn(4), None]})
    onnx.checker.check_model(ir.to_proto(traced.model))
    assert all(value.producer() is not None for value in traced.model.graph.outputs)


def test_arguments_may_come_by_position_or_by_name() -> None:
    module = Nested().eval()
    x, batch, mask = torch.randn(2, 4), {"a": [torch.randn(4), None]}, torch.tensor([True, False, True, True])
    traced = trace(module, (), {"batch": batch, "x": x, "mask": mask})
    wanted = module(x, batch, mask=mask)["y"]
    for found in (
        run(traced, x, batch, mask=mask),
        run(traced, x, mask=mask, batch=batch),
        run(traced, x=x, batch=batch, mask=mask),
    ):
        torch.testing.assert_close(found["y"], wanted)


def test_arrays_and_numbers_are_taken_for_tensors() -> None:
    module = Nested().eval()
    x, a = np.ones((2, 4), np.float32), np.zeros(4, np.float32)
    found = run(trace(module, (x, {"a": [a, None]})), torch.ones(2, 4), {"a": [a, None]})
    torch.testing.assert_close(found["y"], module(torch.ones(2, 4), {"a": [torch.zeros(4), None]})["y"])


@dataclass
class State:
    hidden: Tensor
    steps: Tensor


class Step(nn.Module):
    def forward(self, state: State) -> State:
        return State(state.hidden * 2, state.steps + 1)


def test_dataclasses_go_in_and_come_out() -> None:
    state = State(torch.randn(3), torch.tensor(4))
    traced = trace(Step().eval(), (state,))
    found = run(traced, state)
    assert isinstance(found, State)
    assert found.steps == 5
    assert output_names(traced) == ["hidden", "steps"]


@dataclass
class Outcome:
    total: Tensor


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Outcome:
        return Outcome(x.sum())


def test_a_dataclass_met_first_in_the_result() -> None:
    found = run(trace(Sum().eval(), (torch.ones(3),)), torch.ones(3))
    assert isinstance(found, Outcome)
    assert found.total == 3


class Mixed(nn.Module):
    def forward(self, i: Tensor, b: Tensor, h: Tensor, d: Tensor, u: Tensor) -> tuple[Tensor, ...]:
        return i + 1, ~b, h * 2, d / 3, u.to(torch.int32), torch.where(b, i, -i)


def test_integers_booleans_halves_and_doubles() -> None:
    traced = check(
        Mixed(),
        torch.arange(4),
        torch.tensor([True, False, True, False]),
        torch.randn(4, dtype=torch.float16),
        torch.randn(4, dtype=torch.float64),
        torch.arange(4, dtype=torch.uint8),
    )
    assert [value.dtype for value in traced.model.graph.inputs] == [
        ir.DataType.INT64,
        ir.DataType.BOOL,
        ir.DataType.FLOAT16,
        ir.DataType.DOUBLE,
        ir.DataType.UINT8,
    ]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_types_that_numpy_lacks_cross_both_ways(dtype: torch.dtype) -> None:
    class Turn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.t()

    x = torch.randn(2, 3).to(dtype)
    traced = trace(Turn().eval(), (x,))
    assert traced.signature is not None
    [array] = traced.signature.flatten((x,)).values()
    found = traced.signature.unflatten([array.T])
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), x.t().float())


def test_complex_tensors_cross_as_pairs_of_reals() -> None:
    class Rotate(nn.Module):
        def forward(self, z: Tensor, turn: Tensor) -> Tensor:
            return z * turn

    check(Rotate(), torch.randn(3, dtype=torch.complex64), torch.randn(3, dtype=torch.complex64))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.output = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.output.weight = self.embedding.weight
        self.view: Tensor
        self.register_buffer("view", self.embedding.weight.detach())

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.output(self.embedding(ids)), self.view[0]


def test_tied_weights_stay_tied() -> None:
    traced = check(Tied(), torch.tensor([[1, 2]]))
    assert [v for v in traced.model.graph.initializers.values() if v.shape == (7, 4)].__len__() == 1


def test_the_weights_are_the_models_own() -> None:
    module = nn.Linear(3, 3).eval()
    x = torch.randn(1, 3)
    wanted = module(x).detach().clone()
    traced = trace(module, (x,))
    with torch.no_grad():
        module.weight.zero_()
    torch.testing.assert_close(run(traced, x), wanted)


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.calls


def test_what_the_model_writes_to_is_in_the_notes_and_untouched() -> None:
    module = Counter().eval()
    traced = trace(module, (torch.ones(2),))
    assert traced.notes == ["the model writes to its buffer calls; the compiled program does not"]
    assert module.calls == 0


class Remembering(nn.Module):
    last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = x * 2
        return self.last + 1


def test_attributes_assigned_while_tracing_do_not_stay() -> None:
    module = Remembering().eval()
    trace(module, (torch.ones(2),))
    assert module.last is None


def _one_more(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output + 1


class HooksItself(nn.Module):
    """Puts a hook in place at its first call, as transformers does, and remembers that it did."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.hooked = False
        self.seen: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if not self.hooked:
            self.linear.register_forward_hook(_one_more)
            self.hooked = True
        self.seen["x"] = x
        return self.linear(x)


def test_hooks_and_caches_made_while_tracing_do_not_stay() -> None:
    module = HooksItself().eval()
    x = torch.randn(2, 3)
    trace(module, (x,))
    assert not module.hooked
    assert not module.seen
    torch.testing.assert_close(module(x), functional.linear(x, module.linear.weight, module.linear.bias) + 1)


def test_tracing_is_silent_and_leaves_no_setting_changed(capfd: pytest.CaptureFixture[str]) -> None:
    module = nn.LSTM(3, 4, batch_first=True).eval()
    level, filters = logging.getLogger("torch.onnx").level, list(warnings.filters)
    kernels = dict(torch.ops.aten.lstm.input.py_kernels)
    trace(module, (torch.randn(1, 5, 3),), dynamic_shapes=({1: "time"}, None))
    assert capfd.readouterr() == ("", "")
    assert (logging.getLogger("torch.onnx").level, list(warnings.filters)) == (level, filters)
    assert dict(torch.ops.aten.lstm.input.py_kernels) == kernels
    assert all(p.requires_grad for p in module.parameters())
    assert torch.is_grad_enabled()


# --- sources


def test_exported_programs_and_graph_modules() -> None:
    module, x = nn.Sequential(nn.Linear(3, 3), nn.ReLU()).eval(), torch.randn(2, 3)
    program = torch.export.export(module, (x,))
    nodes = len(program.graph.nodes)
    check(module, x, traced=trace(program))
    assert len(program.graph.nodes) == nodes
    check(module, x, traced=trace(torch.fx.symbolic_trace(module), (x,)))
    check(module, x, traced=trace(torch.compile(module, backend="eager"), (x,)))


def test_onnx_sources(tmp_path: Path) -> None:
    model = trace(nn.Linear(3, 3).eval(), (torch.randn(2, 3),)).model
    proto = ir.to_proto(model)
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    for source in (model, proto, proto.SerializeToString(), path, str(path)):
        traced = trace(source)
        assert traced.signature is None
        assert [node.op_type for node in traced.model.graph] == [node.op_type for node in model.graph]


def test_something_else_is_no_model() -> None:
    with expect("T002", "builtins.int"):
        trace(3)


@pytest.mark.parametrize("opset", [17, 18, 20, 21, 22, 23, 24])
def test_the_opset_asked_for(opset: int) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.Flatten(), nn.LayerNorm(64)).eval()
    x = torch.randn(1, 3, 6, 6)
    traced = trace(module, (x,), opset=opset)
    assert traced.model.opset_imports[""] == opset
    check(module, x, traced=traced)


def test_an_opset_too_old_for_the_model_is_raised_and_said() -> None:
    traced = trace(nn.LayerNorm(4).eval(), (torch.randn(2, 4),), opset=13)
    assert traced.model.opset_imports[""] == 18
    assert traced.notes == ["the model needs opset 18: it has operators that opset 13 lacks"]


# --- dynamic shapes


class Attend(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 24)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.linear(x).chunk(3, -1))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        return mixed.transpose(1, 2).flatten(2)


@pytest.mark.parametrize(
    "spec",
    [
        {"x": {0: "batch", 1: "time"}, "mask": {0: "batch", 1: "time"}},
        {"x": {0: Dim("batch"), 1: Dim("time")}, "mask": {0: Dim("batch"), 1: Dim("time")}},
        ({0: "batch", 1: "time"}, {0: "batch", 1: "time"}),
    ],
)
def test_named_dimensions_vary_and_keep_their_names(spec: Any) -> None:
    module = Attend().eval()
    # An example batch of one must not fix the batch.
    traced = trace(module, (torch.randn(1, 5, 8), torch.ones(1, 5, dtype=torch.bool)), dynamic_shapes=spec)
    assert [dims(value) for value in traced.model.graph.inputs] == [["batch", "time", 8], ["batch", "time"]]
    assert dims(traced.model.graph.outputs[0]) == ["batch", "time", 8]
    for batch, time in ((1, 5), (3, 2), (2, 17)):
        mask = torch.rand(batch, time) > 0.3
        mask[:, 0] = True
        check(module, torch.randn(batch, time, 8), mask, traced=traced)
    with expect("T031", "dimension 1", "time", "mask"):
        run(traced, torch.randn(2, 5, 8), torch.ones(2, 4, dtype=torch.bool))


def test_hints_become_dimensions_named_after_their_input() -> None:
    module = nn.Linear(3, 3).eval()
    traced = trace(module, (torch.randn(2, 3),), dynamic_shapes={"input": {0: Dim.AUTO, 1: Dim.AUTO}})
    assert dims(traced.model.graph.inputs[0]) == ["input_dim0", 3]
    assert traced.notes == ["dimension 1 of input is fixed at 3: the model holds for that size only"]
    check(module, torch.randn(5, 3), traced=traced)


def test_a_hint_on_an_example_of_one_is_not_blamed_on_the_model() -> None:
    """With AUTO torch takes a size of 0 or 1 for one that never changes; a name has no such limit."""
    module = nn.Linear(3, 3).eval()
    traced = trace(module, (torch.randn(1, 3),), dynamic_shapes={"input": {0: Dim.AUTO}})
    assert traced.notes == ["dimension 0 of input is fixed at 1: the example has it, give one of 2 or more"]
    named = trace(module, (torch.randn(1, 3),), dynamic_shapes={"input": {0: "n"}})
    assert named.notes == []
    check(module, torch.randn(5, 3), traced=named)


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, 6) + 1


@pytest.mark.parametrize("spec", ["rows", Dim("rows"), Dim.DYNAMIC, Dim("rows", min=2, max=64)])
def test_a_named_dimension_that_the_model_fixes_is_named(spec: Any) -> None:
    named = "" if spec is Dim.DYNAMIC else "named 'rows'"
    with expect("T021", "dimension 0 of x", named, "constant 3", "leave the dimension out"):
        trace(Fixed().eval(), (torch.randn(3, 4),), dynamic_shapes={"x": {0: spec}})


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table[: x.shape[1]]


def test_a_dimension_with_a_limit_says_which() -> None:
    module = Positions().eval()
    with expect("T021", "time", "16"):
        trace(module, (torch.randn(2, 8, 4),), dynamic_shapes={"x": {1: Dim("time")}})
    traced = trace(module, (torch.randn(2, 8, 4),), dynamic_shapes={"x": {1: Dim("time", max=16)}})
    check(module, torch.randn(2, 16, 4), traced=traced)


def test_dynamic_shapes_that_do_not_fit() -> None:
    module, x = nn.Linear(3, 3).eval(), torch.randn(2, 3)
    with expect("T023", "inputs"):
        trace(module, (x,), dynamic_shapes={"inputs": {0: "n"}})
    with expect("T023", "input"):
        trace(module, (x,), dynamic_shapes={"input": {"a": {0: "n"}}})
    with expect("T023", "dimension 2 of what has 2"):
        trace(module, (x,), dynamic_shapes={"input": {2: "n"}})


class Sized(nn.Module):
    """Branches on sizes, on a number, and on what neither of two answers changes: whether a tensor is contiguous."""

    def forward(self, x: Tensor, n: int) -> Tensor:
        y = x * 2 if x.shape[0] % 2 == 0 else x * 3
        y = y + 1 if n > 4 else y - 1
        return y.transpose(0, 1).reshape(-1) if x.shape[1] < 9 else y.reshape(-1)


@pytest.mark.parametrize("hint", [Dim.AUTO, Dim.DYNAMIC, "name"])
def test_sizes_that_the_code_does_something_else_for_are_refused(hint: Any) -> None:
    rows, columns = ("rows", "columns") if hint == "name" else (hint, hint)
    shapes = {"x": {0: rows, 1: columns}, "n": Dim.DYNAMIC}
    traced = check(
        Sized(), torch.ones(8, 3), 5, traced=trace(Sized().eval(), (torch.ones(8, 3), 5), dynamic_shapes=shapes)
    )
    assert len(traced.notes) == 3
    for shape, n in (((2, 8), 9), ((4, 1), 5), ((64, 2), 6)):
        check(Sized(), torch.randn(shape), n, traced=traced)
    name = "rows" if hint == "name" else "x_dim0"
    with expect("T031", f"{name} = 7", f"{name} % 2", "test_trace.py", "in forward"):
        run(traced, torch.ones(7, 3), 5)
    with expect("T031", "= 9", "columns < 9" if hint == "name" else "x_dim1 < 9"):
        run(traced, torch.ones(8, 9), 5)
    with expect("T031", "int(n) = 4", "int(n) > 4"):
        run(traced, torch.ones(8, 3), 4)


def test_the_example_itself_may_be_refused() -> None:
    """A size of 1 is traced as 2, and the code may do something else for that."""
    traced = trace(Sized().eval(), (torch.ones(1, 3), 5), dynamic_shapes={"x": {0: "rows"}})
    with expect("T031", "rows = 1"):
        run(traced, torch.ones(1, 3), 5)


class Divided(nn.Module):
    """Branches on a quotient."""

    def forward(self, x: Tensor, n: int) -> Tensor:
        return x * 2 if x.shape[0] // n > 1 else x * 3


def test_a_question_without_an_answer_is_refused() -> None:
    shapes = {"x": {0: "rows"}, "n": Dim.DYNAMIC}
    traced = trace(Divided().eval(), (torch.ones(8, 3), 2), dynamic_shapes=shapes)
    check(Divided(), torch.ones(9, 3), 3, traced=traced)
    with expect("T031", "int(n) = 0"):
        run(traced, torch.ones(8, 3), 0)


class Long(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[0] > 5 else x * 3


def test_declared_limits_are_kept_to() -> None:
    """Torch answers by them what the code asks, so outside of them the answer may be another."""
    traced = trace(Long().eval(), (torch.ones(8),), dynamic_shapes={"x": {0: Dim("rows", min=6, max=64)}})
    assert traced.notes == []
    for size in (6, 64):
        check(Long(), torch.randn(size), traced=traced)
    with expect("T031", "rows = 3", "rows >= 6", "dynamic_shapes"):
        run(traced, torch.ones(3))
    with expect("T031", "rows = 65", "rows <= 64"):
        run(traced, torch.ones(65))


class Scale(nn.Module):
    def forward(self, x: Tensor, n: int) -> tuple[Tensor, int]:
        return x * n, n * 2 + x.shape[0]


def test_an_integer_argument_can_vary() -> None:
    traced = trace(Scale().eval(), (torch.ones(3), 5), dynamic_shapes={"x": {0: "length"}, "n": Dim.DYNAMIC})
    check(Scale(), torch.ones(4), 7, traced=traced)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False, "batch_first": True}]
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_recurrent_layers_become_one_operator_a_layer(kind: Any, options: dict[str, Any], dynamic: bool) -> None:
    module = kind(3, 4, **options).eval()
    spec = ({0: "a", 1: "b"}, None) if dynamic else None
    traced = trace(module, (torch.randn(5, 2, 3),), dynamic_shapes=spec)
    check(module, torch.randn(5, 2, 3), traced=traced)
    if dynamic:
        check(module, torch.randn(9, 4, 3), traced=traced)
    kinds = [node.op_type for node in traced.model.graph]
    assert kinds.count(kind.__name__) == options.get("num_layers", 1)
    assert "Loop" not in kinds


# --- errors


def test_training_mode_is_refused() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout())
    with expect("T001", "Sequential", ".eval()"):
        trace(module, (torch.randn(1, 3),))
    list(module.eval())[1].train()
    with expect("T001", "module 1"):
        trace(module, (torch.randn(1, 3),))


class Careless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.5)


def test_dropout_that_is_always_on_is_refused_with_its_line() -> None:
    with expect("T001", "aten.dropout", f"{Path(__file__).name}:"):
        trace(Careless().eval(), (torch.randn(1, 3),))
    with expect("T001", "aten.dropout"):
        trace(torch.export.export(Careless().eval(), (torch.randn(1, 3),)))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


class Holder(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Identity(), inner])

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x


def test_a_branch_on_data_names_its_place() -> None:
    line = next(i for i, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "if x.sum() > 0:" in text)
    with expect("T020", f"{Path(__file__).name}:{line} in forward", "module parts.1 (Branching)", "torch.where"):
        trace(Holder(Branching()).eval(), (torch.randn(3),))


class Exotic(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x).real


def test_an_operator_without_an_onnx_form_is_named_with_its_place() -> None:
    with expect("T010", "linalg_eig", f"{Path(__file__).name}:", "module parts.1 (Exotic)"):
        trace(Holder(Exotic()).eval(), (torch.randn(3, 3),))


def test_arguments_that_do_not_fit_the_model() -> None:
    with expect("T003", "Linear.forward", "input"):
        trace(nn.Linear(3, 3).eval(), ())


def test_calls_that_do_not_fit_the_trace() -> None:
    module = Nested().eval()
    traced = trace(module, (torch.randn(2, 4), {"a": [torch.randn(4), None]}), {"n": 2})
    good = {"a": [torch.randn(4), None]}
    with expect("T030", "batch"):
        run(traced, torch.randn(2, 4), n=2)
    with expect("T030", "mask"):
        run(traced, torch.randn(2, 4), good, n=2, mask=torch.ones(4, dtype=torch.bool))
    with expect("T030", "nested"):
        run(traced, torch.randn(2, 4), {"a": [torch.randn(4)]}, n=2)
    with expect("T031", "x", "[3, 4]", "[2, 4]"):
        run(traced, torch.randn(3, 4), good, n=2)
    with expect("T031", "x", "float64"):
        run(traced, torch.randn(2, 4, dtype=torch.float64), good, n=2)
    with expect("T032", "n", "is 5", "with 2"):
        run(traced, torch.randn(2, 4), good, n=5)
    with expect("T032", "batch", "a Tensor", "None"):
        run(traced, torch.randn(2, 4), {"a": [torch.randn(4), torch.randn(4)]}, n=2)


@pytest.mark.parametrize("fails", [False, True])
def test_torch_asks_cpp_for_its_composite_operators_once(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is left as it was, whether the decomposition ends well or not."""
    asked: list[None] = []
    ask = export_utils._materialize_cpp_cia_ops  # pyright: ignore[reportPrivateUsage]

    def counted() -> None:
        asked.append(ask())

    program = torch.export.export(nn.Linear(2, 3).eval(), (torch.ones(1, 2),))
    monkeypatch.setattr(export_utils, "_materialize_cpp_cia_ops", counted)
    if fails:
        monkeypatch.setattr(type(program), "run_decompositions", lambda *_: 1 / 0)

    with pytest.raises(TamagoError, match="T011") if fails else nullcontext():
        translate(program, 18)

    assert len(asked) == 1
    assert export_utils._materialize_cpp_cia_ops is counted  # pyright: ignore[reportPrivateUsage]
