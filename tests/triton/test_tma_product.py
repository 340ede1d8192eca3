"""The product whose tiles the copying engine fetches, in Triton's interpreter, against what torch computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

if torch.cuda.is_available():
    pytest.skip("tests/gpu runs it on the device", allow_module_level=True)

from tamago.backends.triton.jobs import AffineJob, ConvolutionJob
from tamago.backends.triton.kernels import tma_product as product
from tamago.backends.triton.launch import product as launch_product
from tamago.backends.triton.launch.product import launch_fetched_affine, launch_fetched_convolution
from tamago.backends.triton.library import convolution as library
from tamago.backends.triton.library.affine import multiplied
from tamago.compiler.operators.epilogue import EPILOGUES, Epilogue

TOLERANCE = {torch.float16: 2e-3, torch.float32: 5e-5}  # of the largest result; GELU's is that of halves
# Tile (rows, columns, inner), parts, stages, warps, programs: smaller tiles than are measured, which take seconds here.
SETTINGS = ((library.TMA, 32, 64, 16, 1, 3, 4, 1), (library.TMA, 16, 64, 32, 2, 3, 4, 2), (-1, 64, 128, 16, 4, 2, 4, 1))


@pytest.fixture(autouse=True)
def interpreting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def draw(seed: int, *shape: int, size: float = 1.0, dtype: torch.dtype = torch.float16) -> Tensor:
    return (size * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


def check(found: Tensor, wanted: Tensor) -> None:
    """Equal up to the rounding of what is stored; what is wanted was computed in double precision."""
    assert found.shape == wanted.shape
    tolerance = TOLERANCE[found.dtype] * float(wanted.abs().max())
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=tolerance)


def has_it(device: torch.device) -> bool:
    del device
    return True


def doubled(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.double()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("candidate", SETTINGS, ids=str)
@pytest.mark.parametrize(("rows", "n", "k"), [(83, 40, 56), (64, 128, 16), (1, 8, 8), (130, 136, 40)])
def test_sizes_need_be_no_multiples_of_a_tile(
    rows: int, n: int, k: int, candidate: tuple[int, ...], dtype: torch.dtype
) -> None:
    x, w = draw(0, rows, k, dtype=dtype), draw(1, n, k, size=k**-0.5, dtype=dtype)
    bias, residual = draw(2, n, dtype=dtype), draw(3, rows, n, dtype=dtype)
    wanted = multiplied(x.double(), w.double(), bias.double(), residual.double(), "", "Relu")

    check(launch_fetched_affine(x, w, bias, residual, "", "Relu", candidate), wanted)


@pytest.mark.parametrize("epilogue", EPILOGUES, ids=lambda e: e.name or "plain")
def test_all_that_is_done_to_it(epilogue: Epilogue) -> None:
    x, w, bias = draw(0, 3, 9, 40, size=2), draw(1, 72, 40, size=0.3), draw(2, 72)
    residual = draw(3, 3, 9, 72) if epilogue.residual else None
    rest = epilogue.activation, epilogue.after
    wanted = multiplied(x.double(), w.double(), bias.double(), doubled(residual), *rest)

    for candidate in SETTINGS[1:]:
        check(launch_fetched_affine(x, w, bias, residual, *rest, candidate), wanted)


@pytest.mark.parametrize("processors", [1, 3])
def test_a_program_walks_many_tiles(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows of tiles than a group has, and each tile made once, by whoever walks there."""
    monkeypatch.setattr(launch_product, "PROCESSORS", processors)
    x, w, bias = draw(0, 300, 16), draw(1, 136, 16, size=0.25), draw(2, 136)

    found = launch_fetched_affine(x, w, bias, None, "Relu", "", SETTINGS[0])

    check(found, multiplied(x.double(), w.double(), bias.double(), None, "Relu", ""))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_convolution_of_one_tap_is_a_product_of_its_pixels(layout: torch.memory_format) -> None:
    x, w, bias = draw(0, 2, 24, 5, 7).contiguous(memory_format=layout), draw(1, 40, 24, 1, 1, size=0.2), draw(2, 40)
    residual = draw(3, 1, 40, 5, 7)
    geometry = (1, 1), (0, 0, 0, 0)
    wanted = library.convolved(x.double(), w.double(), bias.double(), None, residual.double(), *geometry, "Silu", "")

    found = launch_fetched_convolution(x, w, bias, residual, "Silu", "", SETTINGS[0])

    check(found, wanted)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_operands_that_lie_where_the_engine_cannot_fetch_them_are_copied() -> None:
    room, more = draw(0, 33 * 24 + 1), draw(1, 40 * 24 + 1, size=0.2)
    x, w, bias = room[1:].view(33, 24), more[1:].view(40, 24), draw(2, 40)
    assert x.is_contiguous()
    assert x.data_ptr() % launch_product.BYTES

    found = launch_fetched_affine(x, w, bias, None, "", "", SETTINGS[0])

    check(found, multiplied(x.double(), w.double(), bias.double(), None, "", ""))


