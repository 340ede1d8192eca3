"""`tamago inspect in.onnx`: inputs, outputs, operators, size, work; nothing is run or changed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ..files import read_model
from ..inference import infer
from ..ir import dims, text
from ..report import Figures
from .shared import print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("source", type=Path, nargs="+", help="ONNX files")
    parser.add_argument("--nodes", action="store_true", help="print every node with shapes")


def run(options: argparse.Namespace) -> int:
    """Print what is in each file."""
    found = [_describe(path, options.nodes) for path in options.source]
    if options.json:
        print_json(found if len(found) > 1 else found[0])
        return 0
    for one in found:
        print(_as_text(one))
    return 0


def _describe(path: Path, nodes: bool) -> dict[str, Any]:
    model = read_model(path)
    infer(model)
    figures = Figures.of(model)
    return {
        "file": str(path),
        "producer": f"{model.producer_name or '?'} {model.producer_version or ''}".strip(),
        "ir_version": model.ir_version,
        "opsets": dict(model.opset_imports),
        "inputs": [_value(v) for v in model.graph.inputs],
        "outputs": [_value(v) for v in model.graph.outputs],
        "nodes": figures.nodes,
        "operators": figures.operators,
        "parameters": figures.parameters,
        "bytes": figures.bytes,
        "flops": figures.flops,
        "text": text(model.graph) if nodes else None,
    }


def _value(value: ir.Value) -> str:
    shape = dims(value)
    sizes = "?" if shape is None else ", ".join("?" if d is None else str(d) for d in shape)
    return f"{value.name}: {value.type.dtype if isinstance(value.type, ir.TensorType) else value.type}[{sizes}]"


def _as_text(found: dict[str, Any]) -> str:
    opsets = ", ".join(f"{k or 'ai.onnx'} {v}" for k, v in found["opsets"].items())
    lines = [f"{found['file']}: {found['producer']}, opset {opsets}"]
    lines += [f"  in   {v}" for v in found["inputs"]]
    lines += [f"  out  {v}" for v in found["outputs"]]
    work = "?" if found["flops"] is None else f"{found['flops'] / 1e6:.2f} MFLOP"
    lines.append(f"  {found['nodes']} nodes, {found['parameters']:,} parameters, {found['bytes'] / 1e6:.2f} MB, {work}")
    ranked = sorted(found["operators"].items(), key=lambda item: (-item[1], item[0]))
    lines += [f"  {count:6}  {name}" for name, count in ranked]
    return "\n".join([*lines, found["text"]] if found["text"] else lines)
