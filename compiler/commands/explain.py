"""`tamago explain in.onnx`: each rule applied, where and worth what; each refused, and why."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..compiled import compile
from ..files import read_model
from ..progress import show_progress
from .inputs import inputs_to_compile
from .shared import add_search_options, print_json, search_options


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("source", type=Path, help="an ONNX file")
    parser.add_argument("--rule", help="only this rule")
    add_search_options(parser)


def run(options: argparse.Namespace) -> int:
    """Optimise without writing, print the reasons."""
    model = read_model(options.source)
    inputs = inputs_to_compile(options.inputs, model.graph)
    with show_progress(sys.stderr):
        compiled = compile(model, inputs, **search_options(options))
    found = compiled.report.to_dict()
    if options.json:
        wanted = {"rules": found["rules"], "refused": found["refused"], "search": found.get("search", {})}
        print_json(wanted)
        return 0
    lines = compiled.explain().splitlines()
    if options.rule is not None:
        lines = [line for line in lines if not line.startswith("  ") or line.strip().startswith(options.rule)]
    print("\n".join(lines))
    return 0
