"""The product of few rows whose programs hold whole rows, in Triton's interpreter, against double precision."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

if torch.cuda.is_available():
    pytest.skip("tests/gpu runs them on the device", allow_module_level=True)

from tamago.backends.triton.counters import own_counters
from tamago.backends.triton.jobs import AffineJob
from tamago.backends.triton.kernels import whole_settings
from tamago.backends.triton.kernels.hopper import PROCESSORS
from tamago.backends.triton.launch import whole as module
from tamago.backends.triton.launch.whole import launch_whole
from tamago.backends.triton.library.affine import multiplied
from tamago.backends.triton.library.convolution import WHOLE
from tamago.backends.triton.library.norm import normalised
from tamago.backends.triton.widths import parts
from tamago.compiler.operators.epilogue import EPILOGUES, Epilogue
from tests.triton.guarded import Guarded

HALF, SINGLE = (torch.float16, 2e-3), (torch.float32, 2e-4)  # and what of the largest result may be off
SIZES = ((33, 96, 72), (20, 24, 40), (17, 64, 32), (1, 1, 3), (16, 519, 65))  # rows, inner, outputs
CANDIDATES = ((WHOLE, 16, 32, 4), (WHOLE, 32, 64, 4, 0), (WHOLE, 64, 32, 8, 0), (WHOLE, 16, 64, 4, 1))
IN_PARTS = ((WHOLE, 16, 32, 4, 0, 2), (WHOLE, 32, 64, 4, 1, 3), (WHOLE, 64, 32, 8, 0, 4))
ENGINE = 8  # elements of a row are a multiple of it where the copying engine brings weights
EPSILON = 1e-3


@pytest.fixture(autouse=True)
def interpreting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def drawn(rows: int, inner: int, out: int, dtype: torch.dtype) -> tuple[tuple[Tensor, Tensor, Tensor], list[Tensor]]:
    """Rows that are far from zero, as a residual stream's are, a matrix and a bias; scale and shift of a norm."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, size: float = 1.0) -> Tensor:
        return (size * torch.randn(shape, generator=generator)).to(dtype)

    x = (3 + torch.randn(rows, inner, generator=generator)).to(dtype)
    return (x, draw(out, inner, size=inner**-0.5), draw(out)), [1 + draw(inner, size=0.2), draw(inner)]


