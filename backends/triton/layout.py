"""Half-precision convolutions read channels last: tensor cores multiply whole vectors of channels.

The axes keep ONNX's names and order; only where elements lie in memory changes. Weights are laid out once, when a
program is made; activations follow, since torch's operators keep the order that they find.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from .library.convolution import HALVES, LIBRARY, outputs_last
from .lowering import CONVOLUTION, DEPTHWISE, DEPTHWISE_SQUEEZE, SEPARABLE, SQUEEZE_EXCITE

# Which operands the kernels read outputs last.
OUTPUTS_LAST = {DEPTHWISE: (1,), SEPARABLE: (1,), SQUEEZE_EXCITE: (3,), DEPTHWISE_SQUEEZE: (1, 5)}
CONVOLUTIONS = (functional.conv2d, CONVOLUTION, *OUTPUTS_LAST)


def lay_out_weights(module: fx.GraphModule) -> bool:
    """Put the constants that convolutions read into the order in which they are read; whether there are any."""
    laid: dict[str, bool] = {}  # whether by tap
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target not in CONVOLUTIONS:
            continue
        for index in OUTPUTS_LAST.get(node.target, (1,)):
            _lay_out(module, node, index, laid)
    module.recompile()
    return bool(laid)


def _lay_out(module: fx.GraphModule, node: fx.Node, index: int, laid: dict[str, bool]) -> None:
    """Put one operand of a call in order, where it is a constant."""
    source = node.args[index]
    if not isinstance(source, fx.Node) or source.op != "get_attr":
        return
    place = str(source.target)
    path, _, name = place.rpartition(".")
    owner: torch.nn.Module = module.get_submodule(path)
    weight = getattr(owner, name)
    if not isinstance(weight, Tensor) or weight.dim() != 4 or weight.dtype not in HALVES:
        return
    settings: Any = node.args[-1]
    own = node.target in OUTPUTS_LAST and settings is not None and settings[0] != LIBRARY
    if laid.get(place, own) != own:  # calls that share a weight read it in two orders
        owner, name, place = module, f"{name}_of_{node.name}", f"{name}_of_{node.name}"
        module.register_buffer(name, weight)
        with module.graph.inserting_before(node):
            node.update_arg(index, module.graph.get_attr(name))
    # An attribute that is set keeps its place among the buffers.
    setattr(owner, name, outputs_last(weight) if own else weight.contiguous(memory_format=torch.channels_last))
    laid[place] = own


def channels_last(tensor: Tensor) -> Tensor:
    """A copy that lies channels last, where it is a picture in half precision; in the order of its axes else."""
    last = tensor.dim() == 4 and tensor.dtype in HALVES
    return tensor.clone(memory_format=torch.channels_last if last else torch.contiguous_format)
