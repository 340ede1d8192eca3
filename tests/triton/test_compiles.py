"""The kernels compiled ahead of time for GPUs that are not here: nothing spills, and loads are as wide as can be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.triton.ahead import compiled_ahead

CAPABILITIES = (80, 90)
MOST_CANDIDATES = 48
# Triton either compiles or interprets in one process, and other tests interpret.
COMPILE = """
from tamago.backends.triton.kernels import attention_step, gemv, gemv_nbits, rows_nbits

def warped(kernel, pointers, numbers, constants, warps, capability, **options):
    options |= {"num_warps": warps, **({"launch_pdl": True} if constants["EARLY"] else {})}
    return {}, compiled(kernel, pointers, numbers, constants, capability, **options)

def nbits(case):
    one, bits = case["kernel"] == "gemv_nbits", case["bits"]
    fused = {"NORM": True, "GATED": case["gated"], "RESIDUAL": True, "ACTIVATION": "Silu", "ZEROS": bits == 4}
    constants = {"N": 4096, "K": 4096, "BITS": bits, "BLOCK": case["block"], **fused, "EARLY": case["early"]}
    pointers = dict.fromkeys(("x", "scales", "gate_scales", "norm", "residual", "y"), B)
    pointers |= dict.fromkeys(("w", "gate"), "*i32") | dict.fromkeys(("zeros", "gate_zeros"), "*u8")
    if one:
        rows, programs, warps = case["candidate"] or gemv_nbits.default(4096, 4096, bits, case["block"])
        numbers, quads = {"eps": "fp32"}, gemv_nbits.quads(4096, bits, case["block"])
        constants |= {"BN": rows, "BQ": quads, "PROGRAMS": programs, "ASSEMBLED": True}
        return warped(gemv_nbits.gemv_nbits, pointers, numbers, constants, warps, case["capability"])
    rows, split, blocks, warps, stages = case["candidate"] or rows_nbits.default(bits, case["block"])
    numbers = {"eps": "fp32", "m": "i32"}
    constants |= {"BN": rows, "BLOCKS": blocks, "SPLIT": split, "STAGES": stages, "ASSEMBLED": True}
    pointers |= dict.fromkeys(("w", "gate"), "*i16") | dict.fromkeys(("sums", "powers", "squares", "partial"), "*fp32")
    pointers |= {"parts": B, "arrived": "*i32"}
    del pointers["x"], pointers["norm"]
    return warped(rows_nbits.rows_nbits, pointers, numbers, constants, warps, case["capability"])

B = "*bf16"
def make(case):
    early = case["early"]
    if case["kernel"].endswith("nbits"):
        return nbits(case)
    if case["kernel"] == "gemv":
        rows, columns, warps = case["candidate"] or gemv.DEFAULT
        fused = {"NORM": True, "GATED": case["gated"], "BIAS": False, "RESIDUAL": True, "ACTIVATION": "Silu"}
        constants = {"N": 4096, "K": 4096, **fused, "BN": rows, "BK": columns, "EARLY": early}
        pointers = dict.fromkeys(("x", "w", "gate", "scale", "bias", "residual", "y"), B)
        return warped(gemv.gemv, pointers, {"eps": "fp32"}, constants, warps, case["capability"])
    parts, slots, warps = case["candidate"] or attention_step.default(case["size"])
    constants = {"HEADS": 8, "SHARED": 4, "D": case["size"], "LENGTH": 1024, "PARTS": parts, "BL": slots}
    constants["EARLY"] = early
    pointers = dict.fromkeys(("q", "k", "v", "cos", "sin", "keys", "values", "y"), B)
    pointers |= {"position": "*i64", "partial": "*fp32", "arrived": "*i32"}
    return warped(attention_step.attention_step, pointers, {"scale": "fp32"}, constants, warps, case["capability"])

