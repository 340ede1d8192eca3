"""A model for one set of input shapes: sizes known, what follows from them computed, functions written out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir
from onnx_ir.passes import common

from ...compiler.errors import TamagoError
from ...compiler.fold import fold
from ...compiler.function_bodies import write_out
from ...compiler.inference import infer
from ...compiler.ir import unique_names
from ...compiler.opset import TARGET, to_target
from ...compiler.optimise import Names

ROUNDS = 6  # of computing what is known and writing out what is not


def specialised(model: ir.Model, shapes: Mapping[str, tuple[int, ...]], known: Callable[[ir.Node], bool]) -> ir.Model:
    """A copy whose inputs have these shapes.

    Args:
        model: any; it is not changed.
        shapes: of inputs by name; an input that is not named must have a shape of numbers.
        known: whether there is a kernel for a node.

    Raises:
        TamagoError: B032, an input's shape is not known; B033, a shape contradicts the model's.
    """
    model = model.clone()
    if model.functions:
        common.InlinePass()(model)
    to_target(model, TARGET)
    for value in model.graph.inputs:
        _set_shape(value, shapes.get(value.name or ""))
    names = Names(unique_names(model.graph))
    for _ in range(ROUNDS):
        infer(model)
        changed = fold(model.graph, model.opset_imports.get("", TARGET), names)
        if not changed and not write_out(model, lambda node: not known(node)):
            break
    infer(model)
    return model


def _set_shape(value: ir.Value, shape: tuple[int, ...] | None) -> None:
    declared = None if value.shape is None else list(value.shape)
    if shape is None:
        if declared is None or not all(isinstance(d, int) for d in declared):
            raise TamagoError(
                "B032",
                f"the shape of input '{value.name}' is not known",
                why=f"it is declared as {declared}",
                todo=f"say it: --shape {value.name}=…",
            )
        return
    if declared is not None and not _fits(declared, shape):
        why = f"it is declared as {declared}"
        raise TamagoError("B033", f"input '{value.name}' cannot have the shape {list(shape)}", why=why)
    value.shape = ir.Shape(shape)


def _fits(declared: Sequence[object], shape: tuple[int, ...]) -> bool:
    return len(declared) == len(shape) and all(
        not isinstance(d, int) or d == s for d, s in zip(declared, shape, strict=True)
    )
