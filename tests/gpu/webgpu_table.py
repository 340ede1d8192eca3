"""WebGPU on a real GPU, through wgpu: `python -m tests.gpu.webgpu_table --json out.json`.

Kernels: the likeliest form and the fastest of those tuning tries, by the device's own clock. Models of well-known
shapes with seeded weights: a whole run, arrays in and arrays out, beside PyPI's onnxruntime-webgpu where `--peer` names
the folder it is installed in; both take turns. One decoding step of a small language model, and where its time goes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx_ir as ir
import torch

import tamago
from tamago.backends.webgpu.device import Device, default_device
from tamago.backends.webgpu.expression import shape_of
from tamago.backends.webgpu.lowering import plan_of
from tamago.backends.webgpu.measure import Bench
from tamago.backends.webgpu.plan import Plan
from tamago.backends.webgpu.recorded import identity
from tamago.backends.webgpu.records import Records
from tamago.backends.webgpu.run import Loaded
from tamago.backends.webgpu.target import CANDIDATES
from tamago.backends.webgpu.tune import jobs_of, tuned
from tamago.compiler.facts import Array
from tamago.compiler.files import write_model
from tamago.compiler.trace import trace
from tests.gpu.webgpu_models import NAMES, llama, model_of

KERNELS = {  # text form, and multiplications with additions of one run
    "MatMul f32 4096": (
        "g (float[4096,4096] a, float[4096,4096] b) => (float[4096,4096] y) { y = MatMul(a, b) }",
        4096**3,
    ),
    "MatMul f32 2048": (
        "g (float[2048,2048] a, float[2048,2048] b) => (float[2048,2048] y) { y = MatMul(a, b) }",
        2048**3,
    ),
    "MatMul f16 4096": (
        "g (float16[4096,4096] a, float16[4096,4096] b) => (float16[4096,4096] y) { y = MatMul(a, b) }",
        4096**3,
    ),
    "MatMul f32 128x384x1024": (
        "g (float[128,384] a, float[384,1024] b) => (float[128,1024] y) { y = MatMul(a, b) }",
        128 * 384 * 1024,
    ),
    "MatMul f32 1x4096x4096": (
        "g (float[1,4096] a, float[4096,4096] b) => (float[1,4096] y) { y = MatMul(a, b) }",
        4096**2,
    ),
    "MatMul f16 1x4096x4096": (
        "g (float16[1,4096] a, float16[4096,4096] b) => (float16[1,4096] y) { y = MatMul(a, b) }",
        4096**2,
    ),
    "Conv 3x3 64 56²": (
        "g (float[1,64,56,56] x, float[64,64,3,3] w) => (float[1,64,56,56] y) { y = Conv <pads = [1,1,1,1]> (x, w) }",
        64 * 64 * 9 * 56 * 56,
    ),
    "Conv 1x1 96-24 56²": (
        "g (float[1,96,56,56] x, float[24,96,1,1] w) => (float[1,24,56,56] y) { y = Conv(x, w) }",
        96 * 24 * 56 * 56,
    ),
    "depthwise 3x3 144 56²": (
        "g (float[1,144,56,56] x, float[144,1,3,3] w) => (float[1,144,56,56] y) "
        "{ y = Conv <group = 144, pads = [1,1,1,1]> (x, w) }",
        144 * 9 * 56 * 56,
    ),
    "Softmax 4096x1024": ("g (float[4096,1024] x) => (float[4096,1024] y) { y = Softmax(x) }", 4096 * 1024),
    "LayerNormalization 4096x768": (
        "g (float[4096,768] x, float[768] s, float[768] b) => (float[4096,768] y) { y = LayerNormalization(x, s, b) }",
        4096 * 768,
    ),
    "ReduceSum 4096x4096": (
        "g (float[4096,4096] x) => (float[4096] y) "
        "{ a = Constant <value_ints = [1]> ()  y = ReduceSum <keepdims = 0> (x, a) }",
        4096 * 4096,
    ),
}
DECODING = "decoding"
HEADER = '<ir_version: 10, opset_import: ["" : 21]> '
SLOT = 0.05  # seconds of runs in a turn
SLOTS = 15


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="folder of onnxruntime-webgpu")
    parser.add_argument("--models", default=",".join((*NAMES, DECODING)), help="comma separated, or none")
    parser.add_argument("--seconds", type=float, default=8.0, help="to tune each kernel for")
    parser.add_argument("--cuda", action="store_true", help="compile the models for the Triton target too")
    parser.add_argument("--store", help="where tuning records are kept")
    parser.add_argument("--kernels", default=",".join(KERNELS), help="comma separated, or none")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = default_device()
    found: dict[str, Any] = {
        "device": device.name,
        "features": sorted(device.features),
        "versions": {p: version(p) for p in ("wgpu", "torch", "onnx")},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernels": {},
        "models": {},
    }
    for name in [n for n in options.kernels.split(",") if n]:
        found["kernels"][name] = kernel(device, *KERNELS[name], options.seconds)
        print(name, json.dumps(found["kernels"][name]), flush=True)
    ratios = [k["default_ms"] / k["best_ms"] for k in found["kernels"].values()]
    found["tuning"] = float(np.exp(np.mean(np.log(ratios)))) if ratios else None
    for name in [n for n in options.models.split(",") if n in NAMES]:
        found["models"][name] = model(device, name, options.peer, options.store)
        if options.cuda:
            found["models"][name] |= on_cuda(name, options.store)
        print(name, json.dumps(found["models"][name]), flush=True)
    if DECODING in options.models.split(","):
        found["decoding"] = decoding(options.store)
        print(json.dumps(found["decoding"]), flush=True)
    gains = [m["peer_ms"] / m["ms"] for m in found["models"].values() if "peer_ms" in m]
    found["over_peer"] = float(np.exp(np.mean(np.log(gains)))) if gains else None
    print(json.dumps({k: found[k] for k in ("device", "tuning", "over_peer")}))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def kernel(device: Device, text: str, work: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of the likeliest form and of the fastest, which computes the same."""
    graph = ir.from_onnx_text(HEADER + text)
    shapes = {v.name or "": shape_of(v) for v in graph.graph.inputs}
    plan, weights = plan_of(graph, shapes, half=device.half, candidates=CANDIDATES, limits=device.limits)
    start = time.perf_counter()
    loaded = Loaded(plan, weights, device)
    best = tuned(plan, loaded, seconds)
    spent = time.perf_counter() - start
    with Bench(loaded) as bench:
        first, last = (_shortest(bench, p) for p in (plan, best))
    candidates = sum(len(d.choices) for d in plan.dispatches)
    return {
        "default_ms": first,
        "best_ms": min(first, last),
        "TFLOP/s": 2 * work / min(first, last) / 1e9,
        "candidates": candidates,
        "seconds": spent,
    }


