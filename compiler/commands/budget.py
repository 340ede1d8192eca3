"""An error budget from the command line: `--rise 0.01 --calibration data.npz --loss cross-entropy:labels`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..approximate.budget import NAMES, Budget
from ..errors import TamagoError
from ..facts import Array
from ..files import read_model
from ..ir import dims
from .inputs import read_inputs


def add_budget_options(parser: argparse.ArgumentParser) -> None:
    """Options of commands that may approximate."""
    parser.add_argument("--rise", type=float, help="allowed relative rise of the loss, such as 0.01")
    parser.add_argument("--absolute", type=float, help="allowed absolute rise of the loss instead")
    add_loss_options(parser)


def add_loss_options(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """What a budget is judged by, and what may be used within it."""
    parser.add_argument(
        "--calibration",
        type=Path,
        required=required,
        metavar="FILE.npz|DIR",
        help="inputs by name, samples along the first axis, as many at a time as the model's own batch if that is "
        "fixed; or a folder of .npz files, a sample each",
    )
    parser.add_argument(
        "--loss",
        metavar="NAME",
        help="mse or kl (against the original's outputs), cross-entropy:LABELS (an array of the calibration); "
        "default: the relative error of the outputs",
    )
    parser.add_argument(
        "--methods",
        metavar="NAME,…",
        help="approximate methods that may be used (default: all but retraining, which perp asks for)",
    )


def budget_options(options: argparse.Namespace) -> dict[str, Any]:
    """`budget`, `calibration` and `methods` for `tamago.compile`, as far as they are asked for.

    Raises:
        TamagoError: U049, a budget without calibration or the other way round; M040, an unreadable file.
    """
    asked = options.rise is not None or options.absolute is not None
    if asked != (options.calibration is not None):
        raise TamagoError("U049", "--rise (or --absolute) and --calibration belong together", todo="give both")
    if options.rise is not None and options.absolute is not None:
        raise TamagoError("U049", "--rise and --absolute bound the same thing", todo="give one of them")
    alone = [name for name in ("loss", "methods") if not asked and getattr(options, name) is not None]
    if alone:
        raise TamagoError("U049", f"--{alone[0]} needs --rise (or --absolute) and --calibration", todo="give them too")
    if not asked:
        return {}
    methods = {} if options.methods is None else {"methods": options.methods.split(",")}
    name, _, labels = (options.loss or "").partition(":")
    if name and name not in NAMES:
        raise TamagoError("U042", f"loss {name!r} is unknown", todo=f"one of {', '.join(NAMES)}")
    if (name == "cross-entropy") != bool(labels):
        raise TamagoError("U042", "cross-entropy needs labels, and only it does", todo="--loss cross-entropy:LABELS")
    bound: dict[str, Any] = {"rise": options.rise, "absolute": options.absolute}
    budget = Budget(loss=name or None, **{n: value for n, value in bound.items() if value is not None})
    return {"budget": budget, "calibration": list(_samples(options.calibration, labels, options.source)), **methods}


def _samples(path: Path, labels: str, model: Path) -> Iterator[tuple[dict[str, Array], Array | None]]:
    if path.is_dir():
        for file in sorted(path.glob("*.npz")):
            yield _pair(read_inputs(file), labels, file)
        return
    arrays = read_inputs(path)
    inputs, target = _pair(arrays, labels, path)
    stacked = [*inputs.values(), *([] if target is None else [target])]
    counts = {len(a) if a.ndim else 0 for a in stacked}
    if len(counts) != 1 or 0 in counts:
        none = 0 in counts or not counts
        raise TamagoError(
            "U049",
            f"the calibration arrays have {'no samples' if none else 'different numbers of samples'}",
            where=str(path),
            why=", ".join(f"{name} {a.shape}" for name, a in arrays.items()) or "there is no array",
            todo="write arrays by input name, samples along the first axis, as many in each",
        )
    size = _examples(model, inputs)
    rows = max(size, 1)
    for i in range(0, counts.pop() // rows * rows, rows):
        feeds = {n: a[i : i + rows] if size else a[i] for n, a in inputs.items()}
        yield feeds, None if target is None else target[i : i + rows]


def _examples(model: Path, inputs: Mapping[str, Array]) -> int:
    """How many examples the model takes at once where that is fixed, 0 where it takes one without an axis, else 1."""
    found: set[int] = set()
    for value in read_model(model).graph.inputs:
        array, shape = inputs.get(value.name or ""), dims(value)
        if array is None or shape is None:
            continue
        first = shape[0] if len(shape) == array.ndim else 1
        found.add(0 if len(shape) == array.ndim - 1 else first if isinstance(first, int) else 1)
    return found.pop() if len(found) == 1 else 1


def _pair(arrays: dict[str, Array], labels: str, path: Path) -> tuple[dict[str, Array], Array | None]:
    if labels and labels not in arrays:
        raise TamagoError(
            "U049", f"the calibration has no array {labels!r}", where=str(path), why=f"it has {', '.join(arrays)}"
        )
    return {n: a for n, a in arrays.items() if n != labels}, arrays.get(labels) if labels else None
