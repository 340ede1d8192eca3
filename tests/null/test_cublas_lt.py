"""What cuBLASLt is asked for; tests/gpu asks it."""

from __future__ import annotations

import pytest
import torch

from tamago.backends.triton import cublas_lt
from tamago.backends.triton.cublas_lt import may_ask, proposals
from tamago.backends.triton.library_convolution import LT


@pytest.mark.parametrize(
    ("residual", "activation", "after", "can"),
    [
        (False, "", "", True),
        (False, "Relu", "", True),
        (False, "GeluTanh", "", True),
        (True, "", "", True),
        (True, "", "Relu", True),
        (False, "Gelu", "", False),
        (False, "Silu", "", False),
        (True, "Relu", "", False),
        (True, "Relu", "Relu", False),
        (True, "", "Silu", False),
    ],
)
def test_what_the_library_does_to_a_sum_is_asked_for_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, residual: bool, activation: str, after: str, can: bool
) -> None:
    """It knows no GELU but that of tanh, and acts on the sum of product, bias and matrix only."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cublas_lt, "_library", object)

    found = proposals(residual=residual, activation=activation, after=after)

    assert found == ([(LT, place) for place in range(cublas_lt.PROPOSALS)] if can else [])


def test_without_a_gpu_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert proposals(residual=False, activation="", after="") == []
    assert not may_ask(torch.zeros(2, 2), None, "", "")


def test_without_the_library_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cublas_lt, "_library", lambda: None)

    assert proposals(residual=False, activation="", after="") == []


@pytest.mark.parametrize(("offset", "aligned"), [(0, 256), (8, 16), (1, 2), (64, 128), (128, 256)])
def test_the_library_is_told_what_addresses_are_multiples_of(offset: int, aligned: int) -> None:
    room = torch.zeros(1024, dtype=torch.float16)
    first = (-room.data_ptr() % 512) // 2

    found = cublas_lt._alignment(room[first + offset :])  # pyright: ignore[reportPrivateUsage]

    assert found == aligned
