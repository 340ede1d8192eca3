"""A depthwise convolution and the one that reads it in one kernel, in Triton's interpreter, against float64."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

if torch.cuda.is_available():
    pytest.skip("tests/gpu runs it on the device", allow_module_level=True)

from tamago.backends.triton.kernels import separable as kernels
from tamago.backends.triton.launch.separable import launch_separable
from tamago.backends.triton.library.convolution import outputs_last, slid
from tamago.backends.triton.library.separable import separated

TOLERANCE = {torch.float16: 2e-3, torch.float32: 2e-6}  # of the largest result


@pytest.fixture(autouse=True)
def interpreting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


@dataclass(frozen=True)
class Shape:
    """The geometry of a depthwise convolution, and the channels of the result."""

    x: tuple[int, int, int, int]
    out: int
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)

    def __str__(self) -> str:
        return "-".join("x".join(map(str, t)) for t in (self.x, (self.out,), self.kernel, self.strides, self.pads))


SHAPES = (
    Shape((2, 40, 5, 7), 24),
    Shape((1, 24, 6, 5), 33, strides=(2, 2), pads=(0, 0, 1, 1)),
    Shape((3, 18, 3, 4), 16, kernel=(5, 3), strides=(1, 2), pads=(2, 0, 1, 2)),
    Shape((1, 16, 4, 4), 40, pads=(0, 0, 0, 0)),
)
SETTINGS = (
    (1, 1, 16, 32, 32, 2, 1, 4, 1),
    (2, 1, 32, 16, 16, 1, 2, 4, 1),
    (2, 2, 16, 16, 32, 1, 1, 4, 1),
    (4, 1, 16, 64, 64, 1, 1, 8, 2),
)


def operands(shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, depthwise weight and bias, pointwise weight and bias, and something to add."""
    generator = torch.Generator().manual_seed(0)

    def draw(*of: int, size: float = 1.0) -> Tensor:
        return (size * torch.randn(of, generator=generator)).to(dtype)

    channels = shape.x[1]
    sizes = slid(shape.x[2:], shape.kernel, shape.strides, shape.pads)
    deep = draw(channels, 1, *shape.kernel, size=0.5), draw(channels)
    point = draw(shape.out, channels, 1, 1, size=channels**-0.5), draw(shape.out)
    return draw(*shape.x, size=2.0), *deep, *point, draw(shape.x[0], shape.out, *sizes)


def doubled(
    x: Tensor, w: Tensor, bias: Tensor, v: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return x.double(), w.double(), bias.double(), v.double(), shift.double()


def check(found: Tensor, wanted: Tensor) -> None:
    """Equal up to rounding; what is wanted was computed in double precision."""
    assert found.shape == wanted.shape
    allowed = TOLERANCE[found.dtype] * float(wanted.abs().max())
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=allowed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("candidate", SETTINGS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_what_torch_says(shape: Shape, candidate: tuple[int, ...], dtype: torch.dtype) -> None:
    x, w, bias, v, shift, residual = operands(shape, dtype)
    rest = shape.strides, shape.pads, "Relu6", "", "Relu"
    wanted = separated(*doubled(x, w, bias, v, shift), residual.double(), *rest)

    check(launch_separable(x, w, bias, v, shift, residual, *rest, candidate), wanted)


@pytest.mark.parametrize(("first", "activation"), [("", ""), ("Silu", "Silu"), ("HardSwish", "Relu6")])
def test_its_activations_are_those_that_are_asked_for(first: str, activation: str) -> None:
    x, w, bias, v, shift, _ = operands(SHAPES[0], torch.float16)
    rest = (1, 1), (1, 1, 1, 1), first, activation, ""
    wanted = separated(*doubled(x, w, bias, v, shift), None, *rest)

    for laid in (x, x.contiguous(memory_format=torch.channels_last)):
        check(launch_separable(laid, outputs_last(w), bias, v, shift, None, *rest, SETTINGS[0]), wanted)


def test_what_lies_between_is_rounded_as_it_is_in_memory() -> None:
    """One channel, passed through twice: 1 + 2⁻¹¹ is no half, and 2048 times it shows."""
    x, one, none = torch.full((1, 1, 4, 4), 0.5).half(), torch.ones(1, 1, 1, 1).half(), torch.zeros(1).half()
    w, bias = 2 * one, torch.full((1,), 2.0**-11).half()

    found = launch_separable(x, w, bias, 2048 * one, none, None, (1, 1), (0,) * 4, "", "", "", SETTINGS[0])

    assert bool((found == 2048).all())  # and not 2049, rounded to 2048 or 2050


@pytest.mark.parametrize("candidate", SETTINGS, ids=str)
def test_programs_past_the_end_write_nothing(candidate: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The last rectangles of a grid lie beyond the last picture, and beyond its edges."""
    shape = Shape((1, 16, 3, 5), 8)
    x, w, bias, v, shift, _ = operands(shape, torch.float16)
    room = torch.full((4, 8, 3, 5), 7.0).half().contiguous(memory_format=torch.channels_last)
    empty = torch.empty

    def first_picture(size: object, **options: object) -> Tensor:
        return room[:1] if size == (1, 8, 3, 5) else empty(size, **options)  # pyright: ignore[reportArgumentType, reportCallIssue]

    monkeypatch.setattr(torch, "empty", first_picture)
    launch_separable(x, w, bias, v, shift, None, (1, 1), (1, 1, 1, 1), "", "", "", candidate)

    assert bool((room[1:] == 7).all())
    assert not bool((room[:1] == 7).all())


@pytest.mark.parametrize(
    ("size", "out", "channels", "stride"),
    [((64, 112, 112), 16, 32, 1), ((64, 28, 28), 32, 144, 2), ((64, 7, 7), 320, 960, 1), ((1, 7, 7), 160, 960, 1)],
)
def test_there_are_a_few_candidates_and_each_is_another(
    size: tuple[int, int, int], out: int, channels: int, stride: int
) -> None:
    found = kernels.candidates(size, out, channels, (3, 3), (stride, stride))

    assert 0 < len(found) <= kernels.MOST_CANDIDATES
    assert len(set(found)) == len(found)


def test_parts_are_no_more_than_their_places_can_be_counted() -> None:
    pictures, side, out = 64, 224, 512

    found = kernels.candidates((pictures, side, side), out, 512, (3, 3), (1, 1))

    assert found
    assert all(pictures * side * side * out * split < 1 << 31 for *_, split, _, _ in found)


def test_a_large_kernel_is_not_written_out_many_times() -> None:
    found = kernels.candidates((8, 28, 28), 32, 64, (5, 5), (1, 1))

    assert found
    assert all(25 * right * down <= kernels.LARGEST for right, down, *_ in found)
