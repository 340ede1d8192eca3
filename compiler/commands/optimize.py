"""`tamago optimize in.onnx out.onnx`: file to file, with the before/after table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..compiled import compile
from ..files import read_model
from ..progress import show_progress
from .budget import add_budget_options, budget_options
from .inputs import inputs_to_compile
from .shared import add_search_options, print_json, require_folder, search_options


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("source", type=Path, help="an ONNX file")
    parser.add_argument("destination", type=Path, help="where to write the result; may be the source")
    add_search_options(parser)
    add_budget_options(parser)
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report: .html or .json")


def run(options: argparse.Namespace) -> int:
    """Optimise, write, print the table."""
    require_folder(options.destination.absolute().parent)
    budget = budget_options(options)
    model = read_model(options.source)
    inputs = inputs_to_compile(options.inputs, model.graph)
    with show_progress(sys.stderr):
        compiled = compile(model, inputs, **search_options(options), **budget)
    compiled.report.command = options.command
    compiled.save(options.destination)
    if options.report is not None:
        compiled.report.save(options.report)
    if options.json:
        print_json(compiled.report.to_dict())
    else:
        print(compiled.report)
    return 0
