"""The kernel of two products with an activation between them, in Triton's interpreter, against double precision."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional

if torch.cuda.is_available():
    pytest.skip("tests/gpu runs them on the device", allow_module_level=True)

from tamago.backends.triton.counters import own_counters
from tamago.backends.triton.kernels import mlp
from tamago.backends.triton.launch.mlp import fits_mlp, launch_mlp
from tamago.backends.triton.launch.norm import launch_layer_norm
from tamago.backends.triton.library import mlp as library
from tests.triton.guarded import Guarded

HALF, SINGLE = (torch.float16, 2e-3), (torch.float32, 2e-4)  # and what of the largest result may be off
SIZES = (  # rows, inner, hidden, out
    (33, 96, 128, 96),
    (20, 24, 72, 24),
    (17, 64, 100, 40),
    (16, 12, 32, 65),
)
NORMED = ((33, 96, 128, 96), (20, 24, 72, 24), (18, 192, 64, 192), (17, 64, 100, 40))
EPSILON = 1e-3
CANDIDATES = ((16, 32, 1, 4, 3), (32, 32, 2, 4, 2), (16, 64, 2, 4, 2))


@pytest.fixture(autouse=True)
def interpreting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


Operands = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def drawn(rows: int, inner: int, hidden: int, out: int, dtype: torch.dtype) -> tuple[Operands, Tensor]:
    """Operands, and a residual."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, size: float = 1.0) -> Tensor:
        return (size * torch.randn(shape, generator=generator)).to(dtype)

    w, v = draw(hidden, inner, size=inner**-0.5), draw(out, hidden, size=hidden**-0.5)
    return (draw(rows, inner), w, draw(hidden), v, draw(out)), draw(rows, out)


def check(
    found: Tensor,
    operands: Operands,
    residual: Tensor | None,
    activation: str,
    tolerance: float,
    norm: Sequence[Tensor] = (),
) -> None:
    x, w, b, v, c = (t.double() for t in operands)
    more = None if residual is None else residual.double(), [t.double() for t in norm]
    wanted = library.apart(x, w, b, v, c, *more, EPSILON, activation)
    assert found.shape == wanted.shape
    assert found.dtype == operands[0].dtype
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=tolerance * float(wanted.abs().max()))


