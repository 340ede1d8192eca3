"""`tamago web model.onnx site/`: a folder with a page that runs the model on the visitor's GPU."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ...backends.webgpu.plan import Plan
from ..compiled import compile
from ..errors import TamagoError
from ..facts import Array
from ..files import read_model
from ..ir import dims
from ..progress import show_progress
from ..sizes import settle
from ..verify import LARGEST_MADE_UP, make_feeds
from .budget import add_budget_options, budget_options
from .shared import print_json
from .web_sizes import Ranges, every_size, read_shapes, read_sizes, set_shapes, shapes_at

if TYPE_CHECKING:
    from ...backends.webgpu.sizes import Plans

MOST_LABELS = 1 << 24
CANDIDATES = 4  # forms of a kernel that a page may tune among; one of them does without barriers


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("source", type=Path, help="an ONNX file")
    parser.add_argument("folder", type=Path, help="where to write; must not exist")
    parser.add_argument(
        "--shape", action="append", default=[], metavar="NAME=D,D,…", help="an input's shape, where the model leaves it"
    )
    parser.add_argument(
        "--sizes",
        action="append",
        default=[],
        metavar="NAME=N,N,…",
        help="what a dimension of that name may be: the folder holds the model at each size, its weights once",
    )
    parser.add_argument(
        "--value", action="append", default=[], metavar="NAME=N", help="an input that is always the same number"
    )
    parser.add_argument("--half", action="store_true", help="weights in float16, for GPUs that have it")
    add_budget_options(parser)
    parser.add_argument("--app", choices=["classifier", "completion"], help="an example page instead of the plain one")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="classes or, for completion, tokens: one a line, or a JSON list"
    )
    parser.add_argument("--mean", metavar="R,G,B", help="classifier: taken from pixels of 0 to 1 (default: 0)")
    parser.add_argument("--std", metavar="R,G,B", help="classifier: what pixels are divided by then (default: 1)")
    parser.add_argument("--name", help="the page's title (default: the file's name)")
    parser.add_argument("--force", action="store_true", help="replace the folder where this command wrote it")


def run(options: argparse.Namespace) -> int:
    """Optimise, exactly or to the fewest bytes within a budget; write the folder, say what is in it."""
    from ...backends.webgpu.bundle import check_destination, files_of, write_bundle
    from ...backends.webgpu.limits import EVERYWHERE
    from ...backends.webgpu.lowering import plan_of
    from ...backends.webgpu.sizes import together

    check_destination(options.folder, options.force)
    ranges = read_sizes(options.sizes)
    shapes, sizes = read_shapes(options.shape, ranges), every_size(ranges)
    settings, budget = _settings(options), budget_options(options)
    if options.app and len(sizes) > 1:
        raise TamagoError("W007", "--sizes does not belong here", why=f"the {options.app} page runs one size")
    if options.half and "budget" in budget:
        why = "the budget is proved without it, and its methods store in half precision where that pays"
        raise TamagoError("W007", "--half does not belong here", why=why)
    model = _with_values(read_model(options.source), options.value)
    set_shapes(model, shapes, ranges)
    places = [shapes_at(model.graph, shapes, size) for size in sizes]
    feeds = _largest_feeds(model, ranges) if len(sizes) > 1 else None
    with show_progress(sys.stderr):
        objective = "size" if "budget" in budget else "latency"
        fast = compile(model, feeds or (), target="web", objective=objective, **budget)
    half = options.half
    made = (plan_of(fast.graph, at, half=half, narrow_weights=half, candidates=CANDIDATES) for at in places)
    plan, weights = next(made) if len(sizes) == 1 else together(zip(sizes, made, strict=True))
    error = _half_error(fast.graph, feeds) if half else None
    name, app = options.name or options.source.stem, _app(settings, plan)
    write_bundle(options.folder, plan, weights, name=name, app=app, force=options.force)
    files, spent = files_of(options.folder), fast.report.approximation
    total, packed = sum(f.bytes for f in files), sum(f.gzip for f in files)
    if options.json:
        rows = [vars(f) for f in files]
        found = {"folder": str(options.folder), "files": rows, "bytes": total, "gzip": packed, **_counts(plan)}
        found |= {} if spent is None else {"approximation": spent.to_dict()}
        print_json(found | ({"half_error": error} if half else {}))
        return 0
    for line in () if spent is None else (*spent.lines(), *(f"note: {n}" for n in spent.notes)):
        print(line)
    for line in _plan_lines(plan):
        print(f"{options.folder}: {line}")
    if (largest := _counts(plan)["largest_buffer"]) > EVERYWHERE:
        print(f"note: it needs a GPU that binds {largest:,} bytes at once; every one binds {EVERYWHERE:,}")
    for file in files:
        print(f"  {file.bytes:12,}  {file.gzip:12,}  {file.name}")
    print(f"  {total:12,}  {packed:12,}  bytes in all, raw and as gzip sends them")
    if half:
        print(f"largest relative error of weights in float16: {'not known' if error is None else f'{error:.1e}'}")
    print(f"to see it: python3 -m http.server -d {options.folder}   then open http://localhost:8000")
    return 0


def _largest_feeds(model: ir.Model, ranges: Ranges) -> dict[str, Array] | None:
    """Made-up inputs of the largest size, which the search is for; None where none can be made."""
    largest = model.clone()
    settle(largest, {name: max(numbers) for name, numbers in ranges.items()})
    shapes = [dims(value) or () for value in largest.graph.inputs]
    elements = sum(prod(d for d in shape if isinstance(d, int)) for shape in shapes)
    return make_feeds(largest.graph, 0) if elements <= LARGEST_MADE_UP else None


def _half_error(model: ir.Model, feeds: dict[str, Array] | None) -> float | None:
    """What rounding the weights changes the outputs by, on made-up inputs; None where none could be made."""
    from ...backends.onnxruntime.run import Program
    from ...backends.webgpu.narrow import with_narrow_weights
    from ..verify import compare

    feeds = feeds or make_feeds(model.graph, 0, 1, 1)
    if feeds is None:
        return None
    exact, rounded = Program(model), Program(with_narrow_weights(model))
    return max((d.error for d in compare(exact.outputs, exact(feeds), rounded(feeds))), default=0.0)


def _counts(plan: Plan | Plans) -> dict[str, Any]:
    if isinstance(plan, Plan):
        return {"dispatches": len(plan.dispatches), "kernels": len(plan.kernels), "largest_buffer": max(plan.buffers)}
    sizes = [{"size": size, "dispatches": len(p.dispatches)} for size, p in zip(plan.sizes, plan.plans, strict=True)]
    largest = max(b for p in plan.plans for b in p.buffers)
    return {"sizes": sizes, "kernels": len(plan.plans[0].kernels), "largest_buffer": largest}


def _plan_lines(plan: Plan | Plans) -> list[str]:
    """What is run, for a person to read."""
    counts = _counts(plan)
    if isinstance(plan, Plan):
        return [f"{counts['dispatches']} dispatches of {counts['kernels']} kernels"]
    names = [", ".join(f"{name}={n}" for name, n in row["size"].items()) for row in counts["sizes"]]
    rows = [f"{name}: {row['dispatches']} dispatches" for name, row in zip(names, counts["sizes"], strict=True)]
    return [f"{len(rows)} sizes, {counts['kernels']} kernels", *rows]


def _with_values(model: ir.Model, words: list[str]) -> ir.Model:
    """Inputs from `name=16000` as constants: a sampling rate, a switch.

    Raises:
        TamagoError: W005 what is no number, W006 an input that is not there, W010 one that takes more than a number.
    """
    from ...backends.webgpu.decisions import decided

    inputs = {value.name: value for value in model.graph.inputs}
    found: dict[str, Array] = {}
    for word in words:
        name, _, text = word.rpartition("=")
        try:
            number = float(text)
        except ValueError:
            number = None
        if not name or number is None:
            raise TamagoError("W005", "a value cannot be read", where=word, todo="write it as --value NAME=16000")
        if name not in inputs:
            raise TamagoError("W006", f"the model has no input '{name}'", todo=f"it has {', '.join(map(str, inputs))}")
        shape = dims(inputs[name])
        if shape is None or any(d not in (1, None) and not isinstance(d, str) for d in shape):
            raise TamagoError("W010", f"input '{name}' takes more than a number", why=f"its shape is {shape}")
        found[name] = np.full([1] * len(shape), number)
    return decided(model, found) if found else model


def _settings(options: argparse.Namespace) -> dict[str, Any] | None:
    """What the options say of the example page; read before any work is done.

    Raises:
        TamagoError: W005 numbers, W009 labels that cannot be read, W007 an option that is for another page.
    """
    given = [o for o in ("labels", "mean", "std") if getattr(options, o) is not None]
    wrong = [o for o in given if options.app is None or (options.app == "completion" and o != "labels")]
    if wrong:
        why = "the plain page has no use for it" if options.app is None else "it is for --app classifier"
        raise TamagoError("W007", f"--{wrong[0]} does not belong here", why=why)
    if options.app is None:
        return None
    labels = None if options.labels is None else _read_labels(options.labels)
    if options.app == "completion":
        return {"kind": "completion", "vocabulary": labels}
    mean, std = _three("mean", options.mean, 0.0), _three("std", options.std, 1.0)
    return {"kind": "classifier", "labels": labels, "mean": mean, "std": std}


def _app(settings: dict[str, Any] | None, plan: Plan | Plans) -> dict[str, Any] | None:
    """The settings, and what the plan shows.

    Raises:
        TamagoError: W008 the model does not fit the page.
    """
    if settings is None or not isinstance(plan, Plan):
        return None
    return settings | (_classifier(plan, settings["labels"]) if settings["kind"] == "classifier" else _completion(plan))


def _read_labels(path: Path) -> list[str]:
    try:
        text = path.read_text("utf-8")
        found = (
            json.loads(text) if path.suffix == ".json" else text.removesuffix("\n").replace("\r\n", "\n").split("\n")
        )
    except (OSError, ValueError) as error:
        raise TamagoError("W009", "the labels cannot be read", where=str(path), why=str(error)) from error
    if isinstance(found, dict):  # tokens with their numbers
        found = _by_number(found)
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        todo = "write one label a line, a JSON list of strings, or a JSON object of numbers by string"
        raise TamagoError("W009", "the labels cannot be read", where=str(path), todo=todo)
    return found


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, list) and value else value


def _by_number(found: Mapping[str, Any]) -> list[str] | None:
    """A list from numbers by label, or from labels (or lists that end in one) by number; None from anything else."""
    if all(isinstance(number, int) for number in found.values()):
        by_number: dict[int, Any] = {number: label for label, number in found.items()}
    elif all(key.isdecimal() for key in found):
        by_number = {int(key): _last(value) for key, value in found.items()}
    else:
        return None
    most = max(by_number, default=-1)
    if min(by_number, default=0) < 0 or most >= MOST_LABELS or not all(isinstance(v, str) for v in by_number.values()):
        return None
    return [by_number.get(number, "") for number in range(most + 1)]


def _three(option: str, text: str | None, otherwise: float) -> list[float]:
    try:
        found = [otherwise] if text is None else [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if len(found) not in (1, 3) or (option == "std" and 0 in found) or not all(map(isfinite, found)):
        raise TamagoError("W005", f"--{option} takes one number or three", where=str(text))
    return found * (3 // len(found))


def _classifier(plan: Plan, labels: list[str] | None) -> dict[str, Any]:
    images = [i for i in plan.inputs if len(i.shape) == 4 and i.shape[0] == 1]
    if len(plan.inputs) != 1 or not images or not {1, 3} & {images[0].shape[1], images[0].shape[3]}:
        todo = "it takes a model with one input of [1, 3, H, W] or [1, H, W, 3] (or one channel)"
        raise TamagoError("W008", "this model is no image classifier", todo=todo)
    classes = plan.outputs[0].shape[-1] if plan.outputs[0].shape else 0
    if labels is not None and len(labels) != classes:
        raise TamagoError("W008", f"there are {len(labels)} labels for {classes} classes")
    return {"layout": "NCHW" if images[0].shape[1] in (1, 3) else "NHWC"}


def _completion(plan: Plan) -> dict[str, Any]:
    """Which inputs and outputs the page steps with; what else there is must be state."""
    kept = plan.state.values()
    free = [i for i in plan.inputs if i.name not in kept]
    tokens, positions = ([i.name for i in free if len(i.shape) == rank and "int" in i.dtype] for rank in (2, 1))
    outputs = [o for o in plan.outputs if o.name not in plan.state and "float" in o.dtype]
    if len(tokens) != 1 or len(positions) > 1 or len(free) != len(tokens) + len(positions) or not outputs:
        todo = "it takes a step: token [1, 1] and position [1] of int64, caches as state; logits come out"
        raise TamagoError("W008", "this model is no step of a language model", todo=todo)
    # Caches are (batch, heads, slots, size of a head): a text has no more tokens than they have slots.
    slots = [i.shape[-2] for i in plan.inputs if i.name in kept and len(i.shape) > 2]
    names = {"token": tokens[0], "position": next(iter(positions), None), "logits": outputs[0].name}
    return {"length": max(slots, default=None), **names}
