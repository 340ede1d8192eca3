"""`torch.compile(backend="tamago")`: mutation, dynamic sizes, weights that change, and the falls back to eager."""

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from tamago.backends import torch_dynamo
from tamago.backends.torch_dynamo import FallbackWarning
from tamago.compiler.facts import Array
from tamago.compiler.trace import Traced


class Seen:
    """What the backend compiled, run by ONNX Runtime as it is: these tests are about the capture, not the optimiser."""

    def __init__(self) -> None:
        self.traced: list[Traced] = []

    def __call__(self, traced: Traced, feeds: Mapping[str, Array], options: Mapping[str, Any]) -> Any:
        self.traced.append(traced)
        session = ort.InferenceSession(ir.to_proto(traced.model).SerializeToString())
        assert set(feeds) == {value.name for value in traced.model.graph.inputs}

        def run(feeds: Mapping[str, Array]) -> Sequence[Array]:
            found: Any = session.run(None, dict(feeds))
            return found

        return run


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    recorder = Seen()
    monkeypatch.setattr(torch_dynamo, "_compile_traced", recorder)
    monkeypatch.setattr(torch_dynamo, "_said", set[str]())
    torch.compiler.reset()
    with torch.no_grad():
        yield recorder


def same(found: Any, wanted: Any) -> None:
    a, b = pytree.tree_leaves(found), pytree.tree_leaves(wanted)
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        if isinstance(y, Tensor):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
        else:
            assert x == y


def compiled(module: Any, **options: Any) -> Any:
    return torch.compile(module, backend="tamago", **options)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = self.norm(self.linear(x))
        mixed = functional.scaled_dot_product_attention(y[None], y[None], y[None])[0]
        return {"y": mixed, "rows": y.shape[0], "same": x, "part": x[:1]}


def test_a_module_by_its_registered_name(seen: Seen) -> None:
    module = Block().eval()
    x = torch.randn(3, 8)
    same(compiled(module)(x), module(x))
    [traced] = seen.traced
    kinds = [node.op_type for node in traced.model.graph]
    # Composite operators arrive whole, and the weights as constants.
    assert "LayerNormalization" in kinds
    assert len(traced.model.graph.inputs) == 1


def test_sizes_that_vary_are_compiled_once(seen: Seen) -> None:
    module = Block().eval()
    fast = compiled(module, dynamic=True)
    for rows in (3, 5, 17):
        x = torch.randn(rows, 8)
        same(fast(x), module(x))
    assert len(seen.traced) == 1


def test_integers_that_vary_are_inputs(seen: Seen) -> None:
    def scale(x: Tensor, n: int) -> tuple[Tensor, int]:
        return x * n + torch.arange(n).sum(), n + 1

    fast = compiled(scale, dynamic=True)
    for n in (3, 4, 9):
        x = torch.randn(2, 2)
        same(fast(x, n), scale(x, n))
    assert len(seen.traced) == 1


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Tensor
        self.seen: Tensor
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(4))
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.copy_(x.mean(0))
        return self.linear(x) + self.calls


def test_buffers_that_the_model_writes_to_are_written(seen: Seen) -> None:
    module = Counter().eval()
    twin = copy.deepcopy(module)
    fast = compiled(module)
    for _ in range(3):
        x = torch.randn(2, 4)
        same(fast(x), twin(x))
        same(list(module.buffers()), list(twin.buffers()))
    assert len(seen.traced) == 1


def test_inputs_that_the_model_writes_to_are_written(seen: Seen) -> None:
    def add(x: Tensor, into: Tensor) -> Tensor:
        into.add_(x)
        return into[0] * 2

    x, a = torch.randn(3, 3), torch.zeros(3, 3)
    b = a.clone()
    same(compiled(add)(x, a), add(x, b))
    same(a, b)


def test_weights_that_change_are_noticed(seen: Seen) -> None:
    module = nn.Linear(4, 4).eval()
    fast, x = compiled(module), torch.randn(2, 4)
    same(fast(x), module(x))
    module.weight.mul_(2)
    same(fast(x), module(x))
    module.load_state_dict(nn.Linear(4, 4).state_dict())
    same(fast(x), module(x))
    module.weight = nn.Parameter(torch.zeros(4, 4))
    same(fast(x), module(x))
    # Once with the weights as constants, once with them as inputs, whatever happens afterwards.
    assert [len(traced.model.graph.inputs) for traced in seen.traced] == [1, 3]


def test_weights_can_stay_inputs(seen: Seen) -> None:
    module = nn.Linear(4, 4).eval()
    x = torch.randn(2, 4)
    same(compiled(module, options={"freeze": False})(x), module(x))
    assert [len(traced.model.graph.inputs) for traced in seen.traced] == [3]


def test_graph_breaks_leave_several_regions(seen: Seen) -> None:
    def broken(x: Tensor) -> Tensor:
        y = x * 2
        torch._dynamo.graph_break()  # pyright: ignore[reportPrivateUsage]
        return y + 1

    x = torch.randn(3)
    same(compiled(broken)(x), broken(x))
    assert len(seen.traced) == 2


def test_half_precision_and_inference_mode(seen: Seen) -> None:
    def mixed(x: Tensor, i: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return x * 2, i + 1, ~b, torch.where(b, i, -i)

    values = (torch.randn(3, dtype=torch.float16), torch.arange(3), torch.tensor([True, False, True]))
    with torch.inference_mode():
        same(compiled(mixed)(*values), mixed(*values))
    assert len(seen.traced) == 1


def test_gradients_fall_back_to_eager_and_say_so_once(seen: Seen) -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    fast, x = compiled(module), torch.randn(2, 3)
    with torch.enable_grad():
        with pytest.warns(FallbackWarning, match="gradients"):
            loss = fast(x).sum()
        loss.backward()
        assert module[0].weight.grad is not None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compiled(nn.Linear(3, 1))(x).sum().backward()
    assert seen.traced == []


def test_what_cannot_be_traced_falls_back_to_eager(seen: Seen) -> None:
    def exotic(x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x).real.sort().values

    x = torch.randn(3, 3)
    fast = compiled(exotic)
    with pytest.warns(FallbackWarning, match=r"error\[T010\].*linalg_eig"):
        same(fast(x), exotic(x))
    same(fast(x), exotic(x))


def test_the_whole_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Through the real pipeline, once."""
    pytest.importorskip("tamago.compiler.pipeline")
    torch.compiler.reset()
    module, x = Block().eval(), torch.randn(3, 8)
    options = {"store": tmp_path / "store.db", "time_limit": 5.0}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        same(compiled(module, options=options)(x), module(x))
