"""What an error budget buys: `python -m tests.benchmarks.budget model.onnx data.npz --labels labels --rises 0.01`.

`data.npz` holds the model's inputs by name, samples along the first axis, and the labels. A part of them calibrates;
the rest, which the compiler never sees, is what the rise in the table is measured on. Every row is a program of
`tamago.frontier`: its bound, the rise measured on the unseen samples with its standard error, the size of its weights,
and for each workload how many times faster it is than ONNX Runtime on the original, interleaved.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tamago
from tamago.compiler.approximate.acceptance import Evidence, metric_drop, paired_rise

Sample = tuple[dict[str, Any], Any]


def main() -> None:
    """Read, search, measure on what was not seen, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--labels", required=True, help="the array of class numbers")
    parser.add_argument("--accuracy", action="store_true", help="judge accuracy (absolute drop), not cross-entropy")
    parser.add_argument("--rises", default="0.001,0.0025,0.005,0.01,0.02,0.05,0.1")
    parser.add_argument("--calibrate", type=int, default=64, help="samples that calibrate, drawn at random")
    parser.add_argument("--unseen", type=int, default=64, help="samples that measure")
    parser.add_argument("--workload", action="append", default=[], help="sizes of the first axes, as in 8,128")
    parser.add_argument("--objective", default="latency", choices=["latency", "size"])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    samples = _samples(options)
    seen, unseen = samples[: options.calibrate], samples[options.calibrate :][: options.unseen]
    budget = tamago.Budget(metric=_accuracy, drop=0.0) if options.accuracy else tamago.Budget(loss="cross-entropy")
    front = tamago.frontier(
        options.model,
        seen[0][0],
        budget=budget,
        calibration=seen,
        rises=[float(r) for r in options.rises.split(",")],
        workloads=[(_sized(samples, w), 1.0) for w in options.workload] or None,
        objective=options.objective,
        threads=options.threads,
    )
    original = tamago.load(options.model, threads=options.threads)
    for compiled in front:
        print(_row(compiled, _rise(original, compiled, unseen, accuracy=options.accuracy)))


def _samples(options: argparse.Namespace) -> list[Sample]:
    with np.load(options.data, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    labels = arrays.pop(options.labels)
    order = np.random.default_rng(0).permutation(len(labels))[: options.calibrate + options.unseen]
    return [({n: a[i : i + 1] for n, a in arrays.items()}, labels[i : i + 1]) for i in order]


def _sized(samples: list[Sample], text: str) -> dict[str, Any]:
    sizes = [int(s) for s in text.split(",")]
    batch = {n: np.concatenate([s[0][n] for s in samples[: sizes[0]]]) for n in samples[0][0]}
    return {n: a[tuple(slice(size) for size in sizes[: a.ndim])] for n, a in batch.items()}


def _accuracy(outputs: Any, targets: Any) -> float:
    return float(
        np.mean([int(o.argmax(-1).reshape(-1)[0]) == int(t[0]) for o, t in zip(outputs, targets, strict=True)])
    )


def _rise(original: Any, compiled: Any, samples: list[Sample], *, accuracy: bool) -> Evidence:
    before, after = ([torch.from_numpy(np.asarray(p(x)[0])) for x, _ in samples] for p in (original, compiled))
    targets = [t for _, t in samples]
    if accuracy:

        def over(outputs: list[torch.Tensor]) -> Any:
            return lambda part: _accuracy([outputs[i] for i in part], [targets[i] for i in part])

        return metric_drop(over(before), over(after), len(samples))
    return paired_rise(
        *([_cross_entropy(o, t) for o, t in zip(found, targets, strict=True)] for found in (before, after))
    )


def _cross_entropy(logits: torch.Tensor, labels: Any) -> float:
    rows = logits.reshape(-1, logits.shape[-1])
    return float(torch.nn.functional.cross_entropy(rows, torch.from_numpy(np.asarray(labels)).reshape(-1).long()))


def _row(compiled: tamago.CompiledModel, rise: Evidence) -> str:
    report, found = compiled.report, compiled.report.approximation
    times = [] if found is None or compiled.report.verdict.find("budget") < 0 else found.workloads
    speed = "  ".join(f"{w.ratio:.2f}x ({w.low:.2f}-{w.high:.2f})" for w in times)
    bound = "exact" if not times or found is None else found.budget
    size = f"{report.after.bytes / 1e6:.2f} of {report.before.bytes / 1e6:.2f} MB"
    return f"{bound:32} unseen {rise.value:+.4f} ± {rise.error:.4f}  {size}  {speed}"


if __name__ == "__main__":
    main()
