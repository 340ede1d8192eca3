"""Products that were taken together with what surrounds them, as the standard operators that they mean."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from .fold import fold
from .inference import infer
from .ir import attribute_values, constant_tensor, unique_names
from .operators import DOMAIN, OPERATORS, attach, detach
from .optimise import Names


def written_out(model: ir.Model) -> ir.Model:
    """A copy whose products stand by themselves again, for those that look for weights in a program.

    tamago's own operators with a weight become standard ones, and a Gemm that adds something computed, as a residual
    stream is, a Gemm and a sum. Operators without weights stay, and a model without such products is given back as it
    is.
    """
    products = {n for n, o in OPERATORS.items() if o.weight is not None}
    own = any(n.domain == DOMAIN and n.op_type in products for n in model.graph.all_nodes())
    if not own and not any(map(_adds_what_is_computed, model.graph.all_nodes())):
        return model
    result = model.clone()
    fresh = Names(unique_names(result.graph))
    for node in [n for n in result.graph.all_nodes() if _adds_what_is_computed(n)]:
        _take_apart(node, fresh)
    if not own:
        infer(result)
        return result
    detach(result)
    for name in products:
        function = OPERATORS[name].function()
        result.functions[function.identifier()] = function
    common.InlinePass()(result)
    fold(result.graph, result.opset_imports.get("", 1), Names(unique_names(result.graph)))
    infer(result)
    attach(result)
    return result


def _adds_what_is_computed(node: ir.Node) -> bool:
    """Whether it is x·w + c for a constant w and a c that is none."""
    if node.domain != "" or node.op_type != "Gemm" or len(node.inputs) < 3:
        return False
    weight, added = node.inputs[1:]
    if weight is None or added is None or attribute_values(node).get("beta", 1.0) != 1.0:
        return False
    return constant_tensor(weight) is not None and constant_tensor(added) is None


def _take_apart(node: ir.Node, fresh: Names) -> None:
    """Gemm(x, w, c) = Gemm(x, w) + c."""
    (whole,) = node.outputs
    product = ir.Value(name=fresh(f"{whole.name}/product"), type=whole.type, shape=whole.shape)
    rest = {name: attribute for name, attribute in node.attributes.items() if name != "beta"}
    gemm = ir.Node("", "Gemm", node.inputs[:2], rest.values(), outputs=[product], name=node.name)
    total = ir.Node("", "Add", [product, node.inputs[2]], name=f"{node.name or whole.name}/sum", num_outputs=1)
    assert node.graph is not None
    node.graph.insert_before(node, [gemm, total])
    ir.convenience.replace_all_uses_with(whole, total.outputs[0], replace_graph_outputs=True)
    total.outputs[0].type, total.outputs[0].shape = whole.type, whole.shape
    name = whole.name
    node.graph.remove(node, safe=True)
    total.outputs[0].name = name
