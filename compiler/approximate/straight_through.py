"""Rounding as it is, and gradients as if it were not there: the straight-through estimate.

Bengio et al., Estimating or Propagating Gradients Through Stochastic Neurons, 2013, arXiv:1308.3432. A program computes
what it computed; backwards round(x) counts as x, and codes as the numbers that they are. What saturates passes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..torch_operators.contrib_quantization import float_product
from ..torch_operators.quantization import centred, dynamically_quantized

if TYPE_CHECKING:
    import torch
    from torch import fx


def straight_through(program: fx.GraphModule) -> fx.GraphModule:
    """A program from `torch_program`, changed in place: its activations' codes stay floats, which have gradients.

    What weights alone decide is computed once.
    """
    import torch

    twins: dict[Any, Any] = {torch.round: rounded, dynamically_quantized: dynamically_rounded}
    for node in list(program.graph.nodes):
        if node.target is float_product:
            _in_single_precision(program.graph, node)
        elif node.op == "call_function" and node.target in twins:
            node.target = twins[node.target]
        elif node.op == "call_method" and node.target == "to" and set(node.args[1:]) & {torch.uint8, torch.int8}:
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
    _fold_constants(program)
    program.recompile()
    return program


def rounded(x: torch.Tensor) -> torch.Tensor:
    """round(x), whose derivative is taken for 1."""
    import torch

    return x + (torch.round(x) - x).detach()


def dynamically_rounded(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The codes, scale and zero point of `dynamically_quantized`, the codes as floats."""
    codes, scale, zero = (part.detach() for part in dynamically_quantized(x))
    plain = x / scale.clamp(min=1e-30) + zero
    return plain + (codes - plain).detach(), scale, zero


def decoded_weight(weight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None) -> torch.Tensor:
    """A matrix of codes with a scale for each column, in numbers."""
    import torch

    return centred(weight, zero, torch.float32) * scale


def product_of_codes(
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    zero: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """`float_product` with the weight in numbers."""
    import torch

    result = torch.matmul(centred(x, zero, torch.float32) * scale, weight)
    return result if bias is None else result + bias


def _in_single_precision(graph: fx.Graph, node: fx.Node) -> None:
    """The product's integers need not be exact: the weight, decoded once, is a constant then."""
    a, b, a_scale, b_scale, a_zero, b_zero, bias = node.args
    with graph.inserting_before(node):
        weight = graph.call_function(decoded_weight, (b, b_scale, b_zero))
    node.target, node.args = product_of_codes, (a, weight, a_scale, a_zero, bias)


def _fold_constants(program: fx.GraphModule) -> None:
    """Calls of nothing but buffers become buffers; parameters are none."""
    import torch
    from torch.fx.node import map_arg

    known: dict[fx.Node, torch.Tensor] = {}
    for node in list(program.graph.nodes):
        if node.op == "get_attr":
            found = getattr(program, str(node.target), None)
            if isinstance(found, torch.Tensor) and not isinstance(found, torch.nn.Parameter):
                known[node] = found
        if node.op != "call_function" or not node.all_input_nodes or not known.keys() >= set(node.all_input_nodes):
            continue
        with torch.no_grad():
            found = node.target(*map_arg(node.args, known.__getitem__), **map_arg(node.kwargs, known.__getitem__))
        if not isinstance(found, torch.Tensor):
            continue
        name = f"folded_{len(known)}"
        program.register_buffer(name, found)
        with program.graph.inserting_before(node):
            constant = program.graph.get_attr(name)
        node.replace_all_uses_with(constant)
        program.graph.erase_node(node)
        known[constant] = found
