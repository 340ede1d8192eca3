"""Kernels compiled for GPUs that are not here, in a process of its own: Triton compiles or interprets in one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEFORE = """
import json, subprocess, sys, tempfile
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.experimental.gluon._runtime import GluonASTSource, GluonJITFunction

def compiled(kernel, pointers, numbers, constants, capability, **options):
    names = [p.name for p in kernel.params]
    signature = {n: pointers.get(n) or numbers.get(n) or "constexpr" for n in names}
    aligned = {(names.index(n),): [["tt.divisibility", 16]] for n in pointers}
    language = GluonASTSource if isinstance(kernel, GluonJITFunction) else ASTSource
    source = language(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)

def early(capability):
    # as a launch of many programs has it: what the kernel is told, and what the driver is
    return (2, {"launch_pdl": True}) if capability >= 90 else (0, {})

def resources(cubin):
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([tool, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout
    words = [w for w in said.split() if ":" in w and w.rpartition(":")[2].isdigit()]
    return {w.rpartition(":")[0]: int(w.rpartition(":")[2]) for w in words}
"""
AFTER = """
for case in json.load(sys.stdin):
    said, made = make(case)
    print(json.dumps({**said, "ptx": made.asm["ptx"], "uses": resources(made.asm["cubin"])}), flush=True)
"""


def compiled_ahead(making: str, cases: Sequence[Any], folder: Path) -> list[dict[str, Any]]:
    """Of each case its PTX, what its machine code uses, and what the script says besides.

    Args:
        making: a script that defines `make(case)`, which gives what it says and the compiled kernel; it may call
            `compiled(kernel, pointers, numbers, constants, capability, **options)`.
        cases: dataclasses, which the script gets as dictionaries.
        folder: for the script and Triton's cache.
    """
    script = folder / "compile.py"
    script.write_text(BEFORE + making + AFTER)
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET" and not k.startswith("COV_")}
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps([vars(case) for case in cases]),
        env=environment | {"TRITON_CACHE_DIR": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(cases)
    return found
