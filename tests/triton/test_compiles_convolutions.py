"""The kernels of convolutions compiled ahead of time for GPUs that are not here: nothing spills, tensor cores multiply.

What is compiled are the settings that `candidates()` would have measured first for shapes of known networks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from tamago.backends.triton.kernels.depthwise_walks import AHEAD, AT_ONCE, IN_TURN, SLIDING, SLIDING_AHEAD, SPREAD
from tests.triton.ahead import compiled_ahead

CAPABILITIES = (80, 90)
WGMMA_ROWS = 64  # of a product that four warps of compute capability 9.0 make together
# Triton either compiles or interprets in one process, and other tests interpret.
COMPILE = """
from math import prod
from tamago.backends.triton.kernels import convolution, depthwise, depthwise_settings
from tamago.backends.triton.kernels import sliding_depthwise, sliding_settings
from tamago.backends.triton.kernels.depthwise_walks import SLIDING, SLIDING_AHEAD

def geometry(case):
    (n, _, h, w), (_, _, kh, kw), (sh, sw), (pt, pl, pb, pr) = (case[k] for k in ("x", "w", "strides", "pads"))
    size = {"HO": (h + pt + pb - kh) // sh + 1, "WO": (w + pl + pr - kw) // sw + 1}
    return n, {"H": h, "W": w, **size, "KH": kh, "KW": kw, "SH": sh, "SW": sw, "PT": pt, "PL": pl}

def gathered(case):
    n, sizes = geometry(case)
    out, channels, *taps = case["w"]
    pixels = n * sizes["HO"] * sizes["WO"]
    found = convolution.candidates(pixels, out, channels, prod(taps), residual=case["residual"])
    chosen = next(c for c in found if (c[3] > 1) == case["split"])
    rows, columns, inner, split, warps, stages = chosen
    strides = {"XN": channels * sizes["H"] * sizes["W"], "XC": 1, "XH": sizes["W"] * channels, "XW": channels}
    fused = {"SCALED": case["scaled"], "RESIDUAL": case["residual"]}
    fused |= {"ACTIVATION": case["activation"], "AFTER": case["after"]}
    tile = {"BM": rows, "BN": columns, "BK": inner, "SPLIT": split, "GROUP": convolution.GROUP}
    tile["EARLY"], led = early(case["capability"])
    constants = {"PIXELS": pixels, "O": out, "C": channels, **sizes, **strides, **fused, **tile}
    pointers = dict.fromkeys(("x", "w", "bias", "scale", "residual", "y"), "*" + case["dtype"])
    pointers |= {"partial": "*fp32", "arrived": "*i32" if split > 1 else "*fp32"}  # as it is launched
    options = {"num_warps": warps, "num_stages": stages, **led}
    return chosen, compiled(convolution.convolution, pointers, {}, constants, case["capability"], **options)

def by_channel(case):
    n, sizes = geometry(case)
    channels, _, *taps = case["w"]
    pixels, size = n * sizes["HO"] * sizes["WO"], (sizes["WO"], sizes["HO"])
    kind = {"normed": case["normed"], "summed": case["summed"]}
    found = depthwise_settings.candidates(pixels, *size, channels, taps, case["strides"], **kind)
    fitting = [c for c in found if case["walk"] in (None, c[-1])]
    chosen = fitting[0]
    if case["largest"]:
        chosen = max(fitting, key=lambda c: sliding_settings.registers_of(c, taps, case["strides"]))
    right, down, runs, block, warps, walk = chosen
    tile = {"RIGHT": right, "DOWN": down, "RUNS": runs, "BC": block}
    tile["EARLY"], led = early(case["capability"])
    constants = {"N": n, "C": channels, **sizes, **tile, "ACTIVATION": case["activation"], "SUMMED": case["summed"]}
    pointers = dict.fromkeys(("x", "w", "bias", "y"), "*" + case["dtype"])
    pointers["sums_of"] = "*fp32" if case["summed"] else "*" + case["dtype"]
    options = {"num_warps": warps, **led}
    if walk in (SLIDING, SLIDING_AHEAD):
        constants["AHEAD"] = walk == SLIDING_AHEAD
        kernel = sliding_depthwise.sliding_depthwise
        return chosen, compiled(kernel, pointers, {}, constants, case["capability"], **options)
    pointers |= dict.fromkeys(("gamma", "beta"), "*" + case["dtype"])
    constants |= {"NORMED": case["normed"], "WALK": walk}
    return chosen, compiled(depthwise.depthwise, pointers, {"eps": "fp32"}, constants, case["capability"], **options)

def make(case):
    chosen, made = (gathered if case["kernel"] == "convolution" else by_channel)(case)
    return {"candidate": chosen}, made
"""


@dataclass(frozen=True)
class Case:
    """A convolution on a GPU of this compute capability, and what is fused with it."""

    kernel: str
    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    capability: int = 90
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    split: bool = False  # the first candidate that splits the inner dimension, or the first that does not
    scaled: bool = False
    residual: bool = False
    activation: str = ""
    after: str = ""
    normed: bool = False
    summed: bool = False
    dtype: str = "fp16"
    walk: int | None = None  # the first candidate that reads lines so, or the first
    largest: bool = False  # of those that read lines so, all of them sliding, that whose threads hold most

    def __str__(self) -> str:
        sizes = "-".join("x".join(map(str, s)) for s in (self.x, self.w))
        flags = [f for f in ("split", "scaled", "residual", "normed", "summed", "largest") if getattr(self, f)]
        walk = [] if self.walk is None else [f"walk{self.walk}"]
        return "-".join([self.kernel, sizes, f"sm_{self.capability}", self.dtype, *flags, *walk])


SAME = (1, 1, 1, 1)
CONV = partial(Case, "convolution")
RESNET = CONV((32, 64, 56, 56), (64, 64, 3, 3), pads=SAME, residual=True, after="Relu")
LATE = CONV((1, 512, 7, 7), (512, 512, 3, 3), pads=SAME, split=True, activation="Relu")
FIRST = CONV((8, 3, 224, 224), (32, 3, 3, 3), strides=(2, 2), pads=(0, 0, 1, 1), activation="Silu")
AFFINE = CONV((6272, 384, 1, 1), (1536, 384, 1, 1), activation="Gelu", dtype="bf16")
WEIGHED = CONV((8, 144, 28, 28), (40, 144, 1, 1), scaled=True, residual=True)
DEEP = partial(Case, "depthwise")
MOBILE = DEEP((8, 144, 56, 56), (144, 1, 3, 3), strides=(2, 2), pads=SAME, activation="Relu6")
CONVNEXT = DEEP((64, 96, 56, 56), (96, 1, 7, 7), pads=(3, 3, 3, 3), normed=True)
SLID = (
    DEEP((64, 96, 112, 112), (96, 1, 3, 3), strides=(2, 2), pads=SAME, walk=SLIDING_AHEAD, largest=True),
    DEEP(
        (64, 240, 28, 28), (240, 1, 5, 5), pads=(2, 2, 2, 2), activation="Silu", summed=True, walk=SLIDING, largest=True
    ),
    DEEP((64, 96, 56, 56), (96, 1, 7, 7), pads=(3, 3, 3, 3), walk=SLIDING_AHEAD, largest=True),
    DEEP(
        (64, 144, 56, 56), (144, 1, 5, 5), strides=(2, 2), pads=(2, 2, 2, 2), capability=80, walk=SLIDING, largest=True
    ),
)
FEW = DEEP((1, 768, 7, 7), (768, 1, 7, 7), pads=(3, 3, 3, 3), normed=True, walk=SPREAD)
CASES = (
    *(replace(CONVNEXT, walk=walk) for walk in (IN_TURN, AHEAD)),
    replace(CONVNEXT, x=(1, 384, 14, 14), w=(384, 1, 7, 7), walk=AT_ONCE),
    FEW,
    DEEP((64, 1152, 7, 7), (1152, 1, 5, 5), pads=(2, 2, 2, 2), activation="Silu", summed=True, walk=AT_ONCE),
    *(
        replace(c, capability=n)
        for c in (RESNET, LATE, FIRST, AFFINE, WEIGHED, MOBILE, *SLID[:2])
        for n in CAPABILITIES
    ),
    *SLID[2:],
)
Made = dict[Case, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each case's settings and PTX, and what its machine code uses."""
    return dict(zip(CASES, compiled_ahead(COMPILE, CASES, tmp_path_factory.mktemp("triton")), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_kernel_compiles_for_its_gpu_and_keeps_everything_in_registers(made: Made, case: Case) -> None:
    ptx, uses = made[case]["ptx"], made[case]["uses"]

    assert f".target sm_{case.capability}" in ptx
    assert 0 < uses["REG"] <= 255
    assert (uses["STACK"], uses["LOCAL"]) == (0, 0), made[case]["candidate"]
    assert ".local" not in ptx


@pytest.mark.parametrize("case", [c for c in CASES if c.kernel == "convolution"], ids=str)
def test_a_convolution_multiplies_on_the_tensor_cores(made: Made, case: Case) -> None:
    """Those of compute capability 9.0 take 64 rows or more at once; else it is the instruction of 8.0."""
    ptx, rows = made[case]["ptx"], made[case]["candidate"][0]
    large = case.capability >= 90 and rows >= WGMMA_ROWS

    assert ("wgmma.mma_async" in ptx) is large
    assert ("mma.sync" in ptx) is not large


@pytest.mark.parametrize("case", [c for c in CASES if c.kernel == "depthwise"], ids=str)
def test_a_depthwise_convolution_has_nothing_for_them(made: Made, case: Case) -> None:
    assert "mma" not in made[case]["ptx"]
    assert "fma.rn.f32" in made[case]["ptx"]


@pytest.mark.parametrize("case", [c for c in CASES if c.kernel == "convolution"], ids=str)
def test_whoever_comes_last_adds_the_parts_up(made: Made, case: Case) -> None:
    """A counter that releases what a program wrote, and acquires what the others did."""
    assert ("gpu.acq_rel" in made[case]["ptx"]) is case.split
