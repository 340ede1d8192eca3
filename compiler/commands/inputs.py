"""Inputs of a command: arrays from an .npz file, or made up."""

from __future__ import annotations

import argparse
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..compiled import bind_inputs, require_fit
from ..errors import TamagoError
from ..facts import Array
from ..verify import make_feeds
from .shared import require_count

UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def read_inputs(path: Path) -> dict[str, Array]:
    """Arrays by name from an .npz file.

    Raises:
        TamagoError: M040, the file is no readable .npz archive of plain arrays.
    """
    try:
        if not zipfile.is_zipfile(path):
            path.open("rb").close()  # there, and no folder
            raise ValueError("it is no .npz archive")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        others = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
        if others:
            raise ValueError(f"not all of its members are arrays: {', '.join(others)}")
        return arrays
    except UNREADABLE as error:
        raise TamagoError(
            "M040",
            "the inputs cannot be read",
            where=str(path),
            why=error.strerror or str(error) if isinstance(error, OSError) else str(error),
            todo="check the path"
            if isinstance(error, OSError)
            else "write them with numpy.savez: arrays by input name, strings as array.astype(str)",
        ) from error


def _given(path: Path, *graphs: ir.Graph) -> dict[str, Array]:
    """Arrays that one of the models takes; the others are named, for a file of calibration has labels too.

    Raises:
        TamagoError: M040, the file is no readable .npz archive of plain arrays.
    """
    arrays = read_inputs(path)
    known = {value.name for graph in graphs for value in graph.inputs}
    others = [name for name in arrays if name not in known]
    if others:
        print(f"note: no input is called {', '.join(others)}: not used of {path}", file=sys.stderr)
    return {name: array for name, array in arrays.items() if name in known}


def inputs_to_compile(path: Path | None, graph: ir.Graph) -> dict[str, Array]:
    """Those that the owner gave in a file, none where none is named.

    Raises:
        TamagoError: M040, U011, U012, what is given is not the model's.
    """
    return {} if path is None else fitting(graph, _given(path, graph))


def inputs_for(options: argparse.Namespace, *graphs: ir.Graph, seed: int = 0) -> dict[str, Array]:
    """Those that the owner gave in a file for these models, or some made up for the first, of the sizes asked for.

    Raises:
        TamagoError: M040, U006, what is given makes no sense; V003, none can be made up.
    """
    if options.inputs is not None:
        return _given(options.inputs, *graphs)
    for name in ("batch", "length"):
        require_count(name, getattr(options, name), 0)
    made = make_feeds(graphs[0], seed, options.batch, options.length)
    if made is None:
        raise TamagoError("V003", "inputs of these types cannot be made up", todo="give them with --inputs FILE.npz")
    return made


def fitting(graph: ir.Graph, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Those of the arrays that a model takes.

    Raises:
        TamagoError: U011, one is missing; U012, one is of another type or shape.
    """
    names = {value.name for value in graph.inputs}
    feeds = bind_inputs(graph, (), {name: array for name, array in arrays.items() if name in names})
    require_fit(graph, feeds)
    return feeds