def test_nothing_is_written_beyond_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    room = torch.full((64, 64), 7.0).half()

    def within(*size: object, **of: object) -> Tensor:
        del size, of
        return room.view(-1)[: 17 * 40].view(17, 40)

    monkeypatch.setattr(torch, "empty", within)
    x, w, bias = draw(0, 17, 16), draw(1, 40, 16), draw(2, 40)

    launch_fetched_affine(x, w, bias, None, "", "", SETTINGS[2])

    assert bool((room.view(-1)[17 * 40 :] == 7).all())


@pytest.mark.parametrize(("n", "k"), [(36, 64), (64, 36)])
def test_rows_that_are_no_multiple_of_sixteen_bytes_are_for_others(n: int, k: int) -> None:
    assert product.takes(9, 64, 64)
    assert not product.takes(9, n, k)
    assert product.candidates(1 << 24, n, k, residual=False) == []


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("rows", "n", "k"), [(12608, 1536, 384), (3136, 3072, 768), (12608, 384, 1536)])
def test_there_are_a_few_candidates_and_they_fit_a_processor(rows: int, n: int, k: int, residual: bool) -> None:
    found = product.candidates(rows, n, k, residual=residual)

    assert 0 < len(found) <= product.MOST_CANDIDATES
    assert len(set(found)) == len(found)
    for candidate in found:
        *_, warps, programs = candidate
        assert programs * (product.shared(candidate, residual=residual) + product.KEPT) <= product.MEMORY
        assert programs * warps * 32 * product.registers(warps, programs) <= 65536


def test_small_products_have_none() -> None:
    assert product.candidates(197, 1536, 384, residual=False) == []


def test_a_device_without_the_engine_measures_none() -> None:
    affine = AffineJob(12608, 1536, 384, "float16", False, "Gelu", "")
    pointwise = ConvolutionJob(
        (64, 384, 14, 14), (1536, 384, 1, 1), (1, 1), (0, 0, 0, 0), "float16", False, False, "Gelu", "", False
    )

    assert all(c[0] != library.TMA for job in (affine, pointwise) for c in job.candidates())


@pytest.mark.parametrize(
    ("x", "w", "strides", "pads", "scaled", "first", "any_is"),
    [
        ((64, 384, 14, 14), (1536, 384, 1, 1), (1, 1), (0, 0, 0, 0), False, False, True),
        ((64, 384, 14, 14), (1536, 384, 1, 1), (1, 1), (0, 0, 0, 0), True, False, False),
        ((64, 384, 14, 14), (1536, 384, 1, 1), (1, 1), (0, 0, 0, 0), False, True, False),
        ((64, 384, 28, 28), (1536, 384, 1, 1), (2, 2), (0, 0, 0, 0), False, False, False),
        ((64, 384, 14, 14), (1536, 384, 1, 1), (1, 1), (0, 0, 1, 1), False, False, False),
        ((64, 384, 14, 14), (384, 384, 3, 3), (1, 1), (1, 1, 1, 1), False, False, False),
    ],
)
def test_on_one_that_has_it_only_products_of_pixels_do(
    x: tuple[int, ...],
    w: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    scaled: bool,
    first: bool,
    any_is: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launch_product, "hopper", has_it)
    job = ConvolutionJob(x, w, strides, pads, "float16", scaled, False, "", "", first)

    assert any(c[0] == library.TMA for c in job.candidates()) is any_is
    assert any(c[0] == library.TMA for c in AffineJob(12608, 384, 1536, "float16", True, "", "").candidates())
