"""A language model with all weights in few bits, on target "cuda" played by the processor."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tamago
from tamago.compiler.errors import TamagoError
from tamago.rewrites.quantization.block_weights import decoded, round_blocks
from tests.cpu.test_generation import llama, original, prompts
from tests.triton.played import play

BLOCK = 32


def rounded(model: Any, bits: int) -> Any:
    """The model with the weights that rounding to nearest leaves of its products."""
    found = deepcopy(model)
    for module in found.modules():
        if isinstance(module, nn.Linear):
            weight = module.weight.detach().numpy().T
            back = decoded(*round_blocks(np.ascontiguousarray(weight), bits, BLOCK), len(weight))
            module.weight = nn.Parameter(torch.from_numpy(np.ascontiguousarray(back.T).astype(np.float32)))
    return found


@pytest.mark.parametrize("bits", [4, 8])
def test_the_tokens_are_those_of_the_rounded_model(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch)
    model, prompt = llama(), prompts(1, 5)
    words: dict[str, Any] = {"max_length": 32, "prompt_lengths": (8,), "target": "cuda", "store": ":memory:"}

    found = tamago.compile_causal_lm(model, weight_bits=bits, weight_block=BLOCK, measure=False, **words)

    wanted = original(rounded(model, bits), prompt, 12)
    assert torch.equal(found.generate(prompt, max_new_tokens=12), wanted)
    note = f"15 weights were rounded to {bits} bits in blocks of {BLOCK}, as asked: what that costs is not known"
    assert note in found.step.report.notes
    operators = Counter(n.op_type for n in found.step.graph.graph)
    assert operators["NormSwiGLUNBits"] == 2, operators
    assert operators["LinearAddNBits"] == 4, operators
    assert operators["NormLinearNBits"] == 3, operators  # queries, keys and values together, and the vocabulary's
    assert not operators["MatMul"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"target": "cpu", "weight_bits": 4}, "target 'cpu'"),
        ({"target": "cuda", "weight_bits": 3}, "3 bits"),
        ({"target": "cuda", "weight_bits": 4, "weight_block": 48}, "blocks of 48"),
        ({"target": "cuda", "weight_bits": 4, "weight_block": 16}, "blocks of 16"),
    ],
)
def test_what_there_is_no_kernel_for_is_refused(words: dict[str, Any], why: str) -> None:
    with pytest.raises(TamagoError, match=why) as error:
        tamago.compile_causal_lm(llama(), **words)

    assert error.value.code == "G010"
