"""IR → differentiable FX `GraphModule`: the reference run, the base of gradients and of the Triton target."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes import common

from .errors import TamagoError
from .inline import inline
from .torch_operators.builder import GraphBuilder, Settings

if TYPE_CHECKING:
    from torch import fx


def torch_program(model: ir.Model, *, trainable: bool = False) -> fx.GraphModule:
    """The model as a torch module.

    Ordinary operators are plain torch calls (`torch.matmul`, `torch.nn.functional.conv2d`); what torch has no single
    call for is a call of a function of `torch_operators`. Floating-point operators are differentiable. Shapes are
    read when the program runs, so dynamic dimensions work, and travel as Python integers, on no device.

    Constants are on the device of the module's buffers: `.to(device)` moves the program, and its inputs must be on
    the same device. `If`, `Loop` and `Scan` are calls of sub-modules under Python's own control flow, decided when
    the program runs. Functions of the model are inlined. The model itself is not changed.

    Args:
        model: any standard operators, and those that ONNX Runtime's optimiser makes on the CPU.
        trainable: initializers of floating point become parameters instead of buffers (running statistics of batch
            normalization stay buffers).

    Returns:
        A module that takes the graph's inputs in order (without those that have an initializer) and returns a tuple
        of its outputs. `meta` holds `inputs` and `outputs` (ONNX names) and `initializers` (ONNX name → buffer). The
        FX nodes are named after ONNX values, and their `meta["onnx"]` is (domain, operator, node name).

    Raises:
        TamagoError: B010, a node that cannot be expressed; B011, a malformed model.
    """
    return _build(model, Settings(dict(model.opset_imports), trainable))


def unsupported(model: ir.Model) -> list[str]:
    """Every node of the model that `torch_program` cannot express, with the reason."""
    problems: list[str] = []
    _build(model, Settings(dict(model.opset_imports), problems=problems))
    return problems


def _build(model: ir.Model, settings: Settings) -> fx.GraphModule:
    prepared = _prepared(model)
    settings.opsets = {("" if domain == "ai.onnx" else domain): v for domain, v in prepared.opset_imports.items()}
    module = GraphBuilder(settings).build(prepared.graph)
    frozen = set(prepared.graph.initializers.values())
    module.meta["inputs"] = [value.name for value in prepared.graph.inputs if value not in frozen]
    module.meta["outputs"] = [value.name for value in prepared.graph.outputs]
    module.meta["initializers"] = dict(settings.initializers)
    return module


def _prepared(model: ir.Model) -> ir.Model:
    """A copy with functions inlined, and types and ranks inferred where they can be."""
    try:
        model = model.clone()
        inline(model)
    except (RuntimeError, ValueError) as error:  # nodes out of order, functions that call themselves
        raise TamagoError(
            "B011", "the model is not well formed", where=model.graph.name or "", why=str(error)
        ) from error
    logger = logging.getLogger("onnx_ir.passes.common.shape_inference")
    level = logger.level
    logger.setLevel(logging.ERROR)  # rules do without what cannot be inferred
    try:
        common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    finally:
        logger.setLevel(level)
    return model
