"""What an error budget buys: `python -m tests.benchmarks.budget model.onnx data.npz --labels labels --rises 0.01`.

`data.npz` holds the model's inputs by name, samples along the first axis, and the labels. A part of them calibrates;
the rest, which the compiler never sees, is what the rise in the table is measured on. Every row is a program of
`tamago.frontier`: its bound, the rise measured on the unseen samples with its standard error, the size of its weights,
and for each workload how many times faster it is than ONNX Runtime on the original, interleaved. With `--alone` each
method is then searched with by itself, and the best of them stands beside the joint choice.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tamago
from tamago.compiler.approximate.acceptance import Evidence, metric_drop, paired_rise
from tamago.compiler.front import part_of_time
from tamago.rewrites import all_methods, all_structures

Compiled = tamago.CompiledModel
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
    parser.add_argument("--alone", action="store_true", help="compare with every method by itself")
    options = parser.parse_args()
    samples = _samples(options)
    unseen = samples[options.calibrate :][: options.unseen]
    original = tamago.load(options.model, threads=options.threads)
    joint = _front(options, samples, None)
    for compiled in joint.values():
        print(_row(compiled, _rise(original, compiled, unseen, accuracy=options.accuracy)), flush=True)
    if options.alone:
        singles = {m.name: _front(options, samples, [m.name]) for m in (*all_methods(), *all_structures())}
        for bound, compiled in joint.items():
            _beside(bound, compiled, singles, size=options.objective == "size")


def _front(options: argparse.Namespace, samples: list[Sample], methods: list[str] | None) -> dict[str, Compiled]:
    """The best program within each bound, by the bound: one of a narrower bound where nothing better was found."""
    seen = samples[: options.calibrate]
    budget = tamago.Budget(metric=_accuracy, drop=0.0) if options.accuracy else tamago.Budget(loss="cross-entropy")
    rises = sorted(float(r) for r in options.rises.split(","))
    front = tamago.frontier(
        options.model,
        seen[0][0],
        budget=budget,
        calibration=seen,
        rises=rises,
        workloads=[(_sized(samples, w), 1.0) for w in options.workload] or None,
        objective=options.objective,
        threads=options.threads,
        methods=methods,
    )
    found = {"exact": front[0]}
    bounds = {b.describe(): b for b in budget.bounds(rises)}
    by_bound = {c.report.approximation.budget: c for c in front[1:] if c.report.approximation is not None}
    for bound in bounds:
        found[bound] = by_bound.get(bound, list(found.values())[-1])
    return found


def _beside(bound: str, joint: Compiled, singles: dict[str, dict[str, Compiled]], *, size: bool) -> None:
    """The joint choice and the best method by itself within one bound."""
    costs = {name: _cost(front[bound], size=size) for name, front in singles.items()}
    best = min(costs, key=lambda name: costs[name])
    ours = _cost(joint, size=size)
    print(
        f"{bound:32} joint {ours:.3f}  best alone {costs[best]:.3f} ({best})  ratio {costs[best] / ours:.3f}",
        flush=True,
    )


def _cost(compiled: Compiled, *, size: bool) -> float:
    """Bytes, or time over the workloads, of what the original takes."""
    report, found = compiled.report, compiled.report.approximation
    if size:
        return report.after.bytes / max(report.before.bytes, 1)
    if found is None or "budget" not in report.verdict:
        kept = report.verdict in ("faster", "no slower")
        return 1 / report.timing.ratio if kept and report.timing is not None else 1.0
    return part_of_time(found.workloads, [w.result for w in found.workloads]) or 1.0


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


def _row(compiled: Compiled, rise: Evidence) -> str:
    report, found = compiled.report, compiled.report.approximation
    times = [] if found is None or compiled.report.verdict.find("budget") < 0 else found.workloads
    named = zip([] if found is None else found.workload_names(), times, strict=False)
    speed = "  ".join(f"{name} {w.ratio:.2f}x ({w.low:.2f}-{w.high:.2f})" for name, w in named)
    bound = "exact" if not times or found is None else found.budget
    size = f"{report.after.bytes / 1e6:.2f} of {report.before.bytes / 1e6:.2f} MB"
    return f"{bound:32} unseen {rise.value:+.4f} ± {rise.error:.4f}  {size}  {speed}"


if __name__ == "__main__":
    main()
