"""The kernels compiled ahead of time for GPUs that are not here: nothing spills, and loads are as wide as can be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

CAPABILITIES = (80, 90)
MOST_CANDIDATES = 48
# Triton either compiles or interprets in one process, and other tests interpret.
COMPILE = """
import json, subprocess, sys, tempfile
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tamago.backends.triton.kernels import attention_step, gemv

def compiled(kernel, pointers, numbers, constants, warps, capability):
    names = [p.name for p in kernel.params]
    signature = {n: pointers.get(n) or numbers.get(n) or "constexpr" for n in names}
    aligned = {(names.index(n),): [["tt.divisibility", 16]] for n in pointers}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    options = {"num_warps": warps, **({"launch_pdl": True} if constants["EARLY"] else {})}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)

def resources(cubin):
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([tool, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout
    words = [w for w in said.split() if ":" in w and w.rpartition(":")[2].isdigit()]
    return {w.rpartition(":")[0]: int(w.rpartition(":")[2]) for w in words}

B = "*bf16"
def make(case):
    early = case["early"]
    if case["kernel"] == "gemv":
        rows, columns, warps = case["candidate"] or gemv.DEFAULT
        fused = {"NORM": True, "GATED": case["gated"], "BIAS": False, "RESIDUAL": True, "ACTIVATION": "Silu"}
        constants = {"N": 4096, "K": 4096, **fused, "BN": rows, "BK": columns, "EARLY": early}
        pointers = dict.fromkeys(("x", "w", "gate", "scale", "bias", "residual", "y"), B)
        return compiled(gemv.gemv, pointers, {"eps": "fp32"}, constants, warps, case["capability"])
    parts, slots, warps = case["candidate"] or attention_step.default(case["size"])
    constants = {"HEADS": 8, "SHARED": 4, "D": case["size"], "LENGTH": 1024, "PARTS": parts, "BL": slots}
    constants["EARLY"] = early
    pointers = dict.fromkeys(("q", "k", "v", "cos", "sin", "keys", "values", "y"), B)
    pointers |= {"position": "*i64", "partial": "*fp32", "arrived": "*i32"}
    return compiled(attention_step.attention_step, pointers, {"scale": "fp32"}, constants, warps, case["capability"])

for case in json.load(sys.stdin):
    made = make(case)
    print(json.dumps({"ptx": made.asm["ptx"], "uses": resources(made.asm["cubin"])}), flush=True)
"""


@dataclass(frozen=True)
class Case:
    """A kernel with these settings (None: its defaults) on a GPU of this compute capability."""

    kernel: str
    candidate: tuple[int, int, int] | None
    capability: int
    early: bool = False
    gated: bool = False
    size: int = 128  # of a head

    def __str__(self) -> str:
        early, gated = ("-early" if self.early else ""), ("-gated" if self.gated else "")
        size = f"-{self.size}" if self.kernel == "attention_step" else ""
        return f"{self.kernel}{size}-{self.candidate or 'default'}-sm_{self.capability}{early}{gated}"


CASES = (
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
    folder = tmp_path_factory.mktemp("triton")
    script = folder / "compile.py"
    script.write_text(COMPILE)
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET" and not k.startswith("COV_")}
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps([vars(case) for case in CASES]),
        env=environment | {"TRITON_CACHE_DIR": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


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
    """Four words of 32 bits a thread, the widest load there is."""
    assert "ld.global.v4.b32" in made[case]["ptx"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_only_a_kernel_that_starts_early_waits_for_the_one_ahead(made: dict[Case, dict[str, Any]], case: Case) -> None:
    ptx = made[case]["ptx"]

    assert ("griddepcontrol.wait" in ptx) is case.early
    assert ("griddepcontrol.launch_dependents" in ptx) is case.early


def test_attention_multiplies_on_the_tensor_cores(made: dict[Case, dict[str, Any]]) -> None:
    for case in CASES:
        assert ("mma" in made[case]["ptx"]) is (case.kernel == "attention_step"), str(case)


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
