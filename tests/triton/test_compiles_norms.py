"""The kernel that normalises rows, compiled ahead of time for GPUs that are not here: nothing spills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tamago.backends.triton.kernels import layer_norm
from tests.triton.ahead import compiled_ahead

# Triton either compiles or interprets in one process, and other tests interpret.
COMPILE = """
import triton
from tamago.backends.triton.kernels.layer_norm import layer_norm

def make(case):
    many, warps = case["candidate"]
    constants = {"LENGTH": case["length"], "CENTRED": case["centred"], "SHIFTED": case["centred"]}
    constants |= {"BR": many, "BC": triton.next_power_of_2(case["length"]), "EARLY": early(case["capability"])[0]}
    pointers = dict.fromkeys(("x", "scale", "shift", "y"), "*" + case["dtype"])
    numbers = {"rows": "i32", "eps": "fp32"}
    options = {"num_warps": warps, **early(case["capability"])[1]}
    return {}, compiled(layer_norm, pointers, numbers, constants, case["capability"], **options)
"""


@dataclass(frozen=True)
class Case:
    """Rows of this length on a GPU of this compute capability."""

    length: int
    candidate: tuple[int, int]
    capability: int = 90
    centred: bool = True
    dtype: str = "fp16"

    def __str__(self) -> str:
        kind = "layer" if self.centred else "rms"
        return f"{kind}-{self.length}-{self.candidate[0]}x{self.candidate[1]}-sm_{self.capability}-{self.dtype}"


def first(rows: int, length: int) -> tuple[int, int]:
    """What is measured first."""
    return layer_norm.candidates(rows, length)[0]


CASES = (
    *(Case(384, first(12608, 384), c) for c in (80, 90)),
    Case(96, first(3136, 96), dtype="bf16"),
    Case(384, (16, 4)),
    Case(4096, first(4096, 4096), centred=False, dtype="bf16"),
    Case(layer_norm.LONGEST, first(64, layer_norm.LONGEST)),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, dict[str, Any]]:
    """Each case's PTX, and what its machine code uses."""
    return dict(zip(CASES, compiled_ahead(COMPILE, CASES, tmp_path_factory.mktemp("triton")), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_stay_in_registers_and_are_read_once_16_bytes_at_a_time(
    made: dict[Case, dict[str, Any]], case: Case
) -> None:
    ptx, uses = made[case]["ptx"], made[case]["uses"]

    assert f".target sm_{case.capability}" in ptx
    assert 0 < uses["REG"] <= 255
    assert (uses["STACK"], uses["LOCAL"]) == (0, 0)
    assert ".local" not in ptx
    many, warps = case.candidate
    wide = 1 << (case.length - 1).bit_length()
    vectors = max(1, many * wide // (32 * warps * layer_norm.VECTOR))
    of_factors = 2 * max(1, wide // (32 * warps * layer_norm.VECTOR))  # at most: a scale and a shift
    assert vectors <= ptx.count("ld.global.v4.b32") <= vectors + of_factors
