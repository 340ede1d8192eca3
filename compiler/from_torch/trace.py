"""Torch sources of the tracer, from module to IR: export, translate, finish, and keep how the model is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .arguments import GraphInput
from .branches import limits_of
from .export import Captured, capture, check_program
from .finish import finish, output_names
from .shapes import dimension_names
from .signature import GraphOutput, signature_of
from .translate import translate

if TYPE_CHECKING:
    from ..trace import Traced


def trace_torch(
    source: Any, args: Sequence[Any], kwargs: Mapping[str, Any], dynamic_shapes: Any, opset: int
) -> Traced | None:
    """Trace a torch source; None if it is none."""
    import torch

    if isinstance(source, torch.export.ExportedProgram):
        check_program(source)
        return trace_captured(Captured(source), opset)
    if isinstance(source, torch.nn.Module):
        return trace_captured(capture(source, args, kwargs, dynamic_shapes), opset)
    return None


def trace_captured(captured: Captured, opset: int) -> Traced:
    """An exported program as IR, with its signature.

    Raises:
        TamagoError: T010, T011 from the translation; T021 a named dimension that it fixed; T022 no call is recorded.
    """
    from ..trace import Traced

    translation = translate(captured.program, opset)
    dims, notes = dimension_names(captured.program, translation.program, captured.shapes)
    limits = limits_of(captured.shapes.dimensions)
    signature = signature_of(captured.program, translation.outputs, dims, captured.parameters, limits)
    slots = [slot.index if isinstance(slot, GraphOutput) else None for slot in signature.outputs]
    inputs = [entry.name for entry in signature.inputs if isinstance(entry, GraphInput)]
    finish(translation.model, dims, inputs, output_names(signature.out_spec, slots))
    notes += [f"the program is for {branch}" for branch in signature.branches if branch not in limits]
    notes += [f"the model writes to its {name}; the compiled program does not" for name in translation.written]
    reached = translation.model.opset_imports[""]
    if reached != opset:
        notes.append(f"the model needs opset {reached}: it has operators that opset {opset} lacks")
    return Traced(translation.model, signature, notes)