@pytest.mark.parametrize(("dtype", "tolerance"), [HALF, SINGLE], ids=["half", "single"])
@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_both_products_are_what_torch_says(
    sizes: tuple[int, int, int, int],
    candidate: tuple[int, ...],
    dtype: torch.dtype,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And nothing is written beyond the result."""
    operands, residual = drawn(*sizes, dtype)
    room = Guarded(monkeypatch)

    alone = launch_mlp(*operands, None, [], 0.0, "Gelu", candidate)
    summed = launch_mlp(*operands, residual, [], 0.0, "Relu", candidate)

    assert room.untouched()
    check(alone, operands, None, "Gelu", tolerance)
    check(summed, operands, residual, "Relu", tolerance)


@pytest.mark.parametrize("activation", ["Sigmoid", "GeluTanh", "Silu", "HardSwish", "Relu6"])
def test_units_beyond_the_last_count_for_nothing(activation: str) -> None:
    """Sigmoid(0) is not zero: it is the second matrix that has zeros there."""
    operands, residual = drawn(5, 16, 40, 16, torch.float16)

    found = launch_mlp(*operands, residual, [], 0.0, activation, CANDIDATES[0])

    check(found, operands, residual, activation, HALF[1])


def test_parts_are_added_up_in_one_order_and_counters_left_as_they_were() -> None:
    operands, residual = drawn(40, 24, 96, 48, torch.float16)

    with own_counters() as counters:
        found = [launch_mlp(*operands, residual, [], 0.0, "Gelu", (16, 32, 3, 4, 2)) for _ in range(2)]

    assert torch.equal(*found)
    assert [bool((c == 0).all()) for c in counters.values()] == [True]
    check(found[0], operands, residual, "Gelu", HALF[1])


def factors(inner: int, dtype: torch.dtype) -> list[Tensor]:
    """A norm's scale and shift."""
    generator = torch.Generator().manual_seed(1)
    return [(1 + torch.randn(inner, generator=generator)).to(dtype) for _ in range(2)]


@pytest.mark.parametrize(("dtype", "tolerance"), [HALF, SINGLE], ids=["half", "single"])
@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
@pytest.mark.parametrize("sizes", NORMED, ids=str)
def test_rows_are_normalised_ahead_of_both_products(
    sizes: tuple[int, int, int, int],
    candidate: tuple[int, ...],
    dtype: torch.dtype,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operands, residual = drawn(*sizes, dtype)
    norm = factors(sizes[1], dtype)
    room = Guarded(monkeypatch)

    alone = launch_mlp(*operands, None, norm, EPSILON, "Gelu", candidate)
    summed = launch_mlp(*operands, residual, norm, EPSILON, "Relu", candidate)

    assert room.untouched()
    check(alone, operands, None, "Gelu", tolerance, norm)
    check(summed, operands, residual, "Relu", tolerance, norm)


@pytest.mark.parametrize("inner", [96, 24, 192, 72])
def test_columns_that_only_fill_a_tile_count_for_nothing_in_the_variance(inner: int) -> None:
    """Far from zero, where one number that should not count would be most of it."""
    (x, w, b, v, c), residual = drawn(20, inner, 32, 16, torch.float32)
    operands, norm = (100 + x, w, b, v, c), factors(inner, torch.float32)

    found = launch_mlp(*operands, residual, norm, EPSILON, "Relu", CANDIDATES[0])

    check(found, operands, residual, "Relu", SINGLE[1], norm)


@pytest.mark.parametrize("inner", [96, 24])
def test_what_is_multiplied_was_rounded_as_by_the_norm_s_own_kernel(inner: int) -> None:
    (x, w, b, v, c), residual = drawn(24, inner, 64, 16, torch.float16)
    scale, shift = factors(inner, torch.float16)
    normalised = launch_layer_norm(x, scale, shift, EPSILON, True, (8, 2))

    found = launch_mlp(x, w, b, v, c, residual, [scale, shift], EPSILON, "Gelu", CANDIDATES[0])

    assert torch.equal(found, launch_mlp(normalised, w, b, v, c, residual, [], 0.0, "Gelu", CANDIDATES[0]))
    wanted = functional.layer_norm(x, [inner], scale, shift, EPSILON)
    torch.testing.assert_close(normalised, wanted, rtol=2e-3, atol=2e-3)


def test_rows_that_are_one_number_repeated_become_the_shift() -> None:
    (x, w, b, v, c), _ = drawn(16, 24, 32, 16, torch.float16)
    operands, norm = (torch.full_like(x, 3.0), w, b, v, c), factors(24, torch.float16)

    found = launch_mlp(*operands, None, norm, EPSILON, "Relu", CANDIDATES[0])

    check(found, operands, None, "Relu", HALF[1], norm)


def test_more_axes_and_views_are_read_as_what_they_hold() -> None:
    (x, w, b, v, c), residual = drawn(24, 32, 64, 16, torch.float16)
    turned = w.T.contiguous().T

    more = x.reshape(2, 3, 4, 32), turned, b, v, c, residual.reshape(2, 3, 4, 16)
    found = launch_mlp(*more, [], 0.0, "Gelu", CANDIDATES[1])

    assert found.shape == (2, 3, 4, 16)
    check(found.reshape(24, 16), (x, w, b, v, c), residual, "Gelu", HALF[1])


@pytest.mark.parametrize(
    ("width", "wanted"),
    [
        (320, (256, 64)),
        (96, (64, 32)),
        (192, (128, 64)),
        (384, (256, 128)),
        (768, (512, 256)),
        (80, (64, 16)),
        (64, (64, 0)),
        (1, (16, 0)),
        (24, (32, 0)),
        (112, (128, 0)),
        (65, (64, 16)),
    ],
)
def test_a_row_is_one_tile_or_two(width: int, wanted: tuple[int, int]) -> None:
    assert library.parts(width) == wanted


def test_the_kernel_is_for_halves_and_rows_that_registers_hold() -> None:
    (x, w, _, v, _), _ = drawn(2, 16, 32, 16, torch.float16)

    assert fits_mlp(x, w, v)
    assert not fits_mlp(x.float(), w.float(), v.float())
    assert not fits_mlp(x, w, v.float())
    assert not fits_mlp(x, w, torch.empty(768, 32).half())
    assert library.takes(384, 384)
    assert not library.takes(768, 768)


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize(
    ("rows", "inner", "hidden"),
    [(200704, 96, 384), (50176, 192, 768), (12544, 384, 1536), (3136, 96, 384), (49, 384, 1536), (2, 16, 32)],
)
def test_there_are_a_few_candidates_that_a_processor_holds(rows: int, inner: int, hidden: int, normed: bool) -> None:
    found = mlp.candidates(rows, inner, hidden, inner, normed=normed)

    assert 0 < len(found) <= mlp.MOST_CANDIDATES
    assert len(set(found)) == len(found)
    for _, block, split, *_ in found:  # each part has something to do
        blocks = -(-hidden // block)
        assert (split - 1) * -(-blocks // split) < blocks
    assert all(2 * (tile * inner + stages * block * 2 * inner) <= mlp.SHARED for tile, block, _, _, stages in found)
    if rows > 100_000:  # enough for all processors
        assert {split for _, _, split, *_ in found} == {1}


def test_rows_that_nothing_holds_have_none() -> None:
    assert mlp.candidates(3136, 4096, 4096, 4096) == []
