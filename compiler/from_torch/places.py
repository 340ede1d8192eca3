"""Where in the user's code something happened: a node of a traced graph, or an exception out of the tracer."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch.fx import Node

# Frames of these packages are machinery; a library of models (transformers, timm) counts as the user's code.
_MACHINERY = ("torch", "onnxscript", "onnx_ir", "sympy", "tamago")
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_ROOT = Path(__file__).parent.parent
_STACK_LINE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')


def place_of_node(node: Node) -> str:
    """`file:line in function` of the user's line that made the node, with the path of its module; "" when unknown."""
    frames = list(_STACK_LINE.finditer(node.meta.get("stack_trace") or ""))
    own = [frame for frame in frames if not is_machinery(frame["file"])] or frames
    line = f"{own[-1]['file']}:{own[-1]['line']} in {own[-1]['function']}" if own else ""
    return ", ".join(part for part in (line, module_of_node(node)) if part)


def module_of_node(node: Node) -> str:
    """`module layers.0.mlp (MLP)` for the innermost named module around the node; "" when it has none."""
    stack = [entry for entry in (node.meta.get("nn_module_stack") or {}).values() if entry[0]]
    if not stack:
        return ""
    path, kind = stack[-1]
    name = re.sub(r"^L\[.self.\]\.?|^self\.?", "", str(path))
    kind = str(kind if isinstance(kind, str) else getattr(kind, "__name__", kind)).rsplit(".", 1)[-1]
    return f"module {name} ({kind})" if name else ""


def place_of_error(error: BaseException, module: torch.nn.Module | None = None) -> str:
    """The innermost line of the user's code that an exception passed through, with the path of its module."""
    names = {id(child): name for name, child in module.named_modules()} if module is not None else {}
    place, path = "", ""
    for frame, line in _frames(error):
        owner = frame.f_locals.get("self")
        if names.get(id(owner)):
            path = f"module {names[id(owner)]} ({type(owner).__name__})"
        if not is_machinery(frame.f_code.co_filename):
            place = f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
    return ", ".join(part for part in (place, path) if part)


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """Frames from the outermost to the innermost; those of the first cause last, as it lies deepest."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        trace: TracebackType | None = current.__traceback__
        while trace is not None:
            yield trace.tb_frame, trace.tb_lineno
            trace = trace.tb_next
        current = current.__cause__ or current.__context__


def is_machinery(file: str) -> bool:
    """Whether a file belongs to torch, to Python or to the compiler, and not to the model."""
    parts = Path(file).parts
    if "site-packages" in parts:
        package = parts[len(parts) - parts[::-1].index("site-packages")]
        return package.removesuffix(".py") in _MACHINERY
    if file.startswith(("<", _STANDARD_LIBRARY)):
        return True
    return any(Path(file).is_relative_to(_ROOT / part) for part in ("compiler", "backends", "rewrites"))