"""


@dataclass(frozen=True)
class Case:
    """A kernel with these settings (None: its defaults) on a GPU of this compute capability."""

    kernel: str
    candidate: tuple[int, ...] | None
    capability: int
    early: bool = False
    gated: bool = False
    size: int = 128  # of a head
    bits: int = 4  # of a weight, where it is in few
    block: int = 128  # of weights that share a scale

    def __str__(self) -> str:
        early, gated = ("-early" if self.early else ""), ("-gated" if self.gated else "")
        size = f"-{self.size}" if self.kernel == "attention_step" else ""
        size += f"-{self.bits}-{self.block}" if self.kernel.endswith("nbits") else ""
        return f"{self.kernel}{size}-{self.candidate or 'default'}-sm_{self.capability}{early}{gated}"


NBITS = ("gemv_nbits", "rows_nbits")
CASES = (
    *(Case(kernel, None, c) for kernel in NBITS for c in CAPABILITIES),
    *(Case(kernel, None, 90, early=True, gated=True, bits=b) for kernel in NBITS for b in (4, 8)),
    *(Case(kernel, None, 90, block=b) for kernel in NBITS for b in (32, 64)),
    *(Case("rows_nbits", candidate, 90) for candidate in ((32, 4, 1, 4, 3), (128, 2, 2, 8, 4))),
    *(Case("gemv_nbits", candidate, 90) for candidate in ((8, 132, 8), (4, 264, 4), (1, 528, 4))),
    *(Case(kernel, None, c) for kernel in ("gemv", "attention_step") for c in CAPABILITIES),
    *(Case(kernel, None, 90, early=True) for kernel in ("gemv", "attention_step")),
    *(Case("gemv", None, c, gated=True) for c in CAPABILITIES),
    *(Case("attention_step", None, 90, size=size) for size in (32, 64, 256)),
    *(Case("gemv", candidate, 90) for candidate in ((2, 512, 4), (8, 2048, 8))),
    *(Case("attention_step", candidate, 80) for candidate in ((1, 32, 4), (8, 64, 8))),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, dict[str, Any]]:
    """Each case's PTX, and what its machine code uses."""
    return dict(zip(CASES, compiled_ahead(COMPILE, CASES, tmp_path_factory.mktemp("triton")), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_kernel_compiles_for_its_gpu(made: dict[Case, dict[str, Any]], case: Case) -> None:
    assert f".target sm_{case.capability}" in made[case]["ptx"]
    assert 0 < made[case]["uses"]["REG"] <= 255


@pytest.mark.parametrize("case", [c for c in CASES if c.candidate is None], ids=str)
def test_the_defaults_keep_everything_in_registers(made: dict[Case, dict[str, Any]], case: Case) -> None:
    uses = made[case]["uses"]

    assert (uses["STACK"], uses["LOCAL"]) == (0, 0)
    assert ".local" not in made[case]["ptx"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_memory_is_read_16_bytes_at_a_time(made: dict[Case, dict[str, Any]], case: Case) -> None:
    """Four words of 32 bits a thread, the widest load there is, or as much without a thread's registers."""
    ptx = made[case]["ptx"]

    assert "ld.global.v4.b32" in ptx or re.search(r"cp\.async\.cg\.shared\.global [^;]*, 0x10", ptx)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_only_a_kernel_that_starts_early_waits_for_the_one_ahead(made: dict[Case, dict[str, Any]], case: Case) -> None:
    ptx = made[case]["ptx"]

    assert ("griddepcontrol.wait" in ptx) is case.early
    assert ("griddepcontrol.launch_dependents" in ptx) is case.early


def test_attention_and_a_few_rows_multiply_on_the_tensor_cores(made: dict[Case, dict[str, Any]]) -> None:
    for case in CASES:
        assert ("mma" in made[case]["ptx"]) is (case.kernel in ("attention_step", "rows_nbits")), str(case)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("k", [16, 100, 2048, 8192])
def test_there_are_a_few_candidates_for_a_product_and_each_is_another(k: int, gated: bool) -> None:
    from tamago.backends.triton.kernels import gemv  # not before the tests that interpret have said so

    found = gemv.candidates(k, gated=gated)

    assert 0 < len(found) <= MOST_CANDIDATES
    assert len(set(found)) == len(found)
    assert all(rows * columns * (2 if gated else 1) <= gemv.MOST * 32 * warps for rows, columns, warps in found)
    if k >= 2048:
        assert gemv.DEFAULT in found


@pytest.mark.parametrize("case", [c for c in CASES if c.kernel == "gemv_nbits" and not c.gated], ids=str)
def test_a_code_costs_few_instructions(made: dict[Case, dict[str, Any]], case: Case) -> None:
    """Four of them are multiplied at once, and become floats as sums of 16 or 32 products."""
    ptx = made[case]["ptx"]
    dots = ptx.count("dp4a.u32.s32")

    assert dots > 0
    assert ptx.count("cvt.rn.f32.s32") < dots // 2


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(("bits", "block"), [(4, 32), (4, 128), (8, 32), (8, 128)])
@pytest.mark.parametrize("k", [32, 100, 2048, 8192, 14336, 32768])
def test_there_are_a_few_candidates_for_weights_in_few_bits(k: int, bits: int, block: int, gated: bool) -> None:
    from tamago.backends.triton.kernels import gemv_nbits, rows_nbits  # as above

    for n in (10, 2048, 128256):
        found = gemv_nbits.candidates(n, k, bits, block, gated=gated)
        assert 0 < len(found) <= MOST_CANDIDATES // 2
        assert len(set(found)) == len(found)
        assert all(programs * rows < n + rows for rows, programs, _ in found)  # no program without a tile
        for size in (2, 4):
            few = rows_nbits.candidates(n, k, bits, block, size=size, gated=gated)
            assert 0 < len(few) <= MOST_CANDIDATES // 2
            assert len(set(few)) == len(few)


def test_stages_that_do_not_fit_are_no_candidates() -> None:
    """Of 64 rows of 256 codes, two matrices and 16 rows of float32, four stages take 263,424 bytes when compiled."""
    from tamago.backends.triton.kernels import rows_nbits  # as above

    found = rows_nbits.candidates(1000, 600, 8, 128, size=4, gated=True)
    assert not [c for c in found if c[0] == 64 and c[2] == 2 and c[4] > 3]
    assert [c for c in found if c[0] == 64 and c[2] == 2 and c[4] == 3]


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("length", [16, 64, 256, 1024, 4096])
def test_there_are_a_few_candidates_for_a_step_of_attention_and_each_is_another(length: int, size: int) -> None:
    from tamago.backends.triton.kernels import attention_step  # as above

    found = attention_step.candidates(length, size)

    assert 0 < len(found) <= MOST_CANDIDATES
    assert len(set(found)) == len(found)
    assert all(parts * slots <= max(32, 2 * length) for parts, slots, _ in found)
    if length >= 1024 and size >= 64:
        assert attention_step.default(size) in found
