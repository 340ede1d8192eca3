"""The kernel of attention compiled ahead of time for GPUs that are not here: nothing spills, tensor cores multiply.

What is compiled are settings that `candidates()` would have measured for shapes of known networks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.triton.ahead import compiled_ahead

WGMMA_ROWS = 64  # of a product that four warps of compute capability 9.0 make together
# Triton either compiles or interprets in one process, and other tests interpret.
COMPILE = """
from tamago.backends.triton.kernels import attention

def make(case):
    heads, length, size, causal = case["heads"], case["length"], case["size"], case["causal"]
    found = attention.candidates(case["batch"] * heads, length, length, size, causal=causal)
    chosen = found[case["place"]]
    rows, columns, warps, stages = chosen
    lies = {"B": 3 * length * heads * size, "H": size, "S": 3 * heads * size}  # slices of one tensor
    strides = {name + axis: n for name in "QKV" for axis, n in lies.items()}
    strides |= {"YB": length * heads * size, "YH": size, "YS": heads * size}
    strides |= {"MB": length, "MH": 0, "MS": 0, "MK": 1}
    sizes = {"HEADS": heads, "SHARED": 1, "QUERIES": length, "KEYS": length, "SIZE": size}
    kinds = {"CAUSAL": causal, "MASK": case["mask"], "LOG2E": attention.LOG2E}
    tile = {"BQ": rows, "BK": columns, "BD": attention.width_of(size), "EARLY": early(case["capability"])[0]}
    pointers = dict.fromkeys(("q", "k", "v", "mask", "y"), "*" + case["dtype"])
    pointers["mask"] = "*u8" if case["mask"] == attention.BOOLEAN else pointers["mask"]
    options = {"num_warps": warps, "num_stages": stages, **early(case["capability"])[1]}
    constants = {**strides, **sizes, **kinds, **tile}
    made = compiled(attention.attention, pointers, {"factor": "fp32"}, constants, case["capability"], **options)
    return {"candidate": chosen}, made
"""


@dataclass(frozen=True)
class Case:
    """Attention of a network on a GPU of this compute capability, with the settings in this place of the list."""

    batch: int
    heads: int
    length: int
    size: int
    capability: int = 90
    place: int = 0
    causal: bool = False
    mask: int = 0
    dtype: str = "fp16"

    def __str__(self) -> str:
        sizes = "x".join(str(n) for n in (self.batch, self.heads, self.length, self.size))
        causal, mask = ("-causal" if self.causal else ""), (f"-mask{self.mask}" if self.mask else "")
        return f"{sizes}-{self.place}-sm_{self.capability}-{self.dtype}{causal}{mask}"


CASES = (
    *(Case(1, 6, 197, 64, capability) for capability in (80, 90)),
    Case(1, 6, 197, 64, place=2),
    Case(64, 6, 197, 64),
    Case(4, 32, 1024, 128, causal=True, dtype="bf16"),
    Case(1, 8, 300, 72, dtype="bf16"),
    *(Case(1, 12, 300, 64, mask=mask) for mask in (1, 2)),
    Case(1, 8, 100, 256),
)
Made = dict[Case, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each case's settings and PTX, and what its machine code uses."""
    return dict(zip(CASES, compiled_ahead(COMPILE, CASES, tmp_path_factory.mktemp("triton")), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_kernel_compiles_for_its_gpu_and_keeps_everything_in_registers(made: Made, case: Case) -> None:
    ptx, uses = made[case]["ptx"], made[case]["uses"]

    assert f".target sm_{case.capability}" in ptx
    assert 0 < uses["REG"] <= 255
    assert (uses["STACK"], uses["LOCAL"]) == (0, 0), made[case]["candidate"]
    assert ".local" not in ptx


@pytest.mark.parametrize("case", CASES, ids=str)
def test_both_products_are_made_on_the_tensor_cores(made: Made, case: Case) -> None:
    """Those of compute capability 9.0 take 64 rows or more at once; else it is the instruction of 8.0."""
    ptx, rows = made[case]["ptx"], made[case]["candidate"][0]
    large = case.capability >= 90 and rows >= WGMMA_ROWS

    assert ("wgmma.mma_async" in ptx) is large
    assert ("mma.sync" in ptx) is not large
    assert "ex2.approx" in ptx


@pytest.mark.parametrize("case", CASES, ids=str)
def test_keys_and_values_come_sixteen_bytes_at_a_time_while_others_are_used(made: Made, case: Case) -> None:
    """Slices of one tensor, too, and heads whose size is no power of two; masks may be of bytes."""
    copies = re.findall(r"cp\.async\.c[ag]\.shared\.global [^;]*, (0x[0-9a-f]+|\d+)", made[case]["ptx"])

    assert any(int(c, 0) == 16 for c in copies), copies
    assert case.mask or all(int(c, 0) == 16 for c in copies)
