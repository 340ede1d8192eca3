"""What is fused after the choice: a step of attention over a cache, and products of one row; and what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers

from tamago.backends.onnxruntime.run import Program as Plain
from tamago.backends.triton.alternatives import RULES
from tamago.backends.triton.regions import attention_steps, merged_linears
from tamago.backends.triton.run import Program
from tamago.compiler.facts import Array
from tamago.compiler.generation.layout import layout_of
from tamago.compiler.generation.step import DecodeStep
from tamago.compiler.inference import infer
from tamago.compiler.ir import new_constant
from tamago.compiler.operators import DOMAIN, OPERATORS, attach
from tamago.compiler.opset import to_target
from tamago.compiler.optimise import Settings, optimise
from tamago.compiler.prepare import prepare
from tamago.compiler.price import Prices
from tamago.compiler.store import Store
from tamago.compiler.trace import trace
from tamago.rewrites import all_rules

SLOTS, LAYERS = 24, 2
LLAMA: dict[str, Any] = {
    "vocab_size": 60,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
LOVED = (*(f"{DOMAIN}::{name}" for name in OPERATORS), "Attention", "RotaryEmbedding")


def traced_step(**settings: Any) -> ir.Model:
    """One more token of a Llama, its cache and the position being inputs."""
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**LLAMA, **settings})).eval()
    args = (torch.tensor([[7]]), torch.tensor([3]), *layout_of(model, 1, SLOTS).empty())
    found = trace(DecodeStep(model), args).model
    prepare(found)
    to_target(found)
    infer(found)
    return found


def chosen(model: ir.Model) -> ir.Model:
    """The model with tamago's operators wherever they can stand."""
    result = model.clone()
    prices = Prices(Store.open(":memory:"), "tests", preferences=dict.fromkeys(LOVED, 1e-2))
    optimise(result, Settings(rules=(*all_rules(), *RULES), strict=True), prices, infer)
    return result


@pytest.fixture(scope="module")
def traced() -> ir.Model:
    return traced_step()


@pytest.fixture(scope="module")
def step(traced: ir.Model) -> ir.Model:
    return chosen(traced)


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def feeds_at(model: ir.Model, position: int) -> dict[str, Array]:
    """A cache full of noise, so that what should not be seen would show."""
    generator = np.random.default_rng(position)
    found: dict[str, Array] = {}
    for value in model.graph.inputs:
        assert value.shape is not None
        found[value.name or ""] = generator.standard_normal(value.shape.numpy()).astype(np.float32)
    return {**found, "input_ids": np.asarray([[position % 60]]), "position": np.asarray([position])}


def check_equal(wanted: ir.Model, found: ir.Model) -> None:
    """The same outputs by the same names at several positions, in ONNX Runtime and as an FX program."""
    attach(wanted)
    attach(found)
    reference, programs = Plain(wanted, 1, optimise=False), (Plain(found, 1), Program(found, device="cpu"))
    for position in (0, 1, 13, SLOTS - 1):
        feeds = feeds_at(wanted, position)
        for program in programs:
            assert program.outputs == reference.outputs
            for a, b in zip(reference(feeds), program(feeds), strict=True):
                np.testing.assert_allclose(b, a, rtol=0, atol=1e-4)


def test_every_layer_becomes_one_step_of_attention(traced: ir.Model, step: ir.Model) -> None:
    found = attention_steps(step)

    assert found is not None
    assert operators(step)["Attention"] == operators(found)["AttentionStep"] == LAYERS
    gone = {"Attention", "RotaryEmbedding", "ScatterElements", "Cos", "Sin", "LessOrEqual"}
    assert not gone & set(operators(found))
    check_equal(traced, found)


def test_products_of_one_row_become_one(traced: ir.Model, step: ir.Model) -> None:
    found = merged_linears(step)

    assert found is not None
    assert operators(step)["NormLinear"] - operators(found)["NormLinear"] == 2 * LAYERS  # queries, keys and values
    assert operators(found)["Split"] == LAYERS
    check_equal(traced, found)


