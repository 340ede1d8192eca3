"""A model for one set of input shapes: sizes known, what follows from them computed, functions written out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from ...compiler.errors import EXIT_UNSUPPORTED, TamagoError
from ...compiler.fold import fold
from ...compiler.function_bodies import write_out
from ...compiler.inference import infer
from ...compiler.inline import inline
from ...compiler.ir import bodies, dims, unique_names
from ...compiler.opset import TARGET, to_target
from ...compiler.optimise import Names
from ...compiler.sizes import settle
from . import fourier as fourier  # registers definitions
from . import recurrent as recurrent
from .definitions import defined
from .loops import unroll
from .split import split
from .types import PACKED, computed

ROUNDS = 12  # of computing what is known and writing out what is not
MANY = 1 << 18  # elements of a weight that is worth keeping once
FEWEST = 1024  # elements of a weight that stays in few bits: what is smaller costs nothing


def specialised(
    model: ir.Model,
    shapes: Mapping[str, tuple[int, ...]],
    known: Callable[[ir.Node], bool],
    *,
    few_copies: bool = True,
    most: int | None = None,
    half: bool = False,
) -> ir.Model:
    """A copy whose inputs have these shapes.

    Args:
        model: any; it is not changed.
        shapes: of inputs by name; an input that is not named must have a shape of numbers.
        known: whether there is a kernel for a node.
        few_copies: whether weights of few bits stay so, for the device to make them wide, and a weight that is read as
            it is and turned is kept once.
        most: bytes that weights are split to; None: they stay whole.
        half: whether numbers of half precision lie as such.

    Raises:
        TamagoError: B031, an input is no tensor; B032, an input's shape is not known; B033, a shape contradicts the
            model's.
    """
    model = model.clone()
    inline(model)
    to_target(model, TARGET)
    sizes: dict[str, int] = {}
    for value in model.graph.inputs:
        sizes |= _set_shape(value, shapes.get(value.name or ""))
    settle(model, sizes)
    _forget_names(model.graph.outputs)
    names = Names(unique_names(model.graph))
    for _ in range(ROUNDS):
        infer(model)
        changed = 0 if most is None else split(model.graph, most, names, half=half)
        if changed:
            continue
        stays = _stays if few_copies else lambda node: False
        changed = fold(model.graph, model.opset_imports.get("", TARGET), names, stays)
        if changed or defined(model.graph, _is_typed, lambda node: not known(node), names):
            continue
        if unroll(model.graph, model.opset_imports.get("", TARGET), names):
            continue
        written = write_out(model, lambda node: _is_typed(node) and not known(node))
        if not written and not _known_outputs_apart(model.graph, names):
            break
    infer(model)
    return model


def _stays(node: ir.Node) -> bool:
    """Whether a node of weights would make more bytes of them than there are."""
    return _widens(node) or _turns_what_is_shared(node)


def _turns_what_is_shared(node: ir.Node) -> bool:
    """Whether a weight is turned that something else reads as it is: products read it the other way round."""
    value = node.inputs[0] if node.op_type == "Transpose" else None
    if value is None or value.const_value is None or value.const_value.size < MANY:
        return False
    return any(use.node is not node for use in value.uses())


def _widens(node: ir.Node) -> bool:
    """Whether a weight of few bits would become one of many: it is sent as it is, and the device makes more of it."""
    value = node.inputs[0] if node.op_type in ("Cast", "DequantizeLinear") and node.inputs else None
    if value is None or value.const_value is None or value.const_value.size < FEWEST:
        return False
    return node.outputs[0].dtype == ir.DataType.FLOAT and (value.dtype in PACKED or value.dtype == ir.DataType.FLOAT16)


def _is_typed(node: ir.Node) -> bool:
    """Whether shaders have the types of all its operands and results: else other operators are no help."""
    return all(computed(v.dtype) is not None for v in (*node.inputs, *node.outputs) if v is not None and v.dtype)


def _known_outputs_apart(graph: ir.Graph, names: Names) -> bool:
    """An Identity behind each output of the model that is known ahead, so that folding makes a constant of it."""
    found = False
    for node in list(graph):
        inputs = [v for v in node.inputs if v is not None]
        known = node.op_type in ("Shape", "Size", "Constant") or (
            bool(inputs) and all(v.is_initializer() and not v.is_graph_input() for v in inputs)
        )
        if not known or node.op_type == "Identity" or bodies(node):
            continue
        for old in node.outputs:
            if not old.is_graph_output():
                continue
            name = old.name
            old.name = names(f"{name}/known")
            identity = ir.node("Identity", [old])
            identity.name, new = names("Identity"), identity.outputs[0]
            new.name, new.type, new.shape = name, old.type, old.shape
            graph.insert_after(node, identity)
            for position, output in enumerate(graph.outputs):
                if output is old:
                    graph.outputs[position] = new
            found = True
    return found


def _forget_names(outputs: Sequence[ir.Value]) -> None:
    """Sizes that a file calls by names that no input has are for inference to find."""
    for value in outputs:
        declared = dims(value)
        if declared is not None:
            value.shape = ir.Shape([d if isinstance(d, int) else None for d in declared])


def _set_shape(value: ir.Value, shape: tuple[int, ...] | None) -> dict[str, int]:
    """Give an input its shape; what that says of named dimensions."""
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        raise TamagoError(
            "B031",
            f"input '{value.name}' is no tensor",
            why=str(value.type),
            todo="give the model the tensors in it, an input each",
            exit_code=EXIT_UNSUPPORTED,
        )
    declared = dims(value)
    if shape is None:
        if declared is None or not all(isinstance(d, int) for d in declared):
            raise TamagoError(
                "B032",
                f"the shape of input '{value.name}' is not known",
                why=f"it is declared as {declared}",
                todo=f"say it: --shape {value.name}=…",
            )
        return {}
    if declared is not None and not _fits(declared, shape):
        why = f"it is declared as {list(declared)}"
        raise TamagoError("B033", f"input '{value.name}' cannot have the shape {list(shape)}", why=why)
    value.shape = ir.Shape(shape)
    return {d: s for d, s in zip(declared or (), shape, strict=False) if isinstance(d, str)}


def _fits(declared: Sequence[object], shape: tuple[int, ...]) -> bool:
    return len(declared) == len(shape) and all(
        not isinstance(d, int) or d == s for d, s in zip(declared, shape, strict=True)
    )
