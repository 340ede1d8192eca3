"""`tamago tune model.onnx --target webgpu|cuda`: measure forms of a model's kernels here, and keep the records."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import EXIT_UNSUPPORTED, TamagoError
from ..files import read_model
from .inputs import fitting, inputs_for
from .shared import add_size_options, print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("source", type=Path, help="an ONNX file, as it is to be run")
    parser.add_argument("--target", default="webgpu", help="webgpu (default) or cuda")
    parser.add_argument("--seconds", type=float, default=30.0, help="to measure for, at most (default: 30)")
    parser.add_argument("--inputs", type=Path, metavar="FILE.npz", help="inputs of the sizes that count, by input name")
    parser.add_argument("--store", type=Path, help="where the records are kept")
    add_size_options(parser)


def run(options: argparse.Namespace) -> int:
    """Tune, and say what changed; `tamago cache export` writes the records to a file."""
    from ..options import Options
    from ..pipeline import tune_as_it_is

    if options.target not in ("webgpu", "cuda"):
        raise TamagoError(
            "U024",
            f"target '{options.target}' has no kernels to tune",
            todo="use --target webgpu or cuda",
            exit_code=EXIT_UNSUPPORTED,
        )
    if not 0 < options.seconds < float("inf"):
        raise TamagoError("U005", f"seconds is {options.seconds}", todo="use a number of seconds above 0")
    model = read_model(options.source)
    feeds = fitting(model.graph, inputs_for(options, model.graph))
    environment, notes = tune_as_it_is(
        model, feeds, options.seconds, Options(target=options.target, store=options.store)
    )
    if options.json:
        print_json({"environment": environment, "notes": notes})
        return 0
    print("\n".join([environment, *notes]))
    return 0
