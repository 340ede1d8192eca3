"""The product of few rows compiled ahead of time: nothing spills, its weights are asked for before it waits.

What is compiled are settings of `candidates()` for the shapes of ViT-S/16 and of BERT at batch 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tamago.backends.triton.kernels import whole_settings
from tests.triton.ahead import compiled_ahead

WGMMA_ROWS = 64  # of a product that four warps of compute capability 9.0 make together
# Triton either compiles or interprets in one process, and other tests interpret.
COMPILE = """
from tamago.backends.triton.kernels.whole_product import whole_product
from tamago.backends.triton.widths import parts

def make(case):
    (rows, n, k), (tile, columns, warps, engine, split) = case["sizes"], case["candidate"]
    k0, k1 = parts(k // split)
    widths = {"w": k0, "w_rest": k1 or k0}
    described = {name: f"tensordesc<{case['dtype']}{[columns, width]}>" for name, width in widths.items()}
    constants = {"ROWS": rows, "N": n, "K": k, "K0": k0, "K1": k1, "NORMED": case["normed"]}
    constants |= {"RESIDUAL": not case["normed"], "ACTIVATION": "Gelu" if case["normed"] else "", "AFTER": ""}
    constants |= {"BM": tile, "BN": columns, "SPLIT": split, "FETCHED": bool(engine), "EARLY": case["early"]}
    names = ("x", "b", "gamma", "beta", "r", "y", *(() if engine else ("w", "w_rest")))
    pointers = dict.fromkeys(names, "*" + case["dtype"])
    pointers |= {"partial": "*fp32", "arrived": "*i32" if split > 1 else "*fp32"}  # as it is launched
    options = {"num_warps": warps, **({"launch_pdl": True} if case["early"] else {})}
    return {}, compiled(whole_product, pointers, {"eps": "fp32"} | described, constants, case["capability"], **options)
"""


@dataclass(frozen=True)
class Case:
    """Rows, outputs and inner elements on a GPU of this compute capability."""

    sizes: tuple[int, int, int]
    candidate: tuple[int, int, int, int, int]
    normed: bool = True
    early: bool = True
    capability: int = 90
    dtype: str = "fp16"

    def __str__(self) -> str:
        words = ["x".join(map(str, s)) for s in (self.sizes, self.candidate)]
        flags = [f for f in ("normed", "early") if getattr(self, f)]
        return "-".join([*words, f"sm_{self.capability}", self.dtype, *flags])


QKV, PROJECTED, BERT = (197, 1152, 384), (197, 384, 384), (128, 768, 768)
DOWN, BERT_DOWN = (197, 384, 1536), (128, 768, 3072)
CASES = (
    *(
        Case(QKV, c)
        for c in ((64, 64, 8, 0, 1), (16, 128, 8, 0, 1), (32, 128, 8, 0, 1), (32, 128, 8, 1, 1), (64, 64, 8, 1, 1))
    ),
    *(Case(PROJECTED, c, normed=False) for c in whole_settings.candidates(*PROJECTED)[2:4]),
    Case(PROJECTED, (32, 64, 4, 1, 1), normed=False),
    *(Case(DOWN, c, normed=False) for c in ((32, 64, 4, 1, 3), (32, 128, 8, 0, 6), (64, 64, 8, 1, 4))),
    Case(BERT_DOWN, (64, 64, 8, 1, 8), normed=False),
    Case(BERT, whole_settings.candidates(*BERT)[0], dtype="bf16"),
    Case(QKV, whole_settings.candidates(*QKV)[0], early=False, capability=80),
    Case(PROJECTED, whole_settings.candidates(*PROJECTED)[0], normed=False, early=False, capability=80),
)
Made = dict[Case, dict[str, Any]]


def test_what_is_compiled_is_what_would_be_measured() -> None:
    for sizes in (QKV, DOWN, BERT_DOWN):
        found = whole_settings.candidates(*sizes, fetched=True, split=sizes != QKV)
        assert {c.candidate for c in CASES if c.sizes == sizes} <= set(found)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each case's PTX, and what its machine code uses."""
    return dict(zip(CASES, compiled_ahead(COMPILE, CASES, tmp_path_factory.mktemp("triton")), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_compiles_and_keeps_everything_in_registers(made: Made, case: Case) -> None:
    ptx, uses = made[case]["ptx"], made[case]["uses"]

    assert f".target sm_{case.capability}" in ptx
    assert 0 < uses["REG"] <= 255
    assert (uses["STACK"], uses["LOCAL"]) == (0, 0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_multiplies_on_the_tensor_cores(made: Made, case: Case) -> None:
    large = case.capability >= 90 and case.candidate[0] >= WGMMA_ROWS

    assert ("wgmma.mma_async" in made[case]["ptx"]) is large
    assert ("mma.sync" in made[case]["ptx"]) is not large


@pytest.mark.parametrize("case", CASES, ids=str)
def test_weights_are_asked_for_before_it_waits_for_the_kernel_ahead(made: Made, case: Case) -> None:
    ahead, waits, rest = made[case]["ptx"].partition("griddepcontrol.wait")

    assert bool(waits) is case.early
    if case.early:
        fetched = bool(case.candidate[3])
        assert ("cp.async.bulk.tensor" in ahead) is fetched
        assert fetched or "ld.global.v4.b32" in ahead, "eight halves at once"
        assert "ld.global" in rest, "rows, which another kernel may have made"
        assert "st.global" not in ahead
