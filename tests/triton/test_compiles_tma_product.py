"""The product whose tiles the copying engine fetches, compiled for a GPU that is not here.

Nothing spills, the tensor cores multiply and the engine copies, for all settings of products of known networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.triton.ahead import compiled_ahead

COMPILE = """
from tamago.backends.triton.kernels import tma_product as product
from tamago.backends.triton.kernels.hopper import PROCESSORS

def make(case):
    found = product.candidates(case["rows"], case["n"], case["k"], residual=case["residual"])
    chosen = found[case["place"]]
    rows, columns, inner, parts, stages, warps, programs = chosen
    tile = lambda *sizes: f"tensordesc<{case['dtype']}{list(sizes)}>"
    written = tile(rows, columns // parts)
    described = {"x": tile(rows, inner), "w": tile(columns, inner), "residual": written, "y": written}
    constants = {"M": case["rows"], "N": case["n"], "K": case["k"], "RESIDUAL": case["residual"]}
    constants |= {"ACTIVATION": case["activation"], "AFTER": "", "BM": rows, "BN": columns, "BK": inner}
    constants |= {"PARTS": parts, "GROUP": product.GROUP, "PROGRAMS": PROCESSORS * programs, "EARLY": early(90)[0]}
    most = product.registers(warps, programs)
    options = {"num_warps": warps, "num_stages": stages, "maxnreg": most, **early(90)[1]}
    pointers = {"bias": "*" + case["dtype"]}
    made = compiled(product.tma_product, pointers, described, constants, 90, **options)
    said = {"shared": made.metadata.shared, "thought": product.shared(chosen, residual=case["residual"])}
    return {"candidate": chosen, "most": most, **said}, made
"""


@dataclass(frozen=True)
class Case:
    """A product, what is fused with it, and which of its candidates is compiled."""

    rows: int
    n: int
    k: int
    place: int
    residual: bool = False
    activation: str = ""
    dtype: str = "fp16"

    def __str__(self) -> str:
        return f"{self.rows}x{self.k}x{self.n}-{self.dtype}-{self.activation}-{self.residual}-{self.place}"


CASES = (
    *(Case(12608, 1536, 384, place, activation="Gelu") for place in range(4)),
    *(Case(12608, 384, 1536, place, residual=True, dtype="bf16") for place in range(3)),
)
Made = dict[Case, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each case's settings and PTX, and what its machine code uses."""
    return dict(zip(CASES, compiled_ahead(COMPILE, CASES, tmp_path_factory.mktemp("triton")), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_everything_stays_in_registers(made: Made, case: Case) -> None:
    uses = made[case]["uses"]

    assert 0 < uses["REG"] <= made[case]["most"], made[case]["candidate"]
    assert (uses["STACK"], uses["LOCAL"]) == (0, 0), made[case]["candidate"]
    assert ".local" not in made[case]["ptx"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_tensor_cores_multiply_what_the_engine_fetches(made: Made, case: Case) -> None:
    ptx = made[case]["ptx"]

    assert "wgmma.mma_async" in ptx
    assert "cp.async.bulk.tensor.2d.shared" in ptx
    assert "cp.async.bulk.tensor.2d.global" in ptx
    assert "mma.sync" not in ptx
    assert "st.global" not in ptx


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_takes_no_more_memory_than_was_thought(made: Made, case: Case) -> None:
    assert made[case]["shared"] <= made[case]["thought"] <= made[case]["shared"] + 512
