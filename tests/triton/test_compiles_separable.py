"""The kernel of two convolutions compiled ahead for GPUs that are not here: nothing spills, tensor cores multiply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.triton.ahead import compiled_ahead

COMPILE = """
from tamago.backends.triton.kernels import separable

def make(case):
    n, c, h, w = case["x"]
    s, size = case["stride"], -(-h // case["stride"])
    found = separable.candidates((n, size, size), case["out"], c, (3, 3), (s, s))
    chosen = next(f for f in found if (f[6] > 1, f[8]) == (case["split"], case["stages"]))
    chosen = case["candidate"] or chosen
    right, down, runs, inner, columns, parts, split, warps, stages = chosen
    geometry = {"H": h, "W": w, "HO": size, "WO": size, "KH": 3, "KW": 3, "SH": s, "SW": s, "PT": 1, "PL": 1}
    fused = {"FIRST": "Relu6", "ACTIVATION": "", "RESIDUAL": True, "AFTER": ""}
    tile = {"RIGHT": right, "DOWN": down, "BM": runs, "BK": inner, "BN": columns, "PARTS": parts, "SPLIT": split}
    constants = {"N": n, "C": c, "O": case["out"], **geometry, **fused, **tile, "ASSEMBLED": True}
    pointers = dict.fromkeys(("x", "taps", "shift", "w", "bias", "residual", "y"), "*" + case["dtype"])
    pointers |= {"partial": "*fp32", "arrived": "*i32" if split > 1 else "*fp32"}  # as it is launched
    options = {"num_warps": warps, "num_stages": stages}
    return {"candidate": chosen}, compiled(separable.separable, pointers, {}, constants, case["capability"], **options)
"""


@dataclass(frozen=True)
class Case:
    """The first candidate that splits the channels, or that does not, with so many stages; or one that is given."""

    x: tuple[int, int, int, int]
    out: int
    stride: int = 1
    split: bool = False
    stages: int = 1
    candidate: tuple[int, ...] | None = None
    capability: int = 90
    dtype: str = "fp16"

    def __str__(self) -> str:
        flags = ["split"] * self.split + ["given"] * (self.candidate is not None)
        sizes = "x".join(map(str, (*self.x, self.out)))
        return "-".join([sizes, str(self.stages), f"sm_{self.capability}", self.dtype, *flags])


CASES = (
    Case((64, 32, 112, 112), 16),
    Case((64, 144, 56, 56), 24, stages=2, dtype="bf16"),
    Case((64, 96, 112, 112), 24, stride=2),
    Case((64, 384, 14, 14), 96, capability=80),
    Case((64, 960, 7, 7), 160, split=True),
    Case((64, 384, 14, 14), 96, candidate=(1, 1, 64, 32, 32, 3, 1, 4, 1)),
)
Made = dict[Case, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each case's settings and PTX, and what its machine code uses."""
    return dict(zip(CASES, compiled_ahead(COMPILE, CASES, tmp_path_factory.mktemp("triton")), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_spills(made: Made, case: Case) -> None:
    ptx, uses = made[case]["ptx"], made[case]["uses"]

    assert f".target sm_{case.capability}" in ptx
    assert 0 < uses["REG"] <= 255
    assert (uses["STACK"], uses["LOCAL"]) == (0, 0), made[case]["candidate"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_tensor_cores_multiply_and_the_rest_is_in_single_precision(made: Made, case: Case) -> None:
    ptx, (_, _, rows, *_, warps, _) = made[case]["ptx"], made[case]["candidate"]
    large = case.capability >= 90 and rows >= 64 and warps >= 4

    assert ("wgmma.mma_async" in ptx) is large
    assert ("mma.sync" in ptx) is not large
    assert "fma.rn.f32" in ptx


@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_and_not_taps_go_through_shared_memory(made: Made, case: Case) -> None:
    """With a tile of the tensor cores' layout for each tap there were 40 barriers and more."""
    ptx, (right, down, _, _, _, parts, *_) = made[case]["ptx"], made[case]["candidate"]

    assert ptx.count("bar.sync") <= 8 + 8 * right * down * parts, made[case]["candidate"]
    assert ("cp.async" in ptx) is (case.stages == 2 and case.candidate is None)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_neighbouring_channels_are_read_together(made: Made, case: Case) -> None:
    assert "ld.global.v4.b32" in made[case]["ptx"] or "cp.async.cg.shared.global" in made[case]["ptx"]
