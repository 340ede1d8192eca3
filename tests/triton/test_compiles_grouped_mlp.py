"""The kernel of two products whose groups of warps walk by themselves, compiled for a GPU that is not here.

What it computes is tested on one (`tests/gpu/test_mlp_cuda.py`): Triton's interpreter does not know Gluon.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from tamago.backends.triton.kernels import grouped_settings
from tamago.backends.triton.kernels.hopper import PROCESSORS
from tamago.backends.triton.widths import parts
from tests.triton.ahead import compiled_ahead

COMPILE = """
from triton.experimental.gluon import language as gl
from tamago.backends.triton.kernels.grouped_mlp import grouped_mlp
from tamago.backends.triton.kernels.grouped_settings import ROWS, registers
from tamago.backends.triton.widths import parts

def tile(dtype, *sizes):
    layout = gl.NVMMASharedLayout.get_default_for(list(sizes), gl.bfloat16 if dtype == "bf16" else gl.float16)
    return f"tensordesc<{dtype}{list(sizes)},{layout!r}>"

def make(case):
    (rows, inner, hidden, out), block, dtype = case["sizes"], case["block"], case["dtype"]
    stages = case["stages"]
    (k0, k1), (o0, o1) = parts(inner), parts(out)
    constants = {"ROWS": rows, "K": inner, "H": hidden, "O": out, "K0": k0, "K1": k1, "O0": o0, "O1": o1}
    constants |= {"RESIDUAL": case["residual"], "NORMED": case["normed"], "ACTIVATION": "Gelu", "BM": ROWS, "BH": block}
    constants |= {"STAGES": stages, "PROGRAMS": 132, "REGISTERS": registers(stages)}
    described = {"x0": tile(dtype, ROWS, k0), "x1": tile(dtype, ROWS, k1 or k0)}
    described |= {"w0": tile(dtype, block, k0), "w1": tile(dtype, block, k1 or k0)}
    described |= {"v0": tile(dtype, o0, block), "v1": tile(dtype, o1 or o0, block)}
    for name in "ry":
        described |= {name + "0": tile(dtype, ROWS, o0), name + "1": tile(dtype, ROWS, o1 or o0)}
    pointers = dict.fromkeys(("b", "c", "gamma", "beta"), "*" + dtype)
    made = compiled(grouped_mlp, pointers, {"eps": "fp32"} | described, constants, 90, num_warps=4)
    return {"shared": made.metadata.shared}, made
"""


@dataclass(frozen=True)
class Case:
    """Rows, inner elements, hidden units and results; hidden units of a block, blocks on their way."""

    sizes: tuple[int, int, int, int]
    block: int
    stages: int = 0
    normed: bool = False
    residual: bool = True
    dtype: str = "fp16"

    def __str__(self) -> str:
        flags = [f for f in ("normed", "residual") if getattr(self, f)]
        return "-".join(["x".join(map(str, self.sizes)), f"{self.block}x{self.stages}", self.dtype, *flags])


WIDE, ONE, WIDER = (200704, 96, 384, 96), (200704, 64, 256, 64), (50176, 192, 768, 192)
SPILLED = {0: 64, 2: 448}  # bytes at most of three and of two groups: the norm's, written and read once a tile
CASES = (
    *(Case(WIDE, block) for block in (64, 32)),
    *(Case(WIDE, block, normed=True, dtype=dtype) for block, dtype in ((64, "fp16"), (32, "bf16"))),
    Case(ONE, 64, residual=False),
    Case((150000, 80, 328, 72), 64, normed=True),
    *(Case((50176, 128, 512, 128), 64, 3, normed=True), Case((50000, 256, 1024, 64), 32, 2, dtype="bf16")),
    *(Case(WIDER, block, stages, normed) for block, stages in ((64, 2), (32, 4)) for normed in (False, True)),
)
Made = dict[Case, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each case's PTX, and what its machine code uses."""
    return dict(zip(CASES, compiled_ahead(COMPILE, CASES, tmp_path_factory.mktemp("triton")), strict=True))


def test_what_is_compiled_is_what_would_be_measured() -> None:
    assert all((case.block, case.stages) in grouped_settings.candidates(*case.sizes) for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_everything_stays_in_registers_and_a_processor_s_memory(made: Made, case: Case) -> None:
    """But for numbers of the norm, once a tile, and two of what rows of 192 with large blocks walk by."""
    uses, (_, inner, hidden, out) = made[case]["uses"], case.sizes
    thought = grouped_settings.shared(case.block, case.stages, hidden, sum(parts(inner)), sum(parts(out)))

    assert uses["LOCAL"] == 0
    assert uses["STACK"] <= (SPILLED[min(case.stages, 2)] if case.normed else 8)
    assert made[case]["shared"] <= thought <= grouped_settings.MEMORY


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_warp_waits_for_another_within_a_block_of_hidden_units(made: Made, case: Case) -> None:
    """From a first product to the last of a block there is no barrier; groups have their own code.

    Warps of a group meet behind each block that is brought, to say that all have done with it.
    """
    parts_of_code = re.split(r"^\$L__BB\d+_\d+:", made[case]["ptx"], flags=re.MULTILINE)
    loops = [p for p in parts_of_code if "wgmma.mma_async" in p]

    assert len(loops) == grouped_settings.groups(case.stages)
    for loop in loops:
        between = loop[loop.index("wgmma.mma_async") : loop.rindex("wgmma.mma_async")]
        assert "bar.sync" not in between
        assert "barrier.sync" not in between
        assert loop[loop.rindex("wgmma.mma_async") :].count("mbarrier.arrive.shared") == (case.stages > 0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_engine_brings_rows_and_takes_results(made: Made, case: Case) -> None:
    ptx = made[case]["ptx"]

    assert re.search(r"cp\.async\.bulk\.tensor\.2d\.shared::(cta|cluster)\.global", ptx)
    assert "cp.async.bulk.tensor.2d.global.shared::cta" in ptx
    assert "st.global" not in ptx


@pytest.mark.parametrize(
    "sizes",
    [
        (12544, 384, 1536, 384),  # sums of a row fill the registers
        (3136, 96, 384, 96),  # few rows
        (200704, 100, 384, 96),  # rows that are no multiple of 16 bytes
        (200704, 96, 384, 100),
        (200704, 96, 380, 96),
    ],
    ids=str,
)
def test_what_does_not_fit_is_for_others(sizes: tuple[int, int, int, int]) -> None:
    assert grouped_settings.candidates(*sizes) == []


def test_matrices_stay_where_they_fit() -> None:
    assert {stages for _, stages in grouped_settings.candidates(*WIDE)} == {0}
    assert 0 not in {stages for _, stages in grouped_settings.candidates(*WIDER)}


def test_each_group_has_some_tiles() -> None:
    least = grouped_settings.LEAST_TURNS * grouped_settings.groups(0) * grouped_settings.ROWS * PROCESSORS

    assert (64, 0) in grouped_settings.candidates(least, 96, 384, 96)
    assert (64, 0) not in grouped_settings.candidates(least - 1, 96, 384, 96)
