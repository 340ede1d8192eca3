"""Image models on a GPU beside torch.compile: `python -m tests.gpu.vision_table --json out.json`.

Half precision, one batch size after the other. All take turns in one process, timed by the device's own clock as
replays of captured graphs; torch.compile is given its model and pictures channels last. Errors are of the logits, by
‖y − y₀‖/‖y₀‖ against the same weights in float64.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tamago
from tamago.backends.triton.timing import interleave_graphs
from tests.gpu.vision_models import NAMES, model_of, pictures


def main() -> None:
    """Compile, check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(NAMES))
    parser.add_argument("--batches", default="64,1")
    parser.add_argument("--modes", default="reduce-overhead", help="of torch.compile, comma separated")
    parser.add_argument("--store", help="where tuning records are kept")
    parser.add_argument("--again", action="store_true", help="compile a second time, with what the first measured")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.models.split(","):
        for batch in map(int, options.batches.split(",")):
            modes = [m for m in options.modes.split(",") if m]
            rows.append(measure(name, batch, modes, options.store, again=options.again))
            print(json.dumps(rows[-1]), flush=True)
            if options.json is not None:
                options.json.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")


def environment() -> dict[str, str]:
    """Where and with what it was measured."""
    return {
        "device": torch.cuda.get_device_name(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **{name: version(name) for name in ("torch", "triton", "transformers")},
    }


def measure(name: str, batch: int, modes: Sequence[str], store: str | None, *, again: bool = False) -> dict[str, Any]:
    """One model: milliseconds of each, errors, seconds to compile, and to compile once more."""
    exact = model_of(name)
    model, x = copy.deepcopy(exact).half(), pictures(batch).half()
    compiled, times = _compiled(model, x, store)
    second = _compiled(model, x, store)[1] if again else None
    on_gpu = x.cuda()
    with torch.no_grad():
        wanted = exact.double().cuda()(on_gpu.double())
    found: dict[str, Any] = {
        "model": name,
        "batch": batch,
        "verdict": compiled.report.verdict,
        **times,
        "again": second,
        "notes": compiled.report.notes,
        "operators": compiled.report.after.operators,
        "errors": {"tamago": _error(compiled(on_gpu), wanted)},
    }
    captured = compiled.program.replayable([on_gpu])  # pyright: ignore[reportAttributeAccessIssue]
    runs: dict[str, Callable[[], object]] = {"tamago": captured.replay}
    for mode in modes:
        run, output = torch_compiled(model, on_gpu, mode)
        runs[mode], found["errors"][mode] = run, _error(output, wanted)
    found["errors"]["eager"] = _error(model.cuda()(on_gpu).detach(), wanted)
    timings = interleave_graphs(list(runs.values()), rounds=31, seconds=8.0)
    found["milliseconds"] = {k: [t.median, t.spread] for k, t in zip(runs, timings, strict=True)}
    torch.compiler.reset()
    return found


def _compiled(model: nn.Module, x: Tensor, store: str | None) -> tuple[Any, dict[str, Any]]:
    """A compiled model, and how long that took."""
    start = time.perf_counter()
    compiled = tamago.compile(copy.deepcopy(model), (x,), target="cuda", store=store)
    seconds = time.perf_counter() - start
    return compiled, {
        "compile_seconds": round(seconds, 1),
        "stages": {k: round(v, 1) for k, v in compiled.report.stages.items()},
    }


def torch_compiled(model: nn.Module, x: Tensor, mode: str) -> tuple[Callable[[], object], Tensor]:
    """A replay of torch.compile's program, and its result."""
    torch.compiler.reset()
    laid = x.contiguous(memory_format=torch.channels_last)
    last: Any = copy.deepcopy(model).cuda()
    fast = torch.compile(last.to(memory_format=torch.channels_last), mode=mode)

    def run() -> Tensor:
        with torch.no_grad():
            return fast(laid)

    for _ in range(3):  # compiles, warms up, captures
        run()
    return run, run().clone()


def _error(found: Any, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


if __name__ == "__main__":
    main()
