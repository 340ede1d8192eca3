"""Products with weights of 4 and 8 bits, in Triton's interpreter: the kernels compute what MatMulNBits means."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

if torch.cuda.is_available():
    pytest.skip(
        "tests/gpu runs them on the device, and a process either interprets or compiles", allow_module_level=True
    )

from triton.runtime.interpreter import InterpretedFunction

from tamago.backends.triton.kernels import gemv_nbits, rows_nbits
from tamago.backends.triton.launch.nbits import launch_nbits
from tamago.backends.triton.library import nbits as library_nbits

TOLERANCE = {torch.float32: 2e-5, torch.float16: 8e-3}
FUSED = list(product((False, True), repeat=3))  # gate, norm, residual
FORMATS = [(4, 32), (4, 64), (4, 128), (8, 32), (8, 128)]  # bits, and weights of a block
SHAPES = [(10, 256), (7, 519)]  # rows and columns that tiles and blocks do and do not divide
ONE_ROW = [(1, 4, 2, 4), (1, 1, 4, 8), (1, 16, 1, 4)]
FEW_ROWS = [(16, 16, 1, 2, 4, 2), (16, 64, 2, 2, 4, 3)]


@pytest.fixture(autouse=True)
def interpreting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def test_the_kernels_are_interpreted() -> None:
    assert isinstance(gemv_nbits.gemv_nbits, InterpretedFunction)
    assert isinstance(rows_nbits.rows_nbits, InterpretedFunction)


def draw(seed: int, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def check(found: Tensor, wanted: Tensor) -> None:
    """Equal up to the rounding of the dtype; what is wanted was computed in double precision."""
    assert found.shape == wanted.shape
    allowed = TOLERANCE[found.dtype] * float(wanted.abs().max())
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=allowed)


class Weight:
    """Random codes, scales and zero points of n rows of k weights, laid out as MatMulNBits has them."""

    def __init__(self, seed: int, n: int, k: int, bits: int, block: int, dtype: torch.dtype, zeros: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        blocks = -(-k // block)

        def codes(*shape: int) -> Tensor:
            return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)

        self.codes = codes(n, blocks, block * bits // 8)
        self.scales = (draw(seed, torch.float32, n, blocks).abs() * k**-0.5 / 2**bits).to(dtype)
        self.zeros = codes(n * (-(-blocks * bits // 8))) if zeros else None

    def packed(self, *, double: bool = False) -> library_nbits.Packed:
        return library_nbits.Packed(self.codes, self.scales.double() if double else self.scales, self.zeros)


class Product:
    """Operands of some rows times such weights, and of what is fused with it."""

    def __init__(
        self,
        n: int,
        k: int,
        bits: int,
        block: int,
        dtype: torch.dtype,
        *,
        rows: int = 1,
        zeros: bool = True,
        gated: bool = False,
        normed: bool = False,
        residual: bool = False,
    ) -> None:
        self.bits, self.block = bits, block
        self.x = 3 * draw(0, dtype, 1, rows, k)  # far from the norm 1
        self.w = Weight(1, n, k, bits, block, dtype, zeros)
        self.gate = Weight(2, n, k, bits, block, dtype, zeros) if gated else None
        self.norm = 1 + draw(3, dtype, k) / 4 if normed else None
        self.residual = draw(4, dtype, 1, rows, n) if residual else None

    def wanted(self, activation: str, epsilon: float = 1e-5) -> Tensor:
        """In double precision."""
        gate = None if self.gate is None else self.gate.packed(double=True)
        norm, residual = (None if t is None else t.double() for t in (self.norm, self.residual))
        operands = (self.x.double(), self.w.packed(double=True), gate, norm, residual)
        return library_nbits.meaning_nbits(*operands, epsilon, activation, self.bits, self.block)

    def found(self, activation: str, candidate: Sequence[int] | None, epsilon: float = 1e-5) -> Tensor:
        """By the kernel."""
        gate = None if self.gate is None else self.gate.packed()
        operands = (self.x, self.w.packed(), gate, self.norm, self.residual)
        return launch_nbits(*operands, epsilon, activation, self.bits, self.block, candidate)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("bits", "block"), FORMATS)
def test_one_row_and_a_few_rows_in_every_format(bits: int, block: int, zeros: bool, dtype: torch.dtype) -> None:
    for (n, k), rows in product(SHAPES, (1, 16)):
        operands = Product(n, k, bits, block, dtype, rows=rows, zeros=zeros)
        wanted = operands.wanted("")
        for candidate in ONE_ROW if rows == 1 else FEW_ROWS[:1]:
            check(operands.found("", candidate), wanted)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("gated", "normed", "residual"), FUSED)
def test_all_that_is_fused(bits: int, rows: int, gated: bool, normed: bool, residual: bool) -> None:
    for dtype, (n, k) in zip(TOLERANCE, SHAPES, strict=True):
        fused = {"gated": gated, "normed": normed, "residual": residual}
        operands = Product(n, k, bits, 32, dtype, rows=rows, **fused)
        activation = "Silu" if n % 2 else ""
        check(operands.found(activation, (ONE_ROW if rows == 1 else FEW_ROWS)[0]), operands.wanted(activation))


@pytest.mark.parametrize("rows", [1, 5])
def test_every_operand_changes_the_result(rows: int) -> None:
    """The comparison would notice an operand that is left out."""
    fused: dict[str, Any] = {"rows": rows, "gated": True, "normed": True, "residual": True}
    wanted = Product(10, 96, 4, 32, torch.float32, **fused).wanted("Silu")
    for name in ("gate", "norm", "residual"):
        other = Product(10, 96, 4, 32, torch.float32, **fused)
        setattr(other, name, None)
        with pytest.raises(AssertionError):
            check(other.found("Silu", None), wanted)
    for name in ("w", "gate"):
        other = Product(10, 96, 4, 32, torch.float32, **fused)
        getattr(other, name).zeros = torch.zeros_like(getattr(other, name).zeros)
        with pytest.raises(AssertionError):
            check(other.found("Silu", None), wanted)
    with pytest.raises(AssertionError):
        check(Product(10, 96, 4, 32, torch.float32, **fused).found("", None), wanted)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_defaults_and_every_candidate_agree(bits: int) -> None:
    one = Product(5, 300, bits, 32, torch.float32, gated=True, normed=True, residual=True)
    for candidate in (None, *((1, *c) for c in gemv_nbits.candidates(5, 300, bits, 32, gated=True))):
        check(one.found("Silu", candidate), one.wanted("Silu"))
    few = Product(70, 100, bits, 32, torch.float32, rows=3, gated=True, normed=True, residual=True)
    for candidate in (None, *((16, *c) for c in rows_nbits.candidates(70, 100, bits, 32))):
        check(few.found("Silu", candidate), few.wanted("Silu"))


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("bits", [4, 8])
def test_every_code_is_read_exactly_and_met_by_its_own_element_of_x(bits: int, rows: int) -> None:
    operands = Product(9, 32, bits, 32, torch.float32, rows=rows, zeros=False)
    operands.w.scales = torch.ones(9, 1)
    packed = operands.w.codes[:, 0]
    codes = packed if bits == 8 else torch.stack((packed & 15, packed >> 4), -1).flatten(1)
    for place in range(32):
        operands.x = torch.zeros(1, rows, 32)
        operands.x[..., place] = 1
        found = operands.found("", (1, 16, 1, 4) if rows == 1 else None)
        assert torch.equal(found[0, 0], codes[:, place].float() - 2 ** (bits - 1))


def test_settings_for_one_row_are_not_taken_for_more() -> None:
    few = Product(10, 300, 4, 32, torch.float32, rows=3)
    check(few.found("", (1, 4, 2, 4)), few.wanted(""))


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's, in the interpreter
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_not_finite_stays_so(bits: int, value: float) -> None:
    """Integers have no such values: they must not be taken for numbers."""
    for place in range(9):
        one = Product(5, 300, bits, 32, torch.float16)
        one.x[0, 0, place] = value
        assert not one.found("", (1, 4, 2, 4)).isfinite().any()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_one_large_element_costs_the_others_no_more_than_its_own_last_bit(dtype: torch.dtype) -> None:
    one = Product(10, 256, 4, 32, dtype)
    one.x[0, 0, 5] = 3000.0
    check(one.found("", (1, 4, 2, 4)), one.wanted(""))
    one.x *= 2.0**-40 if dtype == torch.float32 else 2.0**-6
    check(one.found("", (1, 4, 2, 4)), one.wanted(""))


@pytest.mark.parametrize(("mean", "size", "norm"), [(0.0, 2000.0, 40.0), (0.0, 3e-4, 0.02), (0.0, 3e4, 4.0)])
@pytest.mark.parametrize("rows", [1, 2])
def test_what_a_norm_s_scale_makes_of_x_may_be_more_than_halves_hold(
    rows: int, mean: float, size: float, norm: float
) -> None:
    operands = Product(12, 256, 4, 32, torch.float16, rows=rows, normed=True)
    operands.x = (mean + size * draw(7, torch.float32, 1, rows, 256)).clamp(-6e4, 6e4).half()
    operands.norm = (norm * draw(8, torch.float32, 256).abs()).half()

    found, wanted = operands.found("", None), operands.wanted("")

    assert float((found.double() - wanted).norm()) <= 2e-3 * float(wanted.norm())


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("bits", [4, 8])
def test_what_cancels_costs_no_more_than_halves_do(bits: int, rows: int) -> None:
    """Elements of x far from zero, and codes near their zero point."""
    operands = Product(12, 512, bits, 128, torch.float16, rows=rows, zeros=False)
    operands.x = (5 + 0.1 * draw(7, torch.float32, 1, rows, 512)).half()
    middle = 1 << bits - 1
    codes = middle + torch.randint(-1, 2, (12, 512), generator=torch.Generator().manual_seed(0))
    together = codes if bits == 8 else codes[:, ::2] | codes[:, 1::2] << 4
    operands.w.codes = together.to(torch.uint8).reshape(operands.w.codes.shape)

    found, wanted = operands.found("", None), operands.wanted("")

    assert float((found.double() - wanted).norm()) <= 1e-3 * float(wanted.norm())


@pytest.mark.parametrize("rows", [1, 2])
def test_codes_may_begin_anywhere_in_memory(rows: int) -> None:
    operands = Product(5, 64, 4, 32, torch.float16, rows=rows)
    room = torch.empty(operands.w.codes.numel() + 1, dtype=torch.uint8)
    operands.w.codes = room[1:].copy_(operands.w.codes.flatten()).view(operands.w.codes.shape)

    check(operands.found("", None), operands.wanted(""))


@pytest.mark.parametrize("bits", [4, 8])
def test_small_numbers_keep_their_bits(bits: int) -> None:
    operands = Product(10, 256, bits, 32, torch.float32)
    operands.x *= 2.0**-90
    check(operands.found("", (1, 4, 2, 4)), operands.wanted(""))
