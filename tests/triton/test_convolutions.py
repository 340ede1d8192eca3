"""The kernels of convolutions and of products of many rows, in Triton's interpreter, against what torch computes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

if torch.cuda.is_available():
    pytest.skip("tests/gpu runs them on the device", allow_module_level=True)

from tamago.backends.triton.jobs import DepthwiseJob
from tamago.backends.triton.kernels import convolution, depthwise_settings, sliding_settings
from tamago.backends.triton.kernels.depthwise_walks import AHEAD, IN_TURN, SLIDING, SLIDING_AHEAD
from tamago.backends.triton.launch.convolution import fits, launch_affine, launch_convolution
from tamago.backends.triton.launch.depthwise import launch_depthwise, launch_depthwise_then_norm
from tamago.backends.triton.library import convolution as library
from tamago.backends.triton.library.affine import multiplied
from tamago.compiler.operators.epilogue import EPILOGUES
from tests.triton.guarded import Guarded

TOLERANCE = 2e-3  # of the largest result: the kernels' operands and results are halves


@pytest.fixture(autouse=True)
def interpreting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def draw(seed: int, *shape: int, size: float = 1.0) -> Tensor:
    return (size * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).half()


def check(found: Tensor, wanted: Tensor) -> None:
    """Equal up to the rounding of halves; what is wanted was computed in double precision."""
    assert found.shape == wanted.shape
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=TOLERANCE * float(wanted.abs().max()))


def doubled(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.double()


@dataclass(frozen=True)
class Shape:
    """A convolution's geometry."""

    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __str__(self) -> str:
        return "-".join("x".join(map(str, t)) for t in (self.x, self.w, self.strides, self.pads))


SHAPES = (
    Shape((2, 40, 3, 4), (24, 40, 1, 1)),
    Shape((1, 16, 5, 4), (33, 16, 3, 3), pads=(1, 1, 1, 1)),
    Shape((2, 3, 5, 6), (16, 3, 3, 3), (2, 2), (0, 0, 1, 1)),
    Shape((1, 18, 5, 4), (18, 18, 5, 3), (2, 1), (2, 0, 1, 2)),
    Shape((1, 16, 4, 5), (16, 16, 1, 1), pads=(0, 0, 1, 1)),
)
CANDIDATES = ((16, 32, 16, 1, 4, 3), (32, 16, 32, 2, 4, 3), (64, 64, 16, 4, 4, 3))


@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_convolution_is_what_torch_says(shape: Shape, candidate: tuple[int, ...]) -> None:
    x, w = draw(0, *shape.x), draw(1, *shape.w, size=0.1)
    geometry = shape.strides, shape.pads
    bias = draw(2, shape.w[0])
    wanted = library.convolved(x.double(), w.double(), bias.double(), None, None, *geometry, "", "")
    residual = draw(3, *wanted.shape)
    both = library.convolved(x.double(), w.double(), bias.double(), None, residual.double(), *geometry, "", "Relu")

    for layout in (torch.contiguous_format, torch.channels_last):
        laid = x.contiguous(memory_format=layout)
        check(launch_convolution(laid, w, bias, None, None, *geometry, "", "", candidate), wanted)
        check(launch_convolution(laid, w, bias, None, residual, *geometry, "", "Relu", candidate), both)


def test_a_view_with_gaps_is_read_as_what_it_holds() -> None:
    x, w, bias = draw(0, 2, 40, 5, 6)[:, 4:24, 1:4], draw(1, 8, 20, 1, 1), draw(2, 8)
    geometry = (1, 1), (0, 0, 0, 0)

    found = launch_convolution(x, w, bias, None, None, *geometry, "", "", CANDIDATES[0])

    check(found, library.convolved(x.double(), w.double(), bias.double(), None, None, *geometry, "", ""))


@pytest.mark.parametrize("split", [1, 2])
def test_weighed_channels_are_weighed(split: int) -> None:
    x, w, bias, scale = draw(0, 3, 40, 4, 3), draw(1, 24, 40, 1, 1), draw(2, 24), draw(3, 3, 40, 1, 1)
    geometry = (1, 1), (0, 0, 0, 0)
    wanted = library.convolved(x.double(), w.double(), bias.double(), scale.double(), None, *geometry, "", "")

    check(launch_convolution(x, w, bias, scale, None, *geometry, "", "", (16, 16, 16, split, 4, 3)), wanted)


