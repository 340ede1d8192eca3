"""Depthwise convolutions that leave their sums, and the squeeze of these, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

if torch.cuda.is_available():
    pytest.skip("tests/gpu runs it on the device", allow_module_level=True)

from tamago.backends.triton.launch.depthwise import launch_depthwise_squeeze
from tamago.backends.triton.library.depthwise_squeeze import weighed
from tests.triton.guarded import Guarded

# Right, down, runs, channels, warps, how lines are read: rectangles that a picture holds no whole number of, too.
SETTINGS = (
    *((1, 1, 4, 32, 4, 0), (4, 1, 2, 64, 4, 1), (2, 2, 8, 16, 1, 0), (2, 2, 1, 32, 1, 2), (2, 1, 1, 32, 1, 3)),
    *((4, 2, 4, 32, 1, 4), (7, 5, 1, 64, 1, 5)),
)
TOLERANCE = 2e-3  # of the largest result


@pytest.fixture(autouse=True)
def interpreting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def operands(shape: tuple[int, ...], taps: int, squeezed: int) -> list[Tensor]:
    generator, channels = torch.Generator().manual_seed(0), shape[1]

    def draw(*of: int, fan: int = 1) -> Tensor:
        return (torch.randn(of, generator=generator) * fan**-0.5).half()

    first = draw(channels, 1, taps, taps, fan=taps**2), draw(channels) + 1
    layers = (
        draw(squeezed, channels, 1, 1, fan=channels),
        draw(squeezed),
        draw(channels, squeezed, 1, 1),
        draw(channels),
    )
    return [draw(*shape), *first, *layers]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(
    ("shape", "taps", "strides", "pads", "squeeze"),
    [
        ((2, 40, 5, 7), 3, (1, 1), (1, 1, 1, 1), (8, 32, 1, 4, 1)),
        ((3, 33, 6, 5), 3, (2, 2), (0, 0, 1, 1), (8, 32, 2, 4, 2)),
    ],
)
def test_both_results_are_what_torch_says(
    shape: tuple[int, ...],
    taps: int,
    strides: tuple[int, int],
    pads: tuple[int, ...],
    settings: tuple[int, ...],
    squeeze: tuple[int, ...],
) -> None:
    x, w, bias, v, c, u, d = operands(shape, taps, 6)
    rest = strides, pads, "Silu", "Silu", "Sigmoid"
    first = x.double(), w.double(), bias.double()
    wanted = weighed(*first, v.double(), c.double(), u.double(), d.double(), *rest)

    found = launch_depthwise_squeeze(x, w, bias, v, c, u, d, *rest, settings, squeeze)

    for y, y0 in zip(found, wanted, strict=True):
        assert y.shape == y0.shape
        torch.testing.assert_close(y.double(), y0, rtol=0, atol=TOLERANCE * float(y0.abs().max()))


@pytest.mark.parametrize("settings", [SETTINGS[2], SETTINGS[5]])
def test_nothing_is_written_beyond(settings: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, bias, v, c, u, d = operands((2, 33, 5, 3), 3, 3)
    room = Guarded(monkeypatch)

    launch_depthwise_squeeze(
        x, w, bias, v, c, u, d, (1, 1), (1, 1, 1, 1), "Relu", "Relu", "HardSigmoid", settings, (8, 32, 2, 4, 2)
    )

    assert room.untouched()
