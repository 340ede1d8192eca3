"""`tamago bench a.onnx b.onnx`: time files side by side, taking turns in one process."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from ..files import read_model
from ..options import Options
from ..pipeline import run_as_it_is
from .inputs import fitting, inputs_for
from .shared import add_size_options, print_json, require_count


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "models", type=Path, nargs="+", help="ONNX files with the same inputs; the first is the baseline"
    )
    parser.add_argument("--target", default="cpu", help="cpu, cuda or webgpu; copies to and fro count")
    parser.add_argument("--threads", type=int, help="threads of one operator")
    parser.add_argument("--rounds", type=int, default=30, help="samples of each (default: 30)")
    parser.add_argument("--inputs", type=Path, metavar="FILE.npz", help="inputs by name (default: made up)")
    add_size_options(parser)


def run(options: argparse.Namespace) -> int:
    """Time and print medians, spread and ratios to the first file."""
    from ..timing import interleave, paired_ratio

    require_count("rounds", options.rounds, 1)
    models = [read_model(path) for path in options.models]
    given = inputs_for(options, *(model.graph for model in models))
    feeds = [fitting(model.graph, given) for model in models]
    programs = [run_as_it_is(m, Options(target=options.target, threads=options.threads)).program for m in models]
    runs = [partial(program, own) for program, own in zip(programs, feeds, strict=True)]
    timings = interleave(runs, rounds=options.rounds, seconds=60.0)
    rows = [
        {
            "file": str(path),
            "median_ms": t.median,
            "best_ms": t.best,
            "spread_ms": t.spread,
            "ratio": paired_ratio(timings[0], t),
        }
        for path, t in zip(options.models, timings, strict=True)
    ]
    if options.json:
        print_json({"rounds": len(timings[0].samples), "rows": rows})
        return 0
    for row, t in zip(rows, timings, strict=True):
        ratio, low, high = paired_ratio(timings[0], t)
        print(f"{t.median:9.3f} ± {t.spread:.3f} ms  {ratio:5.2f}x ({low:.2f}-{high:.2f})  {row['file']}")
    if timings[0].spread > 0.025 * timings[0].median:
        print(
            "the baseline's spread is above 2.5 %: the machine is busy or its clock moves; run again when it is quiet"
        )
    return 0