@pytest.mark.parametrize("epilogue", EPILOGUES, ids=lambda e: e.name or "plain")
def test_a_product_of_many_rows_with_all_that_is_done_to_it(epilogue: object) -> None:
    from tamago.compiler.operators.epilogue import Epilogue

    assert isinstance(epilogue, Epilogue)
    x, w, bias = draw(0, 2, 9, 36, size=2), draw(1, 20, 36, size=0.3), draw(2, 20)
    residual = draw(3, 2, 9, 20) if epilogue.residual else None
    rest = epilogue.activation, epilogue.after
    wanted = multiplied(x.double(), w.double(), bias.double(), doubled(residual), *rest)

    for candidate in CANDIDATES[:2]:
        check(launch_affine(x, w, bias, residual, *rest, candidate), wanted)


DEPTHWISE = (
    Shape((2, 24, 3, 5), (24, 1, 7, 7), pads=(3, 3, 3, 3)),
    Shape((1, 40, 6, 5), (40, 1, 3, 3), (2, 2), (0, 0, 1, 1)),
    Shape((1, 96, 2, 3), (96, 1, 5, 3), (1, 2), (2, 1, 2, 1)),
)
SETTINGS = ((1, 1, 4, 32, 4, 0), (4, 1, 2, 64, 4, 1), (2, 2, 1, 32, 1, 2), (2, 2, 2, 16, 1, 0), (2, 1, 1, 32, 1, 3))


@pytest.mark.parametrize("candidate", SETTINGS, ids=str)
@pytest.mark.parametrize("shape", DEPTHWISE, ids=str)
def test_a_depthwise_convolution_is_what_torch_says(shape: Shape, candidate: tuple[int, ...]) -> None:
    x, w, bias = draw(0, *shape.x, size=2), draw(1, *shape.w, size=0.3), draw(2, shape.w[0])
    geometry = shape.strides, shape.pads
    operands = x.double(), w.double(), bias.double()

    found = launch_depthwise(x, w, bias, [], 0.0, *geometry, "Relu6", candidate)
    check(found, library.convolved_by_channel(*operands, [], 0.0, *geometry, "Relu6"))
    if shape.w[2] == 7:  # the largest takes the interpreter seconds, and the others show how weights may lie
        return
    found = launch_depthwise(x, library.outputs_last(w), bias, [], 0.0, *geometry, "Silu", candidate)
    check(found, library.convolved_by_channel(*operands, [], 0.0, *geometry, "Silu"))


@pytest.mark.parametrize("candidate", SETTINGS, ids=str)
@pytest.mark.parametrize("shape", DEPTHWISE, ids=str)
def test_its_channels_are_normalised(shape: Shape, candidate: tuple[int, ...]) -> None:
    x, w, bias = draw(0, *shape.x, size=2), draw(1, *shape.w, size=0.3), draw(2, shape.w[0])
    norm = [1 + draw(3, shape.w[0], size=0.2), draw(4, shape.w[0])]
    geometry = shape.strides, shape.pads
    operands = x.double(), w.double(), bias.double(), [t.double() for t in norm]

    found = launch_depthwise(x, w, bias, norm, 1e-3, *geometry, "", candidate)

    check(found, library.convolved_by_channel(*operands, 1e-3, *geometry, ""))
    if shape.w[2] == 7:  # as above
        return
    found = launch_depthwise_then_norm(x, w, bias, norm, 1e-3, *geometry, candidate, (1, 4))

    check(found, library.convolved_by_channel(*operands, 1e-3, *geometry, ""))