def test_both_together_leave_few_nodes_and_the_model_they_came_from_as_it_was(traced: ir.Model, step: ir.Model) -> None:
    before = operators(step)
    merged = merged_linears(step)
    assert merged is not None

    both = attention_steps(merged)

    assert both is not None
    assert attention_steps(both) is None
    assert merged_linears(both) is None
    assert operators(step) == before
    check_equal(traced, both)


def inserted(model: ir.Model, value: ir.Value | None, user: ir.Node, place: int, op: str, *more: ir.Value) -> None:
    """Another node between a value and one that reads it."""
    node = ir.Node("", op, [value, *more], name=f"between_{place}")
    node.outputs[0].name = f"between_{place}"
    if value is not None:
        node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
    for constant in more:
        if constant.name not in model.graph.initializers:
            model.graph.register_initializer(constant)
    model.graph.insert_before(user, node)
    user.replace_input_with(place, node.outputs[0])


def of_type(model: ir.Model, op: str) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == op]


def sees_one_more(model: ir.Model) -> None:
    (node,) = of_type(model, "LessOrEqual")
    shift = new_constant("shift", np.asarray(1, np.int64))
    inserted(model, node.inputs[1], node, 1, "Add", shift)


def sees_one_less(model: ir.Model) -> None:
    (node,) = of_type(model, "LessOrEqual")
    node.op_type = "Less"


def writes_one_later(model: ir.Model) -> None:
    for node in of_type(model, "ScatterElements"):
        shift = new_constant(f"shift_{node.name}", np.asarray(1, np.int64))
        inserted(model, node.inputs[1], node, 1, "Add", shift)


def writes_along_another_axis(model: ir.Model) -> None:
    for node in of_type(model, "ScatterElements"):
        node.attributes["axis"] = ir.AttrInt64("axis", 1)


def adds_to_the_cache(model: ir.Model) -> None:
    for node in of_type(model, "ScatterElements"):
        node.attributes["reduction"] = ir.AttrString("reduction", "add")


def shows_the_old_cache(model: ir.Model) -> None:
    for value in [v for v in model.graph.inputs if v.name not in ("input_ids", "position")]:
        node = ir.Node("", "Neg", [value], name=f"old_{value.name}")
        node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = node.name, value.type, value.shape
        model.graph.append(node)
        model.graph.outputs.append(node.outputs[0])


def turns_neighbours(model: ir.Model) -> None:
    for node in of_type(model, "RotaryEmbedding"):
        node.attributes["interleaved"] = ir.AttrInt64("interleaved", 1)


def turns_keys_alone_otherwise(model: ir.Model) -> None:
    """By the cosine for the sine."""
    for node in of_type(model, "RotaryEmbedding")[::2]:
        node.replace_input_with(2, node.inputs[1])


def caps_the_scores(model: ir.Model) -> None:
    for node in of_type(model, "Attention"):
        node.attributes["softcap"] = ir.AttrFloat32("softcap", 3.0)


EDITS = (
    *(sees_one_more, sees_one_less, writes_one_later, writes_along_another_axis, adds_to_the_cache),
    *(shows_the_old_cache, turns_neighbours, turns_keys_alone_otherwise, caps_the_scores),
)


@pytest.mark.parametrize("edit", EDITS)
def test_no_step_where_the_graph_says_something_else(step: ir.Model, edit: Callable[[ir.Model], None]) -> None:
    other = step.clone()
    assert attention_steps(other) is not None

    edit(other)

    assert attention_steps(other) is None


def test_one_layer_may_be_a_step_where_another_is_not(step: ir.Model) -> None:
    other = step.clone()
    of_type(other, "Attention")[0].attributes["softcap"] = ir.AttrFloat32("softcap", 3.0)

    found = attention_steps(other)

    assert found is not None
    assert operators(found)["AttentionStep"] == operators(found)["Attention"] == LAYERS - 1
    check_equal(other, found)


@pytest.mark.parametrize("size", [16, 48])  # too small for the tensor cores, and no power of two
def test_no_step_for_heads_that_the_kernel_is_not_made_for(size: int) -> None:
    model = chosen(traced_step(head_dim=size, num_hidden_layers=1))

    assert operators(model)["Attention"] == 1
    assert attention_steps(model) is None