def _shortest(bench: Bench, plan: Plan) -> float:
    return min(sum(bench.time(d, d.choices[0]) for d in plan.dispatches) for _ in range(3))


def model(device: Device, name: str, peer: Path | None, store: str | None) -> dict[str, Any]:
    """One model: a run from arrays to arrays, without transfers, and the peer's."""
    module, args = model_of(name)
    start = time.perf_counter()
    compiled = tamago.compile(module, args, target="webgpu", store=store, time_limit=90.0)
    spent = time.perf_counter() - start
    program: Any = compiled.program
    names = [v.name or "" for v in compiled.graph.graph.inputs][: len(args)]
    feeds = {n: a.numpy() for n, a in zip(names, args, strict=True)}
    with torch.no_grad():
        wanted = module.double()(*[a.double() if a.is_floating_point() else a for a in args]).numpy()
    module.float()
    answer = program(feeds)[0]
    loaded: Loaded = program._whole.loaded(feeds)
    found: dict[str, Any] = {
        "compile_s": spent,
        "stages_s": compiled.report.stages,
        "notes": compiled.report.notes,
        "dispatches": len(loaded.plan.dispatches),
        "error": _error(answer, wanted),
        "resident_ms": _median(loaded.finished),
    }
    found |= _tuning(compiled.graph, loaded, program._records)
    runs: list[Callable[[int], float]] = [lambda n: _timed(lambda: program(feeds), n)]
    if peer is None:
        return found | {"ms": float(np.median([_slot(runs[0]) for _ in range(SLOTS)]))}
    with (
        tempfile.TemporaryDirectory(prefix="tamago-webgpu-") as folder,
        Peer(peer, Path(folder), module, args) as other,
    ):
        runs.append(other.time)
        samples = [[_slot(run) for run in runs] for _ in range(SLOTS)]
        ours, theirs = np.median(np.asarray(samples), axis=0).tolist()
        return found | {
            "ms": ours,
            "peer_ms": theirs,
            "peer": other.version,
            "peer_error": _error(other.answer, wanted),
        }


