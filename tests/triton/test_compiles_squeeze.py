"""Squeeze-and-excitation compiled ahead for GPUs that are not here: nothing spills, reads are wide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.triton.ahead import compiled_ahead

COMPILE = """
from tamago.backends.triton.kernels import squeeze_excite as kernels

def make(case):
    n, pixels, channels, squeezed = case["sizes"]
    found = kernels.candidates(*case["sizes"])
    chosen = next(c for c in found if case["warps"] in (0, c[3]))
    rows, block, slices, warps, _ = chosen
    tile = {"PIXELS": pixels, "C": channels, "SLICES": slices, "SHARE": -(-pixels // slices), "BP": rows, "BC": block}
    pointers = dict.fromkeys(("x", "y"), "*" + case["dtype"]) | {"partial": "*fp32", "arrived": "*i32"}
    if not squeezed:
        made = compiled(kernels.mean_pixels, pointers, {}, tile, case["capability"], num_warps=warps)
        return {"candidate": chosen}, made
    small = kernels.width(squeezed)
    pointers |= dict.fromkeys(("reduce", "squeezed_bias", "expand", "bias"), "*" + case["dtype"])
    fused = {"S": squeezed, "ACTIVATION": case["activation"], "GATE": case["gate"], "BS": small}
    if case["apart"]:
        parts = {"PARTS": slices * -(-channels // block), "C": channels, "BE": kernels.apart(n, channels, small)}
        del pointers["x"], pointers["reduce"], pointers["arrived"], pointers["partial"]
        pointers["parts"] = "*fp32"
        made = compiled(kernels.excite, pointers, {}, parts | fused, case["capability"], num_warps=4)
        return {"candidate": (*chosen[:3], 4, 1)}, made
    constants = tile | fused | {"COUNT": pixels, "BE": kernels.expanded(channels, small, warps), "APART": False}
    made = compiled(kernels.squeeze_excite, pointers, {}, constants, case["capability"], num_warps=warps)
    return {"candidate": chosen}, made
"""


@dataclass(frozen=True)
class Case:
    """Pictures, pixels, channels, width of the small layer; the first candidate with so many warps, or of all."""

    sizes: tuple[int, int, int, int]
    warps: int = 0
    activation: str = "Silu"
    gate: str = "Sigmoid"
    capability: int = 90
    dtype: str = "fp16"
    apart: bool = False  # the second launch

    def __str__(self) -> str:
        named = ["x".join(map(str, self.sizes)), str(self.warps), f"sm_{self.capability}", self.dtype]
        return "-".join([*named, *["apart"] * self.apart])


EARLY, LATE = Case((1, 12544, 32, 8)), Case((1, 49, 1152, 48))
CASES = (
    EARLY,
    LATE,
    Case((64, 12544, 32, 8), dtype="bf16"),
    Case((64, 196, 672, 28), activation="Relu", gate="HardSigmoid"),
    Case((1, 49, 1280, 0)),
    Case((64, 49, 1280, 0)),
    replace(LATE, capability=80),
    replace(LATE, apart=True),
    Case((64, 49, 1152, 48), apart=True),
)
Made = dict[Case, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each case's settings and PTX, and what its machine code uses."""
    return dict(zip(CASES, compiled_ahead(COMPILE, CASES, tmp_path_factory.mktemp("triton")), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_spills_and_reads_are_wide(made: Made, case: Case) -> None:
    ptx, uses = made[case]["ptx"], made[case]["uses"]

    assert f".target sm_{case.capability}" in ptx
    assert 0 < uses["REG"] <= 65536 // (32 * made[case]["candidate"][3])
    assert (uses["STACK"], uses["LOCAL"]) == (0, 0), made[case]["candidate"]
    assert "ld.global.v4.b32" in ptx


@pytest.mark.parametrize("case", CASES, ids=str)
def test_whoever_comes_last_joins_the_parts(made: Made, case: Case) -> None:
    """A mean alone of pixels that one program reads is nobody else's; the second launch waits for the first."""
    counts = not case.apart and (case.sizes[3] > 0 or made[case]["candidate"][2] > 1)

    assert ("gpu.acq_rel" in made[case]["ptx"]) is counts
