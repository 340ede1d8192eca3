"""`tamago frontier model.onnx folder/ --calibration data.npz`: what each bound on the error buys, from one search."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..atomic_write import reported
from ..compiled import RISES, CompiledModel, frontier
from ..errors import EXIT_INTERRUPTED, TamagoError
from ..files import read_model
from ..front import EXACT
from ..progress import show_progress
from .budget import add_loss_options, budget_options
from .inputs import inputs_to_compile
from .shared import add_search_options, print_json, require_folder, search_options


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("source", type=Path, help="an ONNX file")
    parser.add_argument("folder", type=Path, help="where to write the programs and report.html; new or empty")
    parser.add_argument(
        "--rises", default=",".join(f"{r:g}" for r in RISES), metavar="R,…", help="the bounds (default: %(default)s)"
    )
    parser.set_defaults(rise=RISES[0], absolute=None)
    add_search_options(parser)
    add_loss_options(parser, required=True)


def run(options: argparse.Namespace) -> int:
    """Search once, write a file for each bound that buys more than those before it, and the report."""
    rises = _rises(options.rises)
    budget = budget_options(options)
    model = read_model(options.source)
    inputs = inputs_to_compile(options.inputs, model.graph)
    _make(options.folder)
    with show_progress(sys.stderr):
        front = frontier(model, inputs, rises=rises, **search_options(options), **budget)
    names = [_name(number, compiled) for number, compiled in enumerate(front)]
    written = 0
    try:
        for name, compiled in zip(names, front, strict=True):
            compiled.report.command = options.command
            compiled.save(options.folder / name)
            written += 1
        front[-1].report.save(options.folder / "report.html")
    except KeyboardInterrupt:
        print(f"interrupted: {written} of {len(front)} programs were written, and no report", file=sys.stderr)
        return EXIT_INTERRUPTED
    points = front[-1].report.front
    if options.json:
        print_json([{"file": name, **vars(point)} for name, point in zip(names, points, strict=True)])
        return 0
    for name, point in zip(names, points, strict=True):
        print(f"{name:20} {point.line()}")
    print(f"drawn in {options.folder / 'report.html'}")
    return 0


def _name(number: int, compiled: CompiledModel) -> str:
    found = compiled.report.approximation
    return f"{EXACT}.onnx" if number == 0 or found is None else f"within-{found.allowed}.onnx"


def _rises(text: str) -> list[float]:
    try:
        found = sorted({float(word) for word in text.split(",")})
    except ValueError:
        found = []
    if not found or not all(0 <= rise < float("inf") for rise in found):
        raise TamagoError("U043", f"--rises is {text!r}", todo="write numbers from 0, as in 0.001,0.01")
    return found


def _make(folder: Path) -> None:
    require_folder(folder.absolute().parent)
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        what = "the folder is not empty" if folder.is_dir() else "something else than a folder is there"
        raise TamagoError("U053", what, where=str(folder), todo="name a folder that is new or empty")
    with reported(folder):
        folder.mkdir(exist_ok=True)
