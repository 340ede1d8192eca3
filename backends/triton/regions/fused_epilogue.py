"""What a convolution or a product takes in: what is done to its result, and what weighs its input.

Each step looks at who reads the result so far; what has another reader is not taken in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import onnx_ir as ir

from ....compiler.facts import Array
from ....compiler.ir import constant_array, constant_tensor, dims, static_dims
from ....compiler.operators.epilogue import EPILOGUES, Epilogue
from ..row_norm import HALVES, epsilon_of, normalises_rows

SMALL = 1 << 16  # elements of constants that are looked into
PLAIN = Epilogue()


@dataclass(frozen=True)
class Fused:
    """A product or convolution with what it has taken in so far; `result` is what it computes."""

    kind: str  # "Conv" or "Affine"
    x: ir.Value
    w: ir.Value
    bias: ir.Value | Array | None
    attributes: tuple[ir.Attr, ...]
    result: ir.Value
    nodes: tuple[ir.Node, ...]
    scale: ir.Value | None = None
    residual: ir.Value | None = None
    view: ir.Node | None = None  # Transpose or Reshape ahead of the sum: the residual goes back, and the result forth
    norm: tuple[ir.Value, ...] = ()
    epilogue: Epilogue = PLAIN


def fused_at(node: ir.Node) -> Fused | None:
    """The product or convolution that a node computes, with all that it can take in; None for other nodes."""
    base = _base(node)
    return None if base is None else _grown(base)


def _base(node: ir.Node) -> Fused | None:
    """A convolution of pictures, or a product of many rows, whose weight is a constant."""
    if node.domain or node.op_type not in ("Conv", "MatMul", "Gemm") or len(node.inputs) < 2:
        return None
    x, w = node.inputs[0], node.inputs[1]
    if x is None or w is None or x.dtype not in HALVES or constant_tensor(w) is None or dims(x) is None:
        return None
    return _convolution(node, x, w) if node.op_type == "Conv" else _product(node, x, w)


def _convolution(node: ir.Node, x: ir.Value, w: ir.Value) -> Fused | None:
    shape, weight = dims(x), dims(w)
    if shape is None or weight is None or len(weight) != 4:
        return None
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    if group != 1 and (weight[0] != group or weight[1] != 1):
        return None
    given = {k: list(a.as_ints()) for k, a in node.attributes.items() if k in ("strides", "pads", "dilations")}
    auto = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
    if auto not in ("NOTSET", "VALID") or any(d != 1 for d in given.get("dilations", [])):
        return None
    attributes = (
        ir.AttrInt64s("strides", given.get("strides", [1, 1])),
        ir.AttrInt64s("pads", given.get("pads", [0, 0, 0, 0])),
        ir.AttrInt64("group", group),
    )
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    fused = Fused("Conv", x, w, bias, attributes, node.outputs[0], (node,))
    weighed = x.producer()
    plain = group == 1 and weight[2:] == (1, 1) and list(attributes[0].as_ints()) == [1, 1]
    if not plain or any(attributes[1].as_ints()) or weighed is None or len(x.uses()) != 1:
        return fused
    return _scaled(fused, weighed)


def _scaled(fused: Fused, node: ir.Node) -> Fused:
    """The convolution of x ⊙ s, where s is one number a channel of each picture."""
    if node.domain or node.op_type != "Mul" or node.outputs[0].is_graph_output():
        return fused
    for a, s in (node.inputs, node.inputs[::-1]):
        shape = None if a is None else dims(a)
        if a is None or s is None or shape is None or len(shape) != 4 or not _known_alike(a, fused.x):
            continue
        if dims(s) == (*shape[:2], 1, 1) and shape[2:] != (1, 1):
            return replace(fused, x=a, scale=s, attributes=(), nodes=(node, *fused.nodes))
    return fused


def _product(node: ir.Node, x: ir.Value, w: ir.Value) -> Fused | None:
    shape, weight = static_dims(x), dims(w)
    if shape is None or weight is None or len(weight) != 2:
        return None
    if prod(shape[:-1]) < 2:  # one row: other kernels
        return None
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    given = plain | {k: a.value for k, a in node.attributes.items() if k in plain}
    if given["transA"] or given["alpha"] != 1 or given["beta"] != 1:
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and dims(bias) != (weight[0 if given["transB"] else 1],):
        return None
    turned = ir.AttrInt64("transB", int(given["transB"]))
    return Fused("Affine", x, w, bias, (turned,), node.outputs[0], (node,))


def _grown(fused: Fused) -> Fused:
    """With all that follows and has no other reader."""
    while True:
        larger = next(_larger(fused), None)
        if larger is None:
            return fused
        fused = larger


def _larger(fused: Fused) -> Iterator[Fused]:
    """The ways to take in what reads the result next; nothing after a norm."""
    if fused.norm:
        return
    users = list(dict.fromkeys(node for node, _ in fused.result.uses()))
    if fused.result.is_graph_output() or any(u.domain or u.graph is not fused.nodes[-1].graph for u in users):
        return
    done = fused.epilogue
    untouched = not done.name
    if untouched and len(users) == 2:
        yield from _silu(fused, users)
    if len(users) != 1:
        return
    (user,) = users
    if untouched and fused.bias is None and user.op_type == "Add":
        yield from _biased(fused, user)
    if user.op_type == "Add":
        yield from _summed(fused, user)
    if user.op_type in ("Transpose", "Reshape") and fused.view is None:
        yield from _summed_through(fused, user)
    if untouched and user.op_type == "Transpose":
        yield from _normalised(fused, user)
    name = _activation(user)
    if name is not None:
        more = replace(done, after=name) if done.residual else replace(done, activation=name)
        if (untouched or (done.residual and not done.after)) and _exists(fused, more):
            yield replace(fused, epilogue=more, result=user.outputs[0], nodes=(*fused.nodes, user))


def _exists(fused: Fused, epilogue: Epilogue) -> bool:
    """Whether there is an operator for it."""
    if fused.scale is not None:
        return not epilogue.activation and not epilogue.after
    if _depthwise(fused) and epilogue.residual:
        return False
    return epilogue in EPILOGUES


def _depthwise(fused: Fused) -> bool:
    return any(a.name == "group" and a.as_int() != 1 for a in fused.attributes)


def _silu(fused: Fused, users: Sequence[ir.Node]) -> Iterator[Fused]:
    """The product p·Sigmoid(p)."""
    gate = next((u for u in users if u.op_type == "Sigmoid"), None)
    product = next((u for u in users if u.op_type == "Mul"), None)
    if gate is None or product is None or len(gate.outputs[0].uses()) != 1 or gate.outputs[0].is_graph_output():
        return
    if set(product.inputs) == {fused.result, gate.outputs[0]} and _exists(fused, Epilogue("Silu")):
        nodes = (*fused.nodes, gate, product)
        yield replace(fused, epilogue=Epilogue("Silu"), result=product.outputs[0], nodes=nodes)


def _biased(fused: Fused, add: ir.Node) -> Iterator[Fused]:
    """The sum p + b, one number a column (or a channel)."""
    other = _other(fused, add)
    array = None if other is None else constant_array(other, SMALL)
    shape = dims(fused.w)
    if other is None or array is None or shape is None:
        return
    wide = shape[1] if fused.kind == "Affine" and not fused.attributes[0].as_int() else shape[0]
    expected = (wide,) if fused.kind == "Affine" else (wide, 1, 1)
    if array.size == wide and array.shape[-len(expected) :] == expected and dims(add.outputs[0]) == dims(fused.result):
        yield replace(fused, bias=array.reshape(-1), result=add.outputs[0], nodes=(*fused.nodes, add))


def _summed(fused: Fused, add: ir.Node) -> Iterator[Fused]:
    """The sum p + r, of one size."""
    other = _other(fused, add)
    more = replace(fused.epilogue, residual=True)
    if other is None or fused.epilogue.residual or not _exists(fused, more):
        return
    if _known_alike(other, fused.result) and other.dtype == fused.result.dtype:
        yield replace(fused, epilogue=more, residual=other, result=add.outputs[0], nodes=(*fused.nodes, add))


def _known_alike(a: ir.Value, b: ir.Value) -> bool:
    """Whether two values are surely of one size."""
    shape = dims(a)
    return shape is not None and None not in shape and shape == dims(b)


def _summed_through(fused: Fused, view: ir.Node) -> Iterator[Fused]:
    """View(p) + r = View(p + View⁻¹(r)): where only axes change their names, all of it is one kernel."""
    viewed = view.outputs[0]
    if fused.kind != "Affine" or len(viewed.uses()) != 1 or viewed.is_graph_output() or static_dims(viewed) is None:
        return
    if view.op_type == "Transpose" and "perm" not in view.attributes:
        return
    add = next(iter(viewed.uses())).node
    if add.domain or add.op_type != "Add" or add.graph is not view.graph or static_dims(fused.result) is None:
        return
    yield from _summed(replace(fused, result=viewed, nodes=(*fused.nodes, view), view=view), add)


def _other(fused: Fused, add: ir.Node) -> ir.Value | None:
    """The operand of a sum that is not the result; None where both are."""
    others = [v for v in add.inputs if v is not fused.result]
    return others[0] if len(others) == 1 else None


def _normalised(fused: Fused, transpose: ir.Node) -> Iterator[Fused]:
    """LayerNormalization of a depthwise convolution's channels."""
    moved = transpose.outputs[0]
    perm = list(transpose.attributes["perm"].as_ints()) if "perm" in transpose.attributes else []
    if not _depthwise(fused) or perm != [0, 2, 3, 1] or len(moved.uses()) != 1 or moved.is_graph_output():
        return
    if list(fused.attributes[0].as_ints()) != [1, 1]:
        return
    norm = next(iter(moved.uses())).node
    if norm.graph is not transpose.graph or norm.op_type != "LayerNormalization" or norm.inputs[0] is not moved:
        return
    if not normalises_rows(norm):
        return
    factors = tuple(v for v in norm.inputs[1:] if v is not None)
    rest = (*fused.attributes[1:], ir.AttrFloat32("epsilon", epsilon_of(norm)))
    nodes = (*fused.nodes, transpose, norm)
    yield replace(fused, norm=factors, attributes=rest, result=norm.outputs[0], nodes=nodes)


def _activation(node: ir.Node) -> str | None:
    """The name of what a node does to each element; None where no kernel knows it."""
    if node.op_type in ("Relu", "Sigmoid", "HardSwish"):
        return node.op_type
    if node.op_type == "Gelu":
        approximate = node.attributes["approximate"].as_string() if "approximate" in node.attributes else "none"
        return "Gelu" if approximate == "none" else "GeluTanh"
    if node.op_type != "Clip" or len(node.inputs) != 3:
        return None
    bounds = [None if v is None else constant_array(v, 1) for v in node.inputs[1:]]
    return "Relu6" if [b is not None and float(b) for b in bounds] == [0.0, 6.0] else None