def test_programs_past_the_end_write_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last runs of a grid lie beyond the last picture."""
    x, w, bias = draw(0, 1, 32, 3, 3), draw(1, 32, 1, 3, 3), draw(2, 32)
    room = Guarded(monkeypatch)

    launch_depthwise(x, w, bias, [], 0.0, (1, 1), (1, 1, 1, 1), "", (2, 1, 8, 32, 4, 0))

    assert room.untouched()


@pytest.mark.parametrize("name", ["Gelu", "Relu", "Relu6"])
def test_activations_far_out_are_what_they_should_be(name: str) -> None:
    x = torch.tensor([[-6e4, -100.0, -4.5, -1.0, 0.0, 1.0, 4.5, 100.0, 6e4]]).half().repeat(16, 1)
    w, bias = torch.eye(9).half(), torch.zeros(9).half()

    found = launch_affine(x, w, bias, None, name, "", CANDIDATES[0])

    wanted = library.ACTIVATIONS[name](x.double())
    torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=5e-5)


def test_rectifying_what_is_no_number_gives_no_number() -> None:
    x, w = torch.full((16, 16), float("nan")).half(), torch.eye(16).half()

    for name in ("Relu", "Relu6"):
        assert bool(launch_affine(x, w, torch.zeros(16).half(), None, name, "", CANDIDATES[0]).isnan().all())


def test_the_kernels_are_for_halves() -> None:
    x, w = draw(0, 1, 4, 3, 3), draw(1, 8, 4, 1, 1)

    assert fits(x, w, 72)
    assert not fits(x, w, 1 << 31)
    assert not fits(x.float(), w.float(), 72)
    assert not fits(x, w.float(), 72)


@pytest.mark.parametrize(
    ("pixels", "out", "channels", "taps"), [(49, 512, 512, 9), (200704, 96, 384, 1), (1, 10, 3, 9)]
)
def test_there_are_a_few_candidates_and_each_is_another(pixels: int, out: int, channels: int, taps: int) -> None:
    found = convolution.candidates(pixels, out, channels, taps, residual=True)

    assert 0 < len(found) <= convolution.MOST_CANDIDATES
    assert len(set(found)) == len(found)
    assert all(6 * (rows + columns) * inner <= convolution.SHARED for rows, columns, inner, *_ in found)


def test_parts_are_no_more_than_their_places_can_be_counted() -> None:
    pixels, out = 64 * 224 * 224, 512

    found = convolution.candidates(pixels, out, 512, 9, residual=False)

    assert found
    assert all(pixels * out * split < 1 << 31 for *_, split, _, _ in found)


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize(("pixels", "side", "channels"), [(200704, 56, 96), (49, 7, 768), (1, 1, 8)])
def test_so_are_there_for_depthwise_convolutions(pixels: int, side: int, channels: int, normed: bool) -> None:
    found = depthwise_settings.candidates(pixels, side, side, channels, (7, 7), (1, 1), normed=normed)

    assert len(found) <= depthwise_settings.MOST_CANDIDATES
    assert len(set(found)) == len(found)
    assert found or channels < 32


@pytest.mark.parametrize("normed", [False, True])
def test_a_norm_may_be_a_launch_of_its_own(normed: bool) -> None:
    job = DepthwiseJob((1, 768, 7, 7), (7, 7), (1, 1), (3, 3, 3, 3), "float16", normed, "")
    first, *found = job.candidates()

    assert first[0] == library.LIBRARY
    sizes = {len(c) for c in found}
    assert sizes == ({library.DEPTHWISE_SETTINGS, library.DEPTHWISE_SETTINGS + 2} if normed else {len(first)})


@pytest.mark.parametrize(("pictures", "waits"), [(1, False), (64, True)])
def test_few_results_read_all_lines_at_once_and_many_one_after_the_other(pictures: int, waits: bool) -> None:
    first, *_ = depthwise_settings.candidates(pictures * 28 * 28, 28, 28, 192, (7, 7), (1, 1), normed=True)

    assert (first[-1] in (IN_TURN, AHEAD)) is waits


# Channels, rows and columns that are no multiples of a program's, kernels larger than the picture, padding that alone
# makes rows of the result, and strides larger than the kernel.
SLID = (
    (Shape((1, 24, 4, 6), (24, 1, 3, 3), pads=(1, 1, 1, 1)), (4, 4, 2, 32, 1)),
    (Shape((2, 24, 5, 6), (24, 1, 3, 3), pads=(1, 1, 1, 1)), (7, 3, 8, 16, 2)),
    (Shape((1, 16, 9, 6), (16, 1, 3, 3), (2, 2), (0, 0, 1, 1)), (2, 4, 2, 16, 1)),
    (Shape((1, 16, 9, 6), (16, 1, 3, 3), (2, 2), (0, 0, 1, 1)), (4, 3, 2, 16, 1)),
    (Shape((1, 16, 2, 3), (16, 1, 7, 5), pads=(3, 2, 3, 2)), (2, 2, 2, 16, 1)),
    (Shape((1, 16, 3, 4), (16, 1, 2, 3), (1, 3), (5, 0, 4, 4)), (4, 11, 1, 16, 1)),
    (Shape((2, 16, 6, 5), (16, 1, 1, 2), (3, 2), (1, 0, 0, 1)), (2, 3, 4, 16, 1)),
    (Shape((1, 16, 8, 4), (16, 1, 5, 4), (2, 1), (2, 1, 2, 2)), (4, 4, 2, 16, 1)),
)


@pytest.mark.parametrize("walk", [SLIDING, SLIDING_AHEAD])
@pytest.mark.parametrize(("shape", "settings"), SLID, ids=str)
def test_a_program_may_slide_down_a_strip(
    shape: Shape, settings: tuple[int, ...], walk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In half and in single precision, where nothing hides behind rounding; and nothing is written beyond."""
    x, w, bias = draw(0, *shape.x, size=2), draw(1, *shape.w, size=0.3), draw(2, shape.w[0])
    geometry = shape.strides, shape.pads
    wanted = library.convolved_by_channel(x.double(), w.double(), bias.double(), [], 0.0, *geometry, "Silu")
    room = Guarded(monkeypatch)

    found = launch_depthwise(x, w, bias, [], 0.0, *geometry, "Silu", (*settings, walk))
    exact = launch_depthwise(x.float(), w.float(), bias.float(), [], 0.0, *geometry, "Silu", (*settings, walk))

    check(found, wanted)
    torch.testing.assert_close(exact.double(), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
    assert room.untouched()


def test_what_slides_has_a_norm_of_its_own() -> None:
    x, w, bias = draw(0, 1, 24, 4, 5, size=2), draw(1, 24, 1, 3, 3, size=0.3), draw(2, 24)
    norm = [1 + draw(3, 24, size=0.2), draw(4, 24)]
    geometry = (1, 1), (1, 1, 1, 1)
    operands = x.double(), w.double(), bias.double(), [t.double() for t in norm]

    found = launch_depthwise_then_norm(x, w, bias, norm, 1e-3, *geometry, (4, 4, 1, 32, 1, SLIDING), (1, 4))

    check(found, library.convolved_by_channel(*operands, 1e-3, *geometry, ""))


# Those of ConvNeXt-T, EfficientNet-B0 and MobileNetV2: width of the result, channels, kernel, stride.
NETWORKS = (
    *((56, 96, 7, 1), (28, 192, 7, 1), (14, 384, 7, 1), (7, 768, 7, 1)),
    *((112, 32, 3, 1), (56, 96, 3, 2), (56, 144, 3, 1), (28, 144, 5, 2), (28, 240, 5, 1), (14, 240, 3, 2)),
    *((14, 480, 3, 1), (14, 672, 5, 1), (7, 672, 5, 2), (7, 1152, 5, 1), (7, 960, 3, 1)),
)


def settings_of(pictures: int, side: int, channels: int, taps: int, stride: int, *, normed: bool = False) -> list[int]:
    """The walk of each candidate."""
    sizes = pictures * side * side, side, side, channels, (taps, taps), (stride, stride)
    return [walk for *_, walk in depthwise_settings.candidates(*sizes, normed=normed)]


@pytest.mark.parametrize(("side", "channels", "taps", "stride"), NETWORKS)
def test_many_results_are_slid_to_and_few_are_not(side: int, channels: int, taps: int, stride: int) -> None:
    many, few = (settings_of(n, side, channels, taps, stride) for n in (64, 1))

    assert many[0] >= SLIDING
    assert sum(walk >= SLIDING for walk in many) <= sliding_settings.MOST_SETTINGS
    assert sum(walk < SLIDING for walk in many[:8]) >= 2  # of the first few too, whose norm is a launch of its own
    assert all(walk < SLIDING for walk in few[:8])
    assert all(walk < SLIDING for walk in settings_of(64, side, channels, taps, stride, normed=True))


@pytest.mark.parametrize(("side", "channels", "taps", "stride"), NETWORKS)
def test_no_program_slides_that_has_no_room_for_its_sums_and_taps(
    side: int, channels: int, taps: int, stride: int
) -> None:
    sizes = 64 * side * side, side, side, channels, (taps, taps), (stride, stride)
    found = [c for _, c in sliding_settings.ranked(*sizes, summed=True)]

    assert found
    assert len({(c[0], c[1]) for c in found}) > 1
    for candidate in found:
        right, down, runs, block, warps, _ = candidate
        vector = runs * block // (32 * warps)
        assert vector * (-(-taps // stride) * right + taps**2) < sliding_settings.MOST_REGISTERS
        assert right <= side
        assert down <= side
    assert sliding_settings.ranked(*sizes[:4], (16, 16), (1, 1), summed=True) == []
