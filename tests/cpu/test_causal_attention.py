"""Causal attention where the length is free: the mask that an exporter computes is not needed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import tamago

SIZE = 16


class Attention(nn.Module):
    """Rows see the columns up to themselves, and `more` beyond."""

    def __init__(self, more: int) -> None:
        super().__init__()
        self.more = more

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One head of attention of x over itself."""
        place = torch.arange(x.shape[1])
        mask = place[None, :] <= place[:, None] + self.more
        return functional.scaled_dot_product_attention(x[:, None], 2 * x[:, None], 3 * x[:, None], attn_mask=mask)


def compiled(more: int) -> Any:
    length = torch.export.Dim("length", min=2, max=64)
    x = torch.randn(2, 7, SIZE, generator=torch.Generator().manual_seed(0))
    return tamago.compile(
        Attention(more).eval(), (x,), dynamic_shapes={"x": {1: length}}, store=":memory:", measure=False
    )


def masked(program: Any) -> list[bool]:
    """Whether each Attention of the result reads a mask."""
    return [len(n.inputs) > 3 for n in program.graph.graph if n.op_type == "Attention"]


@pytest.mark.parametrize("more", [0, 1])
def test_attention_over_any_length_is_what_it_was(more: int) -> None:
    program, original = compiled(more), Attention(more)
    for length in (2, 7, 33):
        x = torch.randn(2, length, SIZE, generator=torch.Generator().manual_seed(length))
        torch.testing.assert_close(program(x), original(x), rtol=1e-4, atol=1e-5)


def test_a_mask_that_says_no_more_than_causality_goes() -> None:
    program = compiled(0)

    assert not any(n.op_type in ("Range", "LessOrEqual", "Where") for n in program.graph.graph)
    assert masked(program) == [False]


def test_another_mask_stays() -> None:
    assert any(n.op_type == "LessOrEqual" for n in compiled(1).graph.graph)
