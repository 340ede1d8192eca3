"""Square products by every form that tuning tries, on a real GPU: `python -m tests.gpu.webgpu_products`.

For each form milliseconds by the device's own clock, TFLOP/s, and the error of some rows against float64: of all of
them together, and the largest beside the largest result.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from tamago.backends.webgpu.device import Device, default_device
from tamago.backends.webgpu.lowering import plan_of
from tamago.backends.webgpu.measure import Bench
from tamago.backends.webgpu.plan import Choice, Dispatch, Plan
from tamago.backends.webgpu.run import Loaded
from tamago.backends.webgpu.target import CANDIDATES
from tests.gpu.webgpu_table import HEADER

KINDS = {"f32": ("float", np.float32), "f16": ("float16", np.float16)}
ROWS = 16  # that errors are taken of


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="2048,4096", help="comma separated")
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = default_device()
    print(device.name)
    found: dict[str, Any] = {"device": device.name}
    for size in map(int, options.sizes.split(",")):
        for kind in KINDS:
            found[f"{kind} {size}"] = rows = products(device, size, kind, options.candidates)
            for number, row in enumerate(rows):
                print(kind, size, "untuned" if number == 0 else f"candidate {number}", json.dumps(row), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def products(device: Device, size: int, kind: str, candidates: int) -> list[dict[str, Any]]:
    """A row for each form, the one that is taken untuned first."""
    name, number = KINDS[kind]
    a, b, y = (f"{name}[{size},{size}]" for _ in "aby")
    model = ir.from_onnx_text(HEADER + f"g ({a} a, {b} b) => ({y} y) {{ y = MatMul(a, b) }}")
    plan, weights = plan_of(model, half=device.half, candidates=candidates, limits=device.limits)
    (dispatch,) = plan.dispatches
    found: list[dict[str, Any]] = []
    with Bench(Loaded(plan, weights, device)) as bench:
        bench.want(dispatch.choices)
        for choice in dispatch.choices:
            try:
                ms = bench.time(dispatch, choice)
            except Exception as error:  # a driver may refuse what another takes
                found.append({**form(plan, choice), "failed": f"{type(error).__name__}: {error}"[:200]})
                continue
            norm, worst = errors(bench, dispatch, choice, np.dtype(number), size)
            figures = {"ms": ms, "TFLOP/s": 2 * size**3 / ms / 1e9, "error": norm, "worst": worst}
            found.append({**form(plan, choice), **figures})
    return found


def form(plan: Plan, choice: Choice) -> dict[str, Any]:
    """What tells one form from another."""
    source = plan.kernels[choice.kernel].source
    threads = source.partition("@workgroup_size(")[2].partition(",")[0]
    sums = "half, in runs" if "fn suffices" in source else "single"
    return {"workgroups": list(choice.workgroups), "threads": int(threads), "sums": sums}


def errors(bench: Any, dispatch: Dispatch, choice: Choice, kind: np.dtype[Any], size: int) -> tuple[float, float]:
    """Of some rows of a form's result on the bench's own data, which is read back."""
    some = slice(None, None, max(size // ROWS, 1))
    a, b = (
        np.frombuffer(bench.device.gpu.queue.read_buffer(bench._buffers[n]), kind).reshape(size, size)
        for n in dispatch.buffers[:2]
    )
    right = a[some].astype(np.float64) @ b.astype(np.float64)
    found = bench._result(dispatch, choice).reshape(size, size)[some].astype(np.float64)
    apart = np.abs(found - right)
    return float(np.linalg.norm(apart) / np.linalg.norm(right)), float(apart.max() / np.abs(right).max())


if __name__ == "__main__":
    main()
