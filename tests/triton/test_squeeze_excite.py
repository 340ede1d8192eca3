"""Squeeze-and-excitation and means over pixels, in Triton's interpreter, against what torch computes in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

if torch.cuda.is_available():
    pytest.skip("tests/gpu runs it on the device", allow_module_level=True)

from tamago.backends.triton.kernels import squeeze_excite as kernels
from tamago.backends.triton.kernels.squeeze_excite import candidates
from tamago.backends.triton.launch import squeeze as launch_module
from tamago.backends.triton.launch.squeeze import fits, launch_mean_pixels, launch_squeeze_excite
from tamago.backends.triton.library.convolution import outputs_last
from tamago.backends.triton.library.squeeze import WIDEST, excited
from tamago.compiler.operators.squeeze_excite import KINDS, Kind
from tests.triton.guarded import Guarded

Operands = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
TOLERANCE = {torch.float16: 1e-3, torch.float32: 2e-6}  # of the largest result
# Pixels, channels, slices, warps, launches.
CANDIDATES = ((8, 32, 1, 4, 1), (16, 64, 3, 4, 1), (8, 32, 5, 8, 1), (8, 32, 1, 4, 2), (16, 64, 3, 4, 2))
CASES = (
    *(((2, 40, 5, 7), 10, candidate) for candidate in CANDIDATES),
    ((1, 33, 9, 4), 3, CANDIDATES[1]),
    ((3, 100, 1, 3), 28, CANDIDATES[2]),  # slices of nothing
    ((1, 64, 7, 7), 1, CANDIDATES[0]),
)


@pytest.fixture(autouse=True)
def interpreting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def operands(shape: tuple[int, ...], squeezed: int, dtype: torch.dtype = torch.float16) -> Operands:
    """Pictures far from zero, and both layers."""
    generator, channels = torch.Generator().manual_seed(0), shape[1]

    def draw(*of: int, fan: int = 1) -> Tensor:
        return (torch.randn(of, generator=generator) * fan**-0.5).to(dtype)

    first = draw(squeezed, channels, 1, 1, fan=channels), draw(squeezed)
    weights = *first, draw(channels, squeezed, 1, 1, fan=squeezed), draw(channels)
    return (draw(*shape) + 1, *weights)


def doubled(given: Operands) -> Operands:
    x, w, b, v, c = given
    return x.double(), w.double(), b.double(), v.double(), c.double()


def check(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    atol = TOLERANCE[found.dtype] * float(wanted.abs().max())
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("shape", "squeezed", "candidate"), CASES)
def test_channels_are_weighed_as_torch_says(
    shape: tuple[int, ...], squeezed: int, candidate: tuple[int, ...], dtype: torch.dtype
) -> None:
    x, w, b, v, c = operands(shape, squeezed, dtype)
    wanted = excited(*doubled((x, w, b, v, c)), "Silu", "Sigmoid")

    for laid, second in ((x, v), (x.contiguous(memory_format=torch.channels_last), outputs_last(v))):
        check(launch_squeeze_excite(laid, w, b, second, c, "Silu", "Sigmoid", candidate), wanted)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_activation_and_gate(kind: Kind) -> None:
    given = operands((2, 40, 3, 3), 6, torch.float32)
    wanted = excited(*doubled(given), kind.activation, kind.gate)

    check(launch_squeeze_excite(*given, kind.activation, kind.gate, CANDIDATES[0]), wanted)


def test_a_wide_result_is_made_in_several_parts() -> None:
    given = operands((1, 300, 2, 2), 130, torch.float32)  # 256 wide, so 32 channels at once
    wanted = excited(*doubled(given), "Relu", "Sigmoid")

    check(launch_squeeze_excite(*given, "Relu", "Sigmoid", (8, 32, 1, 4, 1)), wanted)


def test_programs_of_the_second_launch_make_more_where_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    given = operands((2, 300, 2, 2), 100, torch.float32)
    wanted = excited(*doubled(given), "Relu", "Sigmoid")
    few = kernels.apart(2, 300, 128)
    monkeypatch.setattr(kernels, "PROCESSORS", 1)

    assert kernels.apart(2, 300, 128) == 2 * few
    check(launch_squeeze_excite(*given, "Relu", "Sigmoid", (8, 32, 1, 4, 2)), wanted)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("shape", "candidate"), [(shape, candidate) for shape, _, candidate in CASES])
def test_means_are_what_torch_says(shape: tuple[int, ...], candidate: tuple[int, ...], dtype: torch.dtype) -> None:
    x = operands(shape, 1, dtype)[0]

    for keep in (True, False):
        check(launch_mean_pixels(x, keep, candidate), x.double().mean((2, 3), keep))


def test_a_mean_of_many_large_halves_is_finite() -> None:
    """Their sum is none; and what is not finite is seen in its own channel alone."""
    x = torch.full((1, 32, 16, 16), 6e4, dtype=torch.float16)
    x[0, 3, 2, 2] = torch.nan

    found = launch_mean_pixels(x, False, (16, 32, 2, 4, 1))

    assert torch.isnan(found).nonzero().tolist() == [[0, 3]]
    assert torch.equal(found[0, 4:], x[0, 4:, 0, 0])


def test_counters_are_zero_again(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros: dict[int, Tensor] = {}

    def kept(device: torch.device, count: int) -> Tensor:
        return zeros.setdefault(count, torch.zeros(count, dtype=torch.int32, device=device))

    monkeypatch.setattr(launch_module, "counters", kept)
    given = operands((3, 40, 5, 7), 10)

    squeezed = [launch_squeeze_excite(*given, "Silu", "Sigmoid", CANDIDATES[2]) for _ in range(2)]
    means = [launch_mean_pixels(given[0], True, CANDIDATES[2]) for _ in range(2)]

    assert torch.equal(*squeezed)
    assert torch.equal(*means)
    assert sorted(zeros) == [3, 6]  # pictures; and two blocks of channels of each
    assert not any(bool(t.any()) for t in zeros.values())


def test_nothing_is_written_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    given = operands((2, 33, 5, 3), 3)
    room = Guarded(monkeypatch)

    launch_squeeze_excite(*given, "Silu", "Sigmoid", CANDIDATES[1])
    launch_mean_pixels(given[0], True, CANDIDATES[1])

    assert room.untouched()


def test_only_halves_of_some_size_are_for_the_kernels() -> None:
    x = operands((1, 8, 2, 2), 2)[0]

    assert fits(x)
    assert not fits(x.float())
    assert not fits(x[:0])
    assert fits(x, WIDEST)
    assert not fits(x, WIDEST + 1)


@pytest.mark.parametrize("pictures", [1, 64])
@pytest.mark.parametrize(
    ("pixels", "channels", "squeezed"),
    [(12544, 32, 8), (784, 240, 10), (196, 672, 28), (49, 1152, 48), (49, 1280, 0), (1, 8, 2)],
)
def test_candidates_cover_a_picture_and_no_more(pictures: int, pixels: int, channels: int, squeezed: int) -> None:
    found = candidates(pictures, pixels, channels, squeezed)

    assert found
    assert len(set(found)) == len(found)
    for rows, block, slices, *_ in found:
        share = -(-pixels // slices)
        assert (slices - 1) * share < pixels
        assert rows < 2 * pixels or rows == 8
        assert block < 2 * channels or block == 32
    assert {launches for *_, launches in found} == ({1, 2} if squeezed else {1})


def test_a_single_large_picture_is_read_by_many_programs() -> None:
    assert all(slices * -(-32 // block) >= 64 for _, block, slices, *_ in candidates(1, 12544, 32, 8)[:4])
