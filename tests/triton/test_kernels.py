"""The kernels, line by line in Triton's interpreter: what they compute is what the torch operators say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest
import torch
import triton.language as tl
from torch import Tensor

if torch.cuda.is_available():
    pytest.skip(
        "tests/gpu runs them on the device, and a process either interprets or compiles", allow_module_level=True
    )

from triton.runtime.interpreter import InterpretedFunction

from tamago.backends.triton.kernels import attention_step, gemv
from tamago.backends.triton.launch.one_row import launch_attention_step, launch_gemv
from tamago.backends.triton.library import one_row as library

DTYPES = (torch.float32, torch.float16)
TOLERANCE = {torch.float32: 2e-5, torch.float16: 8e-3}
FUSED = list(product((False, True), repeat=3))  # gate, norm, residual
SHAPES = [(10, 100), (4, 256), (33, 600), (1, 16), (7, 1031)]  # rows and columns that tiles do and do not divide
TILES = [(4, 64, 4), (2, 256, 4), (16, 1024, 8)]
HEADS = [(2, 2), (1, 3), (2, 1), (1, 16)]  # of keys, and of queries for each of them
CACHE, SIZE = 40, 32


@pytest.fixture(autouse=True)
def interpreting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def test_the_kernels_are_interpreted() -> None:
    """And what they call is: `tests/conftest.py` saw to both."""
    assert isinstance(gemv.gemv, InterpretedFunction)
    assert isinstance(attention_step.attention_step, InterpretedFunction)
    assert isinstance(tl.sum, InterpretedFunction)


def draw(seed: int, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def check(found: Tensor, wanted: Tensor) -> None:
    """Equal up to the rounding of the dtype; what is wanted was computed in double precision."""
    assert found.shape == wanted.shape
    allowed = TOLERANCE[found.dtype] * float(wanted.abs().max())
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=allowed)


class Product:
    """Operands of one row times n rows of k weights, and of what is fused with it."""

    def __init__(self, n: int, k: int, dtype: torch.dtype, gated: bool, normed: bool, residual: bool) -> None:
        self.x = 3 * draw(0, dtype, 1, 1, k)  # far from the norm 1
        self.w = (draw(1, torch.float32, n, k) * k**-0.5).to(dtype)
        self.gate = (draw(2, torch.float32, n, k) * k**-0.5).to(dtype) if gated else None
        self.scale = 1 + draw(3, dtype, k) / 4 if normed else None
        self.residual = draw(4, dtype, 1, 1, n) if residual else None

    def wanted(self, activation: str, epsilon: float = 1e-5) -> Tensor:
        """In double precision."""
        gate, scale, residual = (None if t is None else t.double() for t in (self.gate, self.scale, self.residual))
        return library.meaning(self.x.double(), self.w.double(), gate, scale, residual, epsilon, activation)

    def found(self, activation: str, candidate: Sequence[int] | None, epsilon: float = 1e-5) -> Tensor:
        """By the kernel."""
        operands = self.x, self.w, self.gate, self.scale, self.residual
        return launch_gemv(*operands, epsilon, activation, candidate)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("gated", "normed", "residual"), FUSED)
def test_one_row_times_a_matrix_with_all_that_is_fused(
    dtype: torch.dtype, gated: bool, normed: bool, residual: bool
) -> None:
    for n, k in SHAPES:
        operands = Product(n, k, dtype, gated, normed, residual)
        activation = "Silu" if n % 2 else ""
        wanted = operands.wanted(activation)
        for candidate in TILES:
            check(operands.found(activation, candidate), wanted)


@pytest.mark.parametrize(("gated", "normed", "residual"), FUSED)
def test_every_operand_changes_the_result(gated: bool, normed: bool, residual: bool) -> None:
    """The comparison would notice an operand that is left out."""
    whole = Product(10, 100, torch.float32, gated, normed, residual)
    wanted = whole.wanted("Silu")

    for name in ("gate", "scale", "residual"):
        other = Product(10, 100, torch.float32, gated, normed, residual)
        if getattr(other, name) is not None:
            setattr(other, name, None)
            with pytest.raises(AssertionError):
                check(other.found("Silu", TILES[0]), wanted)
    with pytest.raises(AssertionError):
        check(whole.found("", TILES[0]), wanted)


def test_the_default_and_every_candidate_of_a_small_matrix_agree() -> None:
    operands = Product(10, 300, torch.float32, gated=True, normed=True, residual=True)
    wanted = operands.wanted("Silu")

    check(operands.found("Silu", None), wanted)
    for candidate in gemv.candidates(300, gated=True):
        check(operands.found("Silu", candidate), wanted)


def test_epsilon_is_inside_the_root() -> None:
    operands = Product(8, 64, torch.float32, gated=False, normed=True, residual=False)
    operands.x *= 1e-3

    check(operands.found("", TILES[0], 1e-2), operands.wanted("", 1e-2))
    with pytest.raises(AssertionError):
        check(operands.found("", TILES[0], 1e-2), operands.wanted("", 1e-5))


@pytest.mark.parametrize("residual", [draw(5, torch.float32, 10), draw(5, torch.float32, 1, 1, 30)[..., ::3]])
def test_a_residual_may_lie_in_memory_otherwise(residual: Tensor) -> None:
    operands = Product(10, 100, torch.float32, gated=False, normed=False, residual=False)
    operands.x, operands.residual = draw(6, torch.float32, 1, 1, 200)[..., ::2], residual

    check(operands.found("", TILES[0]), operands.wanted(""))


def test_a_cache_of_the_program_s_own_lies_in_memory_as_the_kernel_reads_it() -> None:
    given = draw(0, torch.float32, 1, 24, 2, 16).transpose(1, 2)

    assert not given.is_contiguous()
    assert library.own(given).is_contiguous()
    assert torch.equal(library.own(given), given)


class Step:
    """Operands of a step of attention; the cache is the middle of a larger memory."""

    MARGIN = 64

    def __init__(self, dtype: torch.dtype, heads: int, shared: int, length: int, size: int, position: int) -> None:
        self.q = draw(0, dtype, 1, heads * shared, 1, size)
        self.k, self.v = draw(1, dtype, 1, heads, 1, size), draw(2, dtype, 1, heads, 1, size)
        angle = draw(3, torch.float32, length, size // 2)
        self.cos, self.sin = angle.cos().to(dtype), angle.sin().to(dtype)
        self.position = torch.tensor([position])
        shape, count = (1, heads, length, size), heads * length * size
        self.memory = [draw(seed, dtype, count + 2 * self.MARGIN) for seed in (4, 5)]
        self.keys, self.values = (m[self.MARGIN : self.MARGIN + count].view(shape) for m in self.memory)
        self.before = [m.clone() for m in self.memory]
        self.scale = size**-0.5

    def wanted(self) -> tuple[Tensor, Tensor, Tensor]:
        """The result and the cache after it, in double precision."""
        q, k, v, cos, sin = (t.double() for t in (self.q, self.k, self.v, self.cos, self.sin))
        keys, values = self.keys.double(), self.values.double()
        return library.attend(q, k, v, cos, sin, self.position, keys, values, self.scale), keys, values

    def found(self, candidate: Sequence[int] | None) -> Tensor:
        """By the kernel, which writes the cache."""
        rows = self.q, self.k, self.v, self.cos, self.sin
        return launch_attention_step(*rows, self.position, self.keys, self.values, self.scale, candidate)

    def written(self) -> set[tuple[int, ...]]:
        """Which elements of the memory differ from what they were."""
        pairs = zip(self.memory, self.before, strict=True)
        return {(i, int(place)) for i, (now, then) in enumerate(pairs) for place in (now != then).nonzero()}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("position", [0, 1, 17, CACHE - 1])
def test_a_step_of_attention_over_a_cache(dtype: torch.dtype, parts: int, position: int) -> None:
    for (heads, shared), slots in product(HEADS, (16, 32)):
        step = Step(dtype, heads, shared, CACHE, SIZE, position)
        wanted, keys, values = step.wanted()

        check(step.found((parts, slots, 4)), wanted)

        check(step.keys, keys)
        check(step.values, values)
        inside = {Step.MARGIN + (h * CACHE + position) * SIZE + d for h in range(heads) for d in range(SIZE)}
        assert step.written() <= {(i, place) for i in (0, 1) for place in inside}
        assert torch.equal(step.values[:, :, position], step.v[:, :, 0])


def test_the_default_and_every_candidate_of_a_small_cache_agree() -> None:
    for candidate in (None, *attention_step.candidates(CACHE, 64)):
        step = Step(torch.float32, 2, 2, CACHE, 64, 30)
        wanted, _, _ = step.wanted()
        check(step.found(candidate), wanted)


@pytest.mark.parametrize(
    ("shared", "size", "wanted"),
    [(1, 32, True), (16, 128, True), (7, 64, True), (32, 64, True), (24, 64, False), (4, 16, False), (4, 48, False)],
)
def test_the_kernel_is_made_for_heads_that_tiles_can_hold(shared: int, size: int, wanted: bool) -> None:
    assert library.takes(shared, size) is wanted


def test_what_lies_behind_the_position_is_not_seen_and_what_lies_before_it_is() -> None:
    def after_noise_at(slot: int | None) -> Tensor:
        step = Step(torch.float32, 2, 2, CACHE, SIZE, 20)
        if slot is not None:
            step.keys[:, :, slot] = step.values[:, :, slot] = 50.0
        return step.found((2, 16, 4))

    assert torch.equal(after_noise_at(20), after_noise_at(None))
    assert torch.equal(after_noise_at(21), after_noise_at(None))
    assert not torch.equal(after_noise_at(19), after_noise_at(None))


@pytest.mark.parametrize("parts", [1, 4])
def test_launches_after_one_another_find_the_counters_as_they_were(parts: int) -> None:
    step = Step(torch.float32, 2, 2, CACHE, SIZE, 0)
    for position in range(6):
        step.position = torch.tensor([position])
        wanted, _, _ = step.wanted()
        check(step.found((parts, 16, 4)), wanted)


@pytest.mark.parametrize("position", [CACHE, CACHE + 1, 10_000, -1, -10_000])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_position_outside_the_cache_writes_nothing_outside_it(position: int, parts: int) -> None:
    step = Step(torch.float32, 2, 2, CACHE, SIZE, position)

    step.found((parts, 16, 4))

    count = 2 * CACHE * SIZE
    assert all(Step.MARGIN <= place < Step.MARGIN + count for _, place in step.written())
    slot = {(place - Step.MARGIN) // SIZE % CACHE for _, place in step.written()}
    assert slot == {CACHE - 1 if position > 0 else 0}
