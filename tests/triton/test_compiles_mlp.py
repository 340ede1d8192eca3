"""The kernel of two products compiled ahead of time: nothing spills, hidden units go from register to register.

What is compiled are settings of `candidates()` for the shapes of ConvNeXt-T and ViT-S/16.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.triton.ahead import compiled_ahead

# Triton either compiles or interprets in one process, and other tests interpret.
COMPILE = """
from tamago.backends.triton.kernels import mlp
from tamago.backends.triton.widths import parts

def make(case):
    rows, inner, hidden, out = case["sizes"]
    found = mlp.candidates(rows, inner, hidden, out, normed=case["normed"])
    chosen = next(c for c in found if c[0] >= case["least"])
    tile, block, split, warps, stages = chosen
    (k0, k1), (o0, o1) = parts(inner), parts(out)
    constants = {"ROWS": rows, "K": inner, "H": hidden, "O": out, "K0": k0, "K1": k1, "O0": o0, "O1": o1}
    constants |= {"RESIDUAL": True, "NORMED": case["normed"], "ACTIVATION": "Gelu"}
    constants |= {"BM": tile, "BH": block, "SPLIT": split, "EARLY": early(case["capability"])[0]}
    pointers = dict.fromkeys(("x", "w", "b", "v", "c", "r", "y", "gamma", "beta"), "*" + case["dtype"])
    pointers |= {"partial": "*fp32", "arrived": "*i32" if split > 1 else "*fp32"}  # as it is launched
    options = {"num_warps": warps, "num_stages": stages, **early(case["capability"])[1]}
    made = compiled(mlp.mlp, pointers, {"eps": "fp32"}, constants, case["capability"], **options)
    return {"candidate": chosen, "ttgir": made.asm["ttgir"]}, made
"""


@dataclass(frozen=True)
class Case:
    """Rows, inner elements, hidden units and results on a GPU of this compute capability."""

    sizes: tuple[int, int, int, int]
    least: int = 16  # rows of a tile
    capability: int = 90
    dtype: str = "fp16"
    normed: bool = False

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.sizes))
        return f"{sizes}-{self.least}-sm_{self.capability}-{self.dtype}{'-normed' if self.normed else ''}"


FIRST = Case((200704, 96, 384, 96), 64)
SECOND = Case((50176, 192, 768, 192), 64)
FEW = Case((197, 384, 1536, 384))
NORMED = tuple(
    replace(case, normed=True)
    for case in (
        *(FIRST, replace(FIRST, capability=80), replace(FIRST, least=128), replace(FIRST, least=128, capability=80)),
        *(SECOND, replace(SECOND, capability=80), replace(SECOND, least=128, dtype="bf16"), FEW),
    )
)
CASES = (
    *(
        FIRST,
        replace(FIRST, least=128),
        replace(FIRST, capability=80),
        SECOND,
        replace(SECOND, least=128, dtype="bf16"),
    ),
    *(Case((12544, 384, 1536, 384), 64), Case((3137, 96, 384, 96)), FEW),
    *NORMED,
)
Made = dict[Case, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each case's settings, intermediate form and PTX, and what its machine code uses."""
    return dict(zip(CASES, compiled_ahead(COMPILE, CASES, tmp_path_factory.mktemp("triton")), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_compiles_and_keeps_everything_in_registers(made: Made, case: Case) -> None:
    ptx, uses = made[case]["ptx"], made[case]["uses"]

    assert f".target sm_{case.capability}" in ptx
    assert 0 < uses["REG"] <= 255
    assert (uses["STACK"], uses["LOCAL"]) == (0, 0), made[case]["candidate"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_multiplies_on_the_tensor_cores(made: Made, case: Case) -> None:
    ptx = made[case]["ptx"]
    large = case.capability >= 90 and made[case]["candidate"][0] >= 64

    assert ("wgmma.mma_async" in ptx) is large
    assert ("mma.sync" in ptx) is not large


@pytest.mark.parametrize("case", [c for c in CASES if c.least >= 64 and c.capability == 90], ids=str)
def test_a_block_s_second_products_are_done_before_the_next_block_s_first_begin(made: Made, case: Case) -> None:
    """Else the assembler lets every instruction of the tensor cores wait for the one before."""
    loop = made[case]["ttgir"].split("scf.for")[1].split("scf.yield")[0]
    last = list(re.finditer(r"warp_group_dot(_wait)? ", loop))[-1]

    assert last[1] == "_wait"
    assert "pendings = 0" in loop[last.start() :].splitlines()[0]


@pytest.mark.parametrize("case", [FIRST, replace(FIRST, least=128), SECOND], ids=str)
def test_hidden_units_do_not_go_through_shared_memory(made: Made, case: Case) -> None:
    """They are an operand as they lie; where eight warps share 64 rows, the second half of the units is elsewhere."""
    loop = made[case]["ttgir"].split("scf.for")[1].split("scf.yield")[0]

    assert len(re.findall(r"warp_group_dot %a\S* ", loop)) == 2, "96 = 64 + 32, 192 = 128 + 64"
    assert "local_alloc" not in loop
    assert "local_store" not in loop


@pytest.mark.parametrize("case", [c for c in NORMED if c.least >= 64 and c.capability == 90], ids=str)
def test_rows_that_are_normalised_are_an_operand_from_registers(made: Made, case: Case) -> None:
    """Shared memory is read for the weights alone."""
    loop = made[case]["ttgir"].split("scf.for")[1].split("scf.yield")[0]

    assert len(re.findall(r"warp_group_dot %x\d\S* ", loop)) == 2, "96 = 64 + 32, 192 = 128 + 64"
    assert "local_alloc" not in loop
    assert "local_store" not in loop


@pytest.mark.parametrize("case", [FEW, FIRST], ids=str)
def test_whoever_comes_last_adds_the_parts_up(made: Made, case: Case) -> None:
    assert ("gpu.acq_rel" in made[case]["ptx"]) is (made[case]["candidate"][2] > 1) is (case is not FIRST)
