"""The kernel that normalises rows, in Triton's interpreter, against float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

if torch.cuda.is_available():
    pytest.skip("tests/gpu runs them on the device", allow_module_level=True)

from tamago.backends.triton.kernels import layer_norm
from tamago.backends.triton.launch.norm import fits, launch_layer_norm
from tamago.backends.triton.library import norm as library
from tests.triton.guarded import Guarded

EPSILON = 1e-3
TOLERANCE = 1e-3  # of the largest result: two roundings of halves


@pytest.fixture(autouse=True)
def interpreting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def draw(seed: int, *shape: int) -> Tensor:
    """Far from zero: the variance is that of what is centred, not of what is read."""
    return (20 + torch.randn(shape, generator=torch.Generator().manual_seed(seed))).half()


def check(found: Tensor, wanted: Tensor) -> None:
    """Equal up to the rounding of halves; what is wanted was computed in double precision."""
    assert found.shape == wanted.shape
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=TOLERANCE * float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("rows", "candidate"), [(1, (1, 1)), (1, (4, 2)), (5, (1, 1)), (197, (16, 4)), (196, (32, 8))], ids=str
)
@pytest.mark.parametrize("length", [1, 96, 384, 519])
def test_rows_are_normalised(rows: int, length: int, candidate: tuple[int, int]) -> None:
    x, scale, shift = draw(0, rows, length), draw(1, length), draw(2, length)
    wide = x.double(), scale.double()

    check(
        launch_layer_norm(x, scale, shift, EPSILON, True, candidate),
        library.normalised(*wide, shift.double(), EPSILON, True),
    )
    check(
        launch_layer_norm(x, scale, None, EPSILON, True, candidate),
        library.normalised(*wide, None, EPSILON, True),
    )
    check(
        launch_layer_norm(x, scale, None, EPSILON, False, candidate),
        library.normalised(*wide, None, EPSILON, False),
    )


def test_rows_of_pictures_that_lie_channels_last_are_read_where_they_are() -> None:
    x = draw(0, 1, 96, 14, 14).contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    scale, shift = draw(1, 96), draw(2, 96)

    found = launch_layer_norm(x, scale, shift, EPSILON, True, (8, 2))

    assert found.is_contiguous()
    check(found, library.normalised(x.double(), scale.double(), shift.double(), EPSILON, True))


def test_a_view_with_gaps_is_read_as_what_it_holds() -> None:
    x, scale = draw(0, 5, 7, 40)[:, 1:4, 3:30], draw(1, 27)

    check(
        launch_layer_norm(x, scale, None, EPSILON, True, (4, 1)),
        library.normalised(x.double(), scale.double(), None, EPSILON, True),
    )


def test_rows_past_the_end_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    x, scale, guarded = draw(0, 3, 64), draw(1, 64), Guarded(monkeypatch)

    launch_layer_norm(x, scale, None, EPSILON, True, (8, 2))

    assert guarded.untouched()


def test_the_kernel_is_for_halves_and_rows_that_fit() -> None:
    x, scale = draw(0, 2, 16), draw(1, 16)

    assert fits(x, scale)
    assert not fits(x.float(), scale.float())
    assert not fits(x, scale.float())
    assert not fits(x[:0], scale)
    assert not fits(torch.empty(1, layer_norm.LONGEST + 1).half(), scale)


@pytest.mark.parametrize(
    ("rows", "length"), [(12608, 384), (197, 384), (3136, 96), (1, 1), (1, layer_norm.LONGEST), (2, 519)]
)
def test_there_are_a_few_candidates_and_each_is_another(rows: int, length: int) -> None:
    found = layer_norm.candidates(rows, length)

    assert 0 < len(found) <= layer_norm.MOST_CANDIDATES
    assert len(set(found)) == len(found)
    assert all(many * length <= layer_norm.MOST * 32 * warps for many, warps in found)
