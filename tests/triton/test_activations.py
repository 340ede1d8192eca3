"""Activations inside kernels, in Triton's interpreter, number by number against double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

if torch.cuda.is_available():
    pytest.skip("tests/gpu runs them on the device", allow_module_level=True)

from tamago.backends.triton.kernels.activations import activate

WIDE = 1 << 17  # numbers of one program


@pytest.fixture(autouse=True)
def interpreting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def each(x: Any, y: Any, WIDTH: tl.constexpr, NAME: tl.constexpr, HALF: tl.constexpr) -> None:
    i: Any = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    tl.store(y + i, activate(tl.load(x + i), NAME, HALF))


def activated(x: Tensor, name: str) -> Tensor:
    """In single precision, as kernels whose results are halves do it."""
    padded = functional.pad(x, [0, -len(x) % WIDE])
    y = torch.empty_like(padded)
    kernel: Any = triton.jit(each)  # interpreted or compiled as it is asked for now
    kernel[(len(padded) // WIDE,)](padded, y, WIDTH=WIDE, NAME=name, HALF=True)
    return y[: len(x)]


def test_gelu_of_halves_is_right_within_a_fortieth_of_their_rounding() -> None:
    x = torch.linspace(-12, 12, 10 * WIDE)

    found = activated(x, "Gelu")

    assert float((found.double() - functional.gelu(x.double())).abs().max()) <= 1.2e-5


def test_gelu_of_small_numbers_keeps_their_digits() -> None:
    x = torch.cat([sign * torch.logspace(-30, -2, 1000) for sign in (-1, 1)])

    torch.testing.assert_close(activated(x, "Gelu").double(), functional.gelu(x.double()), rtol=2e-5, atol=0)


def test_gelu_of_what_is_no_number_is_none_and_of_infinity_is_infinity() -> None:
    found = activated(torch.tensor([float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 0.0]), "Gelu")

    assert bool(found[0].isnan())
    assert found[[1, 3, 5]].tolist() == [float("inf"), torch.tensor(3e38).item(), 0]
    assert float(found[[2, 4]].abs().max()) <= 1.2e-5
