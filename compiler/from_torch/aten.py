"""A functional graph of aten operators, as torch.compile hands it to a backend, -> IR.

Inputs that are weights become initializers, so that the optimiser knows their values; sizes that vary stay symbols.
"""

# What torch.export keeps private (pyproject.toml bounds torch's version) is how it keeps composite operators whole.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    from ..trace import Traced


def trace_aten(graph: torch.fx.GraphModule, weights: Mapping[str, torch.Tensor], opset: int) -> Traced:
    """Trace a graph without mutation, whose nodes carry their fake values.

    Args:
        graph: the graph; its result is a flat sequence.
        weights: the inputs, by the name of their node, that are constants, with their values.
        opset: the ONNX opset of the result.

    Raises:
        TamagoError: T010, T011.
    """
    from torch.export.passes import move_to_device_pass

    from .export import Captured
    from .trace import trace_captured

    # Weights are given where they are read, the graph's own values lie where torch runs them: decomposing wants one.
    return trace_captured(Captured(move_to_device_pass(_program(graph, weights), "cpu")), opset)


@contextmanager
def whole_operators() -> Generator[None]:
    """While this lasts, torch's functionalisation keeps composite operators (linear, attention, norms) whole.

    ONNX has counterparts for them, which are hard to find again in the pieces. It is what torch.export does.
    """
    from torch.export import exported_program as ep

    kept = dict.fromkeys(ep._collect_all_valid_cia_ops(), ep._special_op_to_preserve_cia)
    with ep._override_composite_implicit_decomp(kept):
        yield


def _program(module: torch.fx.GraphModule, weights: Mapping[str, torch.Tensor]) -> ExportedProgram:
    """The graph as an exported program that takes its other inputs by position."""
    import torch
    from torch.export import ExportedProgram, ModuleCallEntry, ModuleCallSignature
    from torch.export import graph_signature as gs
    from torch.utils import _pytree as pytree

    module = torch.fx.GraphModule(module, _copy(module.graph))
    inputs: list[gs.InputSpec] = []
    for node in module.graph.find_nodes(op="placeholder"):
        if node.name in weights:
            kind, target = gs.InputKind.BUFFER, node.name
            inputs.append(gs.InputSpec(kind, gs.TensorArgument(node.name), target, persistent=True))
        else:
            inputs.append(gs.InputSpec(gs.InputKind.USER_INPUT, _argument(node), None))
    results: Any = module.graph.output_node().args[0]
    results: Any = module.graph.output_node().args[0]
    outputs = [gs.OutputSpec(gs.OutputKind.USER_OUTPUT, _argument(result), None) for result in results]
    free = sum(spec.kind == gs.InputKind.USER_INPUT for spec in inputs)
    in_spec = pytree.tree_structure(((0,) * free, {}))
    out_spec = pytree.tree_structure((0,) * len(outputs))
    call = ModuleCallSignature(inputs=[], outputs=[], in_spec=in_spec, out_spec=out_spec)
    return ExportedProgram(
        root=module,
        graph=module.graph,
        graph_signature=gs.ExportGraphSignature(inputs, outputs),
        state_dict=dict(weights),
        range_constraints={},
        module_call_graph=[ModuleCallEntry(fqn="", signature=call)],
    )


def _copy(graph: torch.fx.Graph) -> torch.fx.Graph:
    import torch

    copy = torch.fx.Graph()
    results: Any = copy.graph_copy(graph, {})
    copy.output(tuple(results))
    for old, new in zip(graph.nodes, copy.nodes, strict=True):
        new.meta.update(old.meta)
    return copy


def _argument(value: Any) -> Any:
    """What stands for a node (by the kind of its value) or a constant in a program's signature."""
    import torch
    from torch.export import graph_signature as gs

    if not isinstance(value, torch.fx.Node):
        return gs.ConstantArgument(name="", value=value)
    kinds = (
        (torch.SymInt, gs.SymIntArgument),
        (torch.SymBool, gs.SymBoolArgument),
        (torch.SymFloat, gs.SymFloatArgument),
    )
    for kind, argument in kinds:
        if isinstance(value.meta.get("val"), kind):
            return argument(name=value.name)
    return gs.TensorArgument(name=value.name)
