"""A budget on target "cuda" from one end to the other, its programs played by the processor: what is chosen, and runs.

Nothing here says what is fast: `tests/gpu` does.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tamago
from tamago.backends.onnxruntime.run import Program as Plain
from tamago.compiler.files import to_proto
from tamago.compiler.store import Store
from tests.triton.played import Played, play

WIDTH, HIDDEN = 64, 128


class Layer(nn.Module):
    """A gated layer behind a norm, and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(WIDTH)
        self.gate = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.up = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = self.norm(x)
        return x + self.down(nn.functional.silu(self.gate(n)) * self.up(n))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch)


def compiled(rows: int, **words: Any) -> tuple[nn.Module, tamago.CompiledModel]:
    torch.manual_seed(0)
    model = nn.Sequential(Layer(), Layer()).eval()
    batches = [((torch.randn(1, rows, WIDTH),), None) for _ in range(48)]
    budget = tamago.Budget(rise=0.1)
    example = (torch.randn(1, rows, WIDTH),)
    return model, tamago.compile(
        model, example, target="cuda", budget=budget, calibration=batches, store=":memory:", measure=False, **words
    )


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("rows", [1, 3])
def test_products_in_few_bits_are_chosen_fused_and_right(rows: int) -> None:
    model, found = compiled(rows)

    assert found.report.verdict == "faster within the budget", found.explain()
    operators = Counter(n.op_type for n in found.graph.graph)
    assert any(name.endswith("NBits") and name != "MatMulNBits" for name in operators), operators
    assert "accuracy_level" not in {name for n in found.graph.graph for name in n.attributes}
    x = torch.randn(1, rows, WIDTH)
    with torch.no_grad():
        wanted, got = model(x), found(x)
    assert float((got - wanted).norm() / wanted.norm()) < 0.1
    (elsewhere,) = Plain(found.graph, 1)({found.graph.graph.inputs[0].name or "": x.numpy()})
    np.testing.assert_allclose(elsewhere, got.numpy(), rtol=0, atol=1e-4)
    assert to_proto(found.graph).functions


@pytest.mark.usefixtures("played")
def test_a_portable_program_has_only_the_standard_s_operators() -> None:
    _, found = compiled(1, portable=True)

    assert not found.graph.functions
    assert {n.domain for n in found.graph.graph} <= {""}


def test_integer_arithmetic_and_foreign_operators_without_a_kernel_are_lacking() -> None:
    target = Played(Store.open(":memory:"))
    asked = frozenset(
        [
            "MatMul",
            "QuantizeLinear",
            "DequantizeLinear",
            "com.microsoft::MatMulNBits",
            "com.microsoft::MatMulIntegerToFloat",
        ]
    )
    assert target.lacks(asked) == {"QuantizeLinear", "com.microsoft::MatMulIntegerToFloat"}
