"""Every model of the zoo, at its small scale: traced, it computes in ONNX Runtime what PyTorch does, and so optimised.

A model is exported once for all its tests, and optimised as it was traced at the opset that `trace` takes by itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tamago.compiler.from_torch.export import Captured, capture
from tamago.compiler.from_torch.trace import trace_captured
from tamago.compiler.garbage import model_set_aside
from tamago.compiler.pipeline import compile_traced
from tamago.compiler.trace import Traced, trace

from .models import zoo

pytestmark = pytest.mark.slow


@dataclass
class Example:
    """A model, its arguments, and what is made of them: once, when a test first asks."""

    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @cached_property
    def result(self) -> Any:
        """PyTorch's."""
        with torch.no_grad():
            return self.module(*self.args, **self.kwargs)

    @cached_property
    def captured(self) -> Captured:
        """Translation leaves it as it was."""
        return capture(self.module, self.args, self.kwargs, None)

    @cached_property
    def at_18(self) -> Traced:
        """What `trace(module, args, kwargs)` gives; the compiler works on a copy."""
        return self.traced(18)

    def traced(self, opset: int) -> Traced:
        """What `trace` does with a captured module."""
        with model_set_aside():
            return trace_captured(self.captured, opset)


def small(name: str) -> Example:
    return Example(*zoo()[name]("small"))


@pytest.fixture(scope="module", params=sorted(zoo()))
def example(request: pytest.FixtureRequest) -> Example:
    return small(request.param)


def run(traced: Traced, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(ir.to_proto(traced.model).SerializeToString(), options)
    assert traced.signature is not None
    return traced.signature.unflatten(session.run(None, traced.signature.flatten(args, kwargs)))


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


@pytest.mark.parametrize("opset", [18, 23])
def test_the_traced_model_computes_what_the_module_does(example: Example, opset: int) -> None:
    traced = example.at_18 if opset == 18 else example.traced(opset)
    assert traced.signature is not None
    assert traced.model.opset_imports[""] == opset
    assert traced.notes == []
    found = run(traced, example.args, example.kwargs)
    assert pytree.tree_structure(found) == pytree.tree_structure(example.result)
    for a, b in zip(tensors(found), tensors(example.result), strict=True):
        # Most are at 1e-7; MobileNet's batch norms, over four values each, magnify rounding to 5e-5, also in PyTorch.
        assert (a - b).norm() <= 1e-4 * b.norm()


def test_the_result_depends_on_the_input(example: Example) -> None:
    """A model whose signal has died out would pass any comparison."""
    changed = Example(example.module, *pytree.tree_map_only(Tensor, other, (example.args, example.kwargs)))
    pairs = list(zip(tensors(example.result), tensors(changed.result), strict=True))
    assert max(float((a - b).norm() / a.norm()) for a, b in pairs) > 1e-2


def other(value: Tensor) -> Tensor:
    """Other values of the same kind; a mask stays as it is."""
    if value.is_floating_point():
        return value.flip(-1) + 0.5
    return value if int(value.max()) <= 1 else value.roll(1, -1)


def test_the_optimised_model_computes_what_the_traced_one_does(example: Example) -> None:
    """It saturates, verifies, and loses nodes."""
    signature = example.at_18.signature
    assert signature is not None

    # A failed comparison raises; without measuring the choice is the same however busy the machine.
    feeds = signature.flatten(example.args, example.kwargs)
    compiled = compile_traced(example.at_18, feeds, measure=False, strict=True, store=":memory:", threads=1)

    assert compiled.report.outcome is not None
    assert compiled.report.outcome.saturation.stop == "saturated"
    assert compiled.report.verdict in ("not timed", "no gain")
    assert compiled.report.after.nodes <= compiled.report.before.nodes
    assert not any(note.startswith("only bit-identical") for note in compiled.report.notes)


def test_models_draw_the_same_weights_each_time() -> None:
    first, again = (small("bert").module.state_dict() for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_cache_in_the_result_comes_back_as_a_cache(name: str) -> None:
    plain = small(name)
    cached = Example(plain.module, plain.args, {**plain.kwargs, "use_cache": True})
    found = run(trace(cached.module, cached.args, cached.kwargs), cached.args, cached.kwargs)
    assert type(found.past_key_values) is type(cached.result.past_key_values)
    for a, b in zip(found.past_key_values.layers, cached.result.past_key_values.layers, strict=True):
        torch.testing.assert_close(a.keys, b.keys, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(a.values, b.values, rtol=1e-4, atol=1e-5)


def test_batch_and_sequence_of_a_language_model_vary() -> None:
    llama = small("llama")
    dims = {"input_ids": {0: "batch", 1: "sequence"}}
    traced = trace(llama.module, llama.args, llama.kwargs, dynamic_shapes=dims)
    for shape in ((1, 16), (3, 7), (2, 33)):
        inputs = {"input_ids": torch.randint(3, 500, shape)}
        wanted = Example(llama.module, (), inputs).result
        torch.testing.assert_close(run(traced, (), inputs).logits, wanted.logits, rtol=1e-4, atol=1e-5)


def test_tracing_a_model_of_the_zoo_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    mixtral = small("mixtral")
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace(mixtral.module, mixtral.args, mixtral.kwargs)
    assert capfd.readouterr() == ("", "")
