"""A model from wherever it comes -> the IR it is compiled from."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from .errors import TamagoError
from .garbage import model_set_aside

if TYPE_CHECKING:
    from .from_torch.signature import Signature


@dataclass
class Traced:
    """A model as ONNX.

    Attributes:
        model: the model; for torch sources at the opset asked for, with weights of its own.
        signature: how a torch model is called and what it returns; None for ONNX sources.
        notes: what the report should tell the user.
    """

    model: ir.Model
    signature: Signature | None = None
    notes: list[str] = field(default_factory=list[str])


def trace(
    source: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    opset: int = 18,
) -> Traced:
    """Bring a model over.

    Args:
        source: an `nn.Module` or FX `GraphModule` in evaluation mode, an `ExportedProgram`; or an ONNX model as path,
            bytes, `onnx.ModelProto` or `onnx_ir.Model` (taken as it is; the compiler works on a copy).
        args: example arguments by position, for modules.
        kwargs: example arguments by name, for modules.
        dynamic_shapes: which dimensions vary, as torch.export takes it; a plain string names a dimension.
        opset: the ONNX opset of what comes from torch; an ONNX source keeps its own.

    Raises:
        TamagoError: T for a torch model that cannot be traced, M for a file that cannot be read.
    """
    if isinstance(source, ir.Model):
        return Traced(source)
    if isinstance(source, (str, os.PathLike)):
        from .files import read_model

        return Traced(read_model(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        from .files import parse_model

        return Traced(parse_model(bytes(source)))
    # Only who holds an onnx or torch object has loaded that library: nobody else pays for its import.
    if "onnx" in sys.modules and isinstance(source, sys.modules["onnx"].ModelProto):
        from .files import from_proto

        return Traced(from_proto(source))
    if "torch" in sys.modules:
        from .from_torch.trace import trace_torch

        with model_set_aside():
            traced = trace_torch(source, args, kwargs or {}, dynamic_shapes, opset)
        if traced is not None:
            return traced
    raise TamagoError(
        "T002",
        f"a {type(source).__module__}.{type(source).__name__} is no model",
        todo="pass an nn.Module, ExportedProgram or GraphModule, or ONNX as path, bytes, ModelProto or onnx_ir.Model",
    )
