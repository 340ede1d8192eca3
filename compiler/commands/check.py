"""`tamago check a.onnx b.onnx`: do two files compute the same, on given or made-up inputs?"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import EXIT_FAILED_CHECK, TamagoError
from ..files import read_model
from ..options import Options
from ..pipeline import run_as_it_is
from ..verify import Difference, compare
from .inputs import fitting, inputs_for
from .shared import add_size_options, print_json, require_count


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("first", type=Path, help="the file that is right")
    parser.add_argument("second", type=Path, help="the file to check")
    parser.add_argument("--inputs", type=Path, metavar="FILE.npz", help="inputs by name (default: made up)")
    parser.add_argument("--samples", type=int, default=3, help="how many made-up inputs (default: 3)")
    add_size_options(parser)


def run(options: argparse.Namespace) -> int:
    """Compare, print the largest error of each output; exit code 1 when one is too large."""
    differences = _differences(options)
    passed = all(d.passed for d in differences)
    if options.json:
        outputs = {d.name: {"error": d.error, "allowed": d.allowed, "passed": d.passed} for d in differences}
        print_json({"passed": passed, "outputs": outputs})
    else:
        for d in differences:
            verdict = "ok" if d.passed else "DIFFERS"
            print(f"{verdict:8} {d.name}: relative error {d.error:.2e}, allowed {d.allowed:.0e}")
    return 0 if passed else EXIT_FAILED_CHECK


def _differences(options: argparse.Namespace) -> list[Difference]:
    require_count("samples", options.samples, 1)
    first, second = read_model(options.first), read_model(options.second)
    a, b = (run_as_it_is(m, Options(), held=False).program for m in (first, second))
    if sorted(a.outputs) != sorted(b.outputs):
        raise TamagoError(
            "V002",
            "the files have other outputs",
            why=f"{', '.join(a.outputs)} against {', '.join(b.outputs)}",
            exit_code=EXIT_FAILED_CHECK,
        )
    worst: dict[str, Difference] = {}
    for seed in range(1 if options.inputs else options.samples):
        feeds = inputs_for(options, first.graph, second.graph, seed=seed)
        wanted = a(fitting(first.graph, feeds))
        found = dict(zip(b.outputs, b(fitting(second.graph, feeds)), strict=True))
        for d in compare(a.outputs, wanted, [found[n] for n in a.outputs]):
            if d.name not in worst or d.error > worst[d.name].error:
                worst[d.name] = d
    return list(worst.values())