def check(
    found: Tensor,
    operands: Sequence[Tensor],
    residual: Tensor | None,
    norm: Sequence[Tensor],
    epilogue: Epilogue,
    tolerance: float,
) -> None:
    x, w, bias = (t.double() for t in operands)
    if norm:
        x = normalised(x, norm[0].double(), norm[1].double(), EPSILON, centred=True)
    more = None if residual is None else residual.double()
    wanted = multiplied(x, w, bias, more, epilogue.activation, epilogue.after)
    assert found.shape == wanted.shape
    assert float((found.double() - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [HALF, SINGLE], ids=["half", "single"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_rows_of_any_number_and_width(
    monkeypatch: pytest.MonkeyPatch,
    sizes: tuple[int, int, int],
    dtype: torch.dtype,
    tolerance: float,
    normed: bool,
    candidate: tuple[int, ...],
) -> None:
    """Whether or not tiles divide them; nothing beyond the result is written to."""
    if candidate[4:] == (1,) and sizes[1] % ENGINE:
        sizes = sizes[0], sizes[1] // ENGINE * ENGINE or ENGINE, sizes[2]
    operands, norm = drawn(*sizes, dtype)
    norm = norm if normed else []
    guarded = Guarded(monkeypatch)

    found = launch_whole(*operands, None, norm, EPSILON, "", "", candidate)

    assert guarded.untouched()
    check(found, operands, None, norm, Epilogue(), tolerance)


@pytest.mark.parametrize("candidate", IN_PARTS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [HALF, SINGLE], ids=["half", "single"])
@pytest.mark.parametrize("part", [16, 32, 48, 64, 96], ids=str)
@pytest.mark.parametrize(("rows", "out"), [(33, 72), (16, 64), (1, 3)], ids=str)
def test_rows_in_parts_that_tiles_hold_exactly(
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    out: int,
    part: int,
    dtype: torch.dtype,
    tolerance: float,
    candidate: tuple[int, ...],
) -> None:
    """All parts are added once, what counts them is as it was, and nothing beyond the result is written to."""
    operands, _ = drawn(rows, part * candidate[-1], out, dtype)
    residual = drawn(rows, out, out, dtype)[0][0]
    guarded = Guarded(monkeypatch)

    with own_counters() as counted:
        found = launch_whole(*operands, residual, [], EPSILON, "", "Relu", candidate)

    assert guarded.untouched()
    assert [int(c.abs().max()) for c in counted.values()] == [0]
    check(found, operands, residual, [], Epilogue(residual=True, after="Relu"), tolerance)


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("epilogue", EPILOGUES, ids=lambda e: e.name or "plain")
def test_all_that_is_done_to_a_result(epilogue: Epilogue, normed: bool) -> None:
    operands, norm = drawn(18, 40, 24, torch.float16)
    norm = norm if normed else []
    rows, w, bias = operands
    x = rows.view(2, 9, 40)
    residual = drawn(18, 40, 24, torch.float16)[0][0][:, :24].reshape(2, 9, 24) if epilogue.residual else None

    found = launch_whole(x, w, bias, residual, norm, EPSILON, epilogue.activation, epilogue.after, CANDIDATES[0])

    assert found.shape == (2, 9, 24)
    check(found, (x, w, bias), residual, norm, epilogue, HALF[1])


def test_what_does_not_lie_row_by_row_and_what_repeats() -> None:
    (x, w, bias), norm = drawn(20, 24, 40, torch.float16)
    turned, strided, row = w.T.contiguous().T, torch.stack([x, x], -1)[..., 0], drawn(1, 24, 40, torch.float16)[0][2]
    assert not turned.is_contiguous()
    assert not strided.is_contiguous()

    for candidate in CANDIDATES:
        found = launch_whole(strided, turned, bias, row[None], norm, EPSILON, "", "", candidate)

        check(found, (x, w, bias), row[None].expand(20, 40), norm, Epilogue(residual=True), HALF[1])


def test_what_is_copied_first_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight whose rows or address the engine does not take is copied by a kernel ahead: this one starts in turn."""
    operands, norm = drawn(20, 24, 40, torch.float16)
    x, w, bias = operands
    shifted = torch.empty(40 * 24 + 1, dtype=torch.float16)[1:].view(40, 24).copy_(w)
    asked: list[int] = []

    def when(x: Tensor, programs: int) -> int:
        asked.append(programs)
        return 0 * x.dim()

    monkeypatch.setattr(module, "when", when)
    for weight, fetched, early in (
        (w, 1, True),
        (shifted, 1, False),
        (shifted, 0, True),
        (w.T.contiguous().T, 0, False),
    ):
        asked.clear()
        found = launch_whole(x, weight, bias, None, norm, EPSILON, "", "", (WHOLE, 16, 32, 4, fetched))

        assert bool(asked) is early
        check(found, operands, None, norm, Epilogue(), HALF[1])


@pytest.mark.parametrize("sizes", [(197, 1152, 384), (128, 768, 768), (2, 3072, 1024), (64, 1000, 512)], ids=str)
def test_settings_keep_everything_in_registers_and_every_processor_busy(sizes: tuple[int, int, int]) -> None:
    found = whole_settings.candidates(*sizes, fetched=True)

    assert {c for c in found if not c[3]} <= set(whole_settings.candidates(*sizes))
    assert 0 < len(found) <= whole_settings.MOST_CANDIDATES
    assert len(set(found)) == len(found)
    assert {c[4] for c in found} == {1}
    for tile, columns, warps, engine, _ in found:
        wide = sum(parts(sizes[2]))
        held = 0 if engine else columns
        assert (wide * (2 * tile + held) + 2 * tile * columns) / (64 * warps) <= whole_settings.MOST_HELD + 1
        assert -(-sizes[0] // tile) * -(-sizes[1] // columns) <= whole_settings.MOST_WAVES * PROCESSORS


def test_weights_are_fetched_where_there_is_an_engine_that_takes_their_rows() -> None:
    assert {c[3] for c in whole_settings.candidates(197, 384, 384, fetched=True)} == {0, 1}
    assert {c[3] for c in whole_settings.candidates(197, 384, 380, fetched=True)} == {0}
    assert {c[3] for c in whole_settings.candidates(197, 384, 384)} == {0}


@pytest.mark.parametrize("sizes", [(197, 384, 1536), (128, 768, 3072), (64, 1000, 512)], ids=str)
def test_rows_are_split_where_that_leaves_less_to_read(sizes: tuple[int, int, int]) -> None:
    found = whole_settings.candidates(*sizes, fetched=True, split=True)

    assert any(c[4] > 1 for c in found)
    assert 0 < len(found) <= whole_settings.MOST_CANDIDATES
    for tile, columns, warps, engine, split in found:
        part = sizes[2] // split
        assert part * split == sizes[2]
        assert split == 1 or sum(parts(part)) == part >= whole_settings.LEAST_PART
        held = (part * (2 * tile + (0 if engine else columns)) + 2 * tile * columns) / (64 * warps)
        assert held <= whole_settings.MOST_HELD + 1
        assert -(-sizes[0] // tile) * -(-sizes[1] // columns) * split <= whole_settings.MOST_WAVES * PROCESSORS


def test_both_are_measured_where_rows_are_neither_short_nor_long() -> None:
    found = whole_settings.candidates(197, 768, 768, fetched=True, split=True)

    assert len(found) == whole_settings.MOST_CANDIDATES
    assert {c for c in found if c[4] == 1} == set(whole_settings.candidates(197, 768, 768, fetched=True))


def test_short_rows_and_those_that_no_tiles_hold_are_not_split() -> None:
    for k in (384, 1532, 2080):
        assert {c[4] for c in whole_settings.candidates(197, 384, k, split=True)} <= {1}


@pytest.mark.parametrize("sizes", [(12608, 1152, 384), (197, 384, 1536), (197, 50000, 384)], ids=str)
def test_many_rows_and_wide_ones_are_for_others(sizes: tuple[int, int, int]) -> None:
    assert not whole_settings.takes(*sizes)


def test_a_product_is_measured_so_beside_others_and_alone_where_it_normalises() -> None:
    plain = AffineJob(197, 1152, 384, "float16", False, "", "").candidates()
    normed = AffineJob(197, 1152, 384, "float16", False, "", "", normed=True).candidates()

    assert {c[0] for c in normed} == {0, WHOLE}
    assert {c for c in plain if c[0] == WHOLE} == {c for c in normed if c[0] == WHOLE}
    assert len(plain) > len(normed)


def test_only_a_product_without_a_norm_is_measured_in_parts() -> None:
    plain = AffineJob(197, 384, 1536, "float16", True, "", "").candidates()
    normed = AffineJob(197, 384, 1024, "float16", True, "", "", normed=True).candidates()

    assert any(c[0] == WHOLE and c[5] > 1 for c in plain)
    assert all(c[5] == 1 for c in normed if c[0] == WHOLE)


def test_a_row_is_held_by_two_tiles_where_one_would_be_half_empty() -> None:
    found = {width: parts(width) for width in (1, 16, 17, 24, 96, 100, 384, 519, 768, 1024)}

    assert found == {
        **{1: (16, 0), 16: (16, 0), 17: (32, 0), 24: (32, 0), 96: (64, 32), 100: (128, 0)},
        **{384: (256, 128), 519: (512, 16), 768: (512, 256), 1024: (1024, 0)},
    }
