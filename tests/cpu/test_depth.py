"""Depth is nearly free: layers are one block, saturated once, however many there are."""

from __future__ import annotations

import pytest
import torch
import transformers

from tamago.compiler.optimise import Outcome
from tamago.compiler.pipeline import compile_traced
from tamago.compiler.trace import trace

pytestmark = pytest.mark.slow


def outcome(layers: int) -> Outcome:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=96,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=layers,
        use_cache=False,
        pad_token_id=0,
    )
    ids = torch.randint(3, 128, (1, 8))
    traced = trace(transformers.LlamaForCausalLM(config).eval(), (ids,), {})
    assert traced.signature is not None
    feeds = traced.signature.flatten((ids,), {})
    report = compile_traced(traced, feeds, measure=False, store=":memory:", threads=1).report
    assert report.outcome is not None
    return report.outcome


def test_four_times_the_layers_cost_no_more_saturation() -> None:
    shallow, deep = outcome(4), outcome(16)

    assert [nodes for nodes, _ in deep.blocks] == [nodes for nodes, _ in shallow.blocks]
    assert max(repeats for _, repeats in deep.blocks) - max(repeats for _, repeats in shallow.blocks) == 12
    assert deep.saturation.stop == shallow.saturation.stop == "saturated"
    assert deep.saturation.rows <= 1.1 * shallow.saturation.rows
    assert deep.saturation.iterations <= 1.5 * shallow.saturation.iterations
