"""Every model of the zoo, at its small scale, traced and run in ONNX Runtime against PyTorch."""

import warnings
from typing import Any

import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tamago.compiler.trace import trace

from .models import zoo

pytestmark = pytest.mark.slow


def run(model: ir.Model, feeds: dict[str, Any]) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return ort.InferenceSession(ir.to_proto(model).SerializeToString(), options).run(None, feeds)


def eager(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with torch.no_grad():
        return module(*args, **kwargs)


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


@pytest.mark.parametrize("name", sorted(zoo()))
@pytest.mark.parametrize("opset", [18, 23])
def test_the_traced_model_computes_what_the_module_does(name: str, opset: int) -> None:
    module, args, kwargs = zoo()[name]("small")
    wanted = eager(module, args, kwargs)
    traced = trace(module, args, kwargs, opset=opset)
    assert traced.signature is not None
    assert traced.model.opset_imports[""] == opset
    assert traced.notes == []
    found = traced.signature.unflatten(run(traced.model, traced.signature.flatten(args, kwargs)))
    assert pytree.tree_structure(found) == pytree.tree_structure(wanted)
    for a, b in zip(tensors(found), tensors(wanted), strict=True):
        # Most are at 1e-7; MobileNet's batch norms, over four values each, magnify rounding to 5e-5, also in PyTorch.
        assert (a - b).norm() <= 1e-4 * b.norm()


@pytest.mark.parametrize("name", sorted(zoo()))
def test_the_result_depends_on_the_input(name: str) -> None:
    """A model whose signal has died out would pass any comparison."""
    module, args, kwargs = zoo()[name]("small")
    before = eager(module, args, kwargs)
    changed = pytree.tree_map_only(Tensor, other, (args, kwargs))
    after = eager(module, *changed)
    pairs = list(zip(tensors(before), tensors(after), strict=True))
    assert max(float((a - b).norm() / a.norm()) for a, b in pairs) > 1e-2


def other(value: Tensor) -> Tensor:
    """Other values of the same kind; a mask stays as it is."""
    if value.is_floating_point():
        return value.flip(-1) + 0.5
    return value if int(value.max()) <= 1 else value.roll(1, -1)


def test_models_draw_the_same_weights_each_time() -> None:
    first, again = (zoo()["bert"]("small")[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_cache_in_the_result_comes_back_as_a_cache(name: str) -> None:
    module, args, kwargs = zoo()[name]("small")
    kwargs = kwargs | {"use_cache": True}
    wanted = eager(module, args, kwargs)
    traced = trace(module, args, kwargs)
    assert traced.signature is not None
    found = traced.signature.unflatten(run(traced.model, traced.signature.flatten(args, kwargs)))
    assert type(found.past_key_values) is type(wanted.past_key_values)
    for a, b in zip(found.past_key_values.layers, wanted.past_key_values.layers, strict=True):
        torch.testing.assert_close(a.keys, b.keys, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(a.values, b.values, rtol=1e-4, atol=1e-5)


def test_batch_and_sequence_of_a_language_model_vary() -> None:
    module, args, kwargs = zoo()["llama"]("small")
    traced = trace(module, args, kwargs, dynamic_shapes={"input_ids": {0: "batch", 1: "sequence"}})
    assert traced.signature is not None
    for shape in ((1, 16), (3, 7), (2, 33)):
        inputs = {"input_ids": torch.randint(3, 500, shape)}
        found = traced.signature.unflatten(run(traced.model, traced.signature.flatten((), inputs)))
        torch.testing.assert_close(found.logits, eager(module, (), inputs).logits, rtol=1e-4, atol=1e-5)


def test_tracing_a_model_of_the_zoo_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    module, args, kwargs = zoo()["mixtral"]("small")
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace(module, args, kwargs)
    assert capfd.readouterr() == ("", "")
