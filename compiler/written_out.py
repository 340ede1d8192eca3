"""tamago's own products as the standard operators that they mean."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from .fold import fold
from .inference import infer
from .ir import unique_names
from .operators import DOMAIN, OPERATORS, attach, detach
from .optimise import Names


def written_out(model: ir.Model) -> ir.Model:
    """A copy whose products are products of standard operators again, for those that look for weights in a program.

    Operators without weights stay, and a model without such products is given back as it is.
    """
    products = {n for n, o in OPERATORS.items() if o.weight is not None}
    if not any(n.domain == DOMAIN and n.op_type in products for n in model.graph.all_nodes()):
        return model
    result = model.clone()
    detach(result)
    for name in products:
        function = OPERATORS[name].function()
        result.functions[function.identifier()] = function
    common.InlinePass()(result)
    fold(result.graph, result.opset_imports.get("", 1), Names(unique_names(result.graph)))
    infer(result)
    attach(result)
    return result