def _tuning(graph: ir.Model, loaded: Loaded, records: Records | None) -> dict[str, Any]:
    """How many times faster a model's kernels are than in their likeliest forms: each kind once, geometric mean."""
    shapes = {given.name: given.shape for given in loaded.plan.inputs}
    device = loaded.device
    plan, weights = plan_of(graph, shapes, half=device.half, candidates=CANDIDATES, limits=device.limits)
    held = Loaded(plan, weights, device)
    best = tuned(plan, held, 0.0, records)
    pairs = {identity(plan, d): (d, e) for d, e in zip(plan.dispatches, best.dispatches, strict=True)}
    gains: list[float] = []
    with Bench(held) as bench:
        for before, after in pairs.values():
            first, last = (bench.time(before, d.choices[0]) for d in (before, after))
            if len(before.choices) > 1:
                gains.append(1.0 if before.choices[0] == after.choices[0] else first / last)
    return {"tuning": float(np.exp(np.mean(np.log(gains)))) if gains else 1.0, "kinds": len(gains)}


def on_cuda(name: str, store: str | None) -> dict[str, Any]:
    """The same model by the other GPU target: milliseconds of a replayed run, without transfers."""
    from tamago.backends.triton.timing import interleave_graphs

    module, args = model_of(name)
    start = time.perf_counter()
    compiled = tamago.compile(module, args, target="cuda", store=store, time_limit=60.0)
    spent = time.perf_counter() - start
    program: Any = compiled.program
    tensors = program.tensors({n: a.cuda() for n, a in zip(program.inputs, args, strict=False)})
    (timing,) = interleave_graphs([program.replayable(tensors).replay], rounds=15, seconds=2.0)
    return {"cuda_ms": timing.median, "cuda_compile_s": spent}


class Peer:
    """onnxruntime-webgpu in a process of its own, with the model as it was traced."""

    def __init__(self, installed: Path, folder: Path, module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        traced = trace(module, args).model
        path, feeds, self._out = folder / "model.onnx", folder / "feeds.npz", folder / "out.npz"
        write_model(traced, path)
        names = [v.name or "" for v in traced.graph.inputs]
        np.savez(feeds, **{n: a.numpy() for n, a in zip(names, args, strict=True)})  # pyright: ignore[reportArgumentType]
        self._arguments = [str(Path(__file__).with_name("peer_child.py")), str(path), str(feeds), str(self._out)]
        self._environment = {**os.environ, "PYTHONPATH": str(installed)}

    def __enter__(self) -> Self:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([sys.executable, *self._arguments], env=self._environment, **pipes)
        ready = self._line().split()
        if ready[:1] != ["ready"]:
            self.__exit__()
            raise RuntimeError("onnxruntime-webgpu does not run the model here")
        self.version = ready[1]
        with np.load(self._out) as held:
            self.answer: Array = held[held.files[0]]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def time(self, runs: int) -> float:
        """Milliseconds of a run."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{runs}\n")
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def decoding(store: str | None) -> dict[str, Any]:
    """One step with a cache of 512: wall time, and how much of it is the device's, and the host's."""
    torch.manual_seed(0)
    compiled = tamago.compile_causal_lm(
        llama().eval(), max_length=512, prompt_lengths=(32,), target="webgpu", store=store
    )
    program: Any = compiled.step.program
    feeds = _feeds(compiled.step.graph)
    program(feeds)
    loaded: Loaded = program._whole.loaded(feeds)
    with Bench(loaded) as bench:
        times = [
            (job, job.count * bench.time(job.dispatch, job.dispatch.choices[0]))
            for job in jobs_of(loaded.plan).values()
        ]
    kernels = sorted(((ms, job.count, job.dispatch.label) for job, ms in times), reverse=True)
    submitted = _median(loaded.submit, after=loaded.finished)
    return {
        "dispatches": len(loaded.plan.dispatches),
        "verdict": compiled.step.report.verdict,
        "step_ms": _median(loaded.finished),
        "host_ms": submitted,
        "kernels_ms": sum(ms for ms, _, _ in kernels),
        "largest": [{"ms": ms, "count": count, "label": label} for ms, count, label in kernels[:8]],
        "tokens_s": compiled.measure(new_tokens=64).tokens_per_second,
        "notes": compiled.step.report.notes,
    }


def _feeds(graph: ir.Model) -> dict[str, Array]:
    inputs = [v for v in graph.graph.inputs if v.dtype is not None]
    return {v.name or "": np.zeros(shape_of(v), v.dtype.numpy()) for v in inputs if v.dtype is not None}


def _error(found: Array, wanted: Array) -> float:
    return float(np.linalg.norm(np.subtract(found, wanted, dtype=np.float64)) / np.linalg.norm(wanted))


def _slot(run: Callable[[int], float]) -> float:
    return run(max(1, int(SLOT * 1e3 / run(1))))


def _timed(run: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start) / count * 1e3


def _median(run: Callable[[], object], after: Callable[[], object] | None = None, rounds: int = 100) -> float:
    samples: list[float] = []
    for _ in range(rounds):
        samples.append(_timed(run, 1))
        if after is not None:
            after()
    return float(np.median(samples))


if __name__ == "__main__":
    main()
