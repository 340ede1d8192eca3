"""What cuBLASLt is asked for; tests/gpu asks it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tamago.backends.triton import cublas_lt
from tamago.backends.triton.cublas_lt import may_ask, proposals
from tamago.backends.triton.library.convolution import LT


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


def planned(monkeypatch: pytest.MonkeyPatch, count: int) -> list[int]:
    """A library that proposes so many algorithms; and which of them is called."""
    called: list[int] = []
    found = tuple(cublas_lt._Proposal(workspace=place) for place in range(count))  # pyright: ignore[reportPrivateUsage]

    def plan(*described: object) -> object:
        del described
        return SimpleNamespace(handle=None, product=None, a=None, b=None, d=None, proposals=found)

    def call(name: str, *arguments: Any, allowed: int = 0) -> None:
        del allowed
        if name == "Matmul":
            called.append(arguments[-2].value)

    def on(device: object) -> AbstractContextManager[None]:
        del device
        return nullcontext()

    monkeypatch.setattr(cublas_lt, "_plan", plan)
    monkeypatch.setattr(cublas_lt, "_call", call)
    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
    return called


def launched(place: int) -> torch.Tensor | None:
    x, w, bias = (torch.zeros(s, dtype=torch.float16) for s in ((3, 8), (16, 8), (16,)))
    return cublas_lt.launch_lt_affine(x, w, bias, None, "", "", (LT, place))


@pytest.mark.parametrize(("count", "place", "taken"), [(8, 5, 5), (3, 2, 2), (3, 7, 0), (1, 1, 0)])
def test_where_fewer_are_proposed_than_a_record_knows_the_first_is_taken(
    monkeypatch: pytest.MonkeyPatch, count: int, place: int, taken: int
) -> None:
    called = planned(monkeypatch, count)

    found = launched(place)

    assert found is not None
    assert found.shape == (3, 16)
    assert called == [taken]


def test_where_nothing_is_proposed_nothing_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    called = planned(monkeypatch, 0)

    assert launched(0) is None
    assert called == []
