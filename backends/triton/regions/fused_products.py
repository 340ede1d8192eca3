"""Products become one kernel with the norm in front, the gate beside or the sum behind them.

What `alternatives` offers to the choice of exact rewrites, for programs that are no longer searched: products in few
bits, which approximation wrote, whatever their rows; and those of one row that it left as they were, with the bias that
a Gemm adds itself.

    Mul(Mul(a, σ(a)), b) → SwiGLU(x, w, v)    # a, b products of one x
    P(RMSNormalization(x, g), w) → NormP(x, g, w)
    P(x, w) + r → PAdd(x, w, r)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx_ir as ir

from ....compiler.fold import remove_unused
from ....compiler.ir import attribute_values, constant_tensor, dims, metadata, new_constant, unique_names
from ....compiler.operators import DOMAIN
from ....compiler.operators.operator import MICROSOFT
from ....compiler.optimise import Names
from ....compiler.replace import replace as put_in_place
from ..alternatives.operands import KERNEL_DTYPES
from ..lowering import is_packed_product

EPSILON = 1e-5  # ONNX's default


@dataclass(frozen=True)
class _Product:
    """What a node computes: a product, and what has been taken into it.

    Args:
        x: the rows.
        packed: weights in few bits.
        weights: one weight's operands (its rows; or codes, scales, zero points), or two weights' where it is gated.
        attributes: of a product in few bits.
        covered: the nodes it stands for.
        norm: the scale of a norm in front, and its epsilon.
        residual: what is added.
        transposed: whether the weight already lies row by row of the result.
    """

    x: ir.Value
    packed: bool
    weights: tuple[tuple[ir.Value | None, ...], ...]
    attributes: tuple[ir.Attr, ...]
    covered: tuple[ir.Node, ...]
    norm: tuple[ir.Value, float] | None = None
    residual: ir.Value | None = None
    transposed: bool = False

    @property
    def operator(self) -> str:
        """Its name in tamago's domain."""
        gated = len(self.weights) == 2
        name = f"{'Norm' if self.norm is not None else ''}{'SwiGLU' if gated else 'Linear'}"
        return f"{name}{'Add' if self.residual is not None else ''}{'NBits' if self.packed else ''}"

    @property
    def fused(self) -> bool:
        """Whether there is an operator for it that there was none for before."""
        return self.norm is not None or self.residual is not None or len(self.weights) == 2 or not self.packed


def fused_products(model: ir.Model) -> ir.Model | None:
    """The model with such products as one operator each; None where there are none."""
    result = model.clone()
    fresh = Names(unique_names(result.graph))
    products = {n.outputs[0]: p for n in result.graph for p in _products(n)}
    gated = {n.outputs[0]: p for n in result.graph for p in _gated(n, products)}
    inner = {v for p in gated.values() for n in p.covered for v in n.outputs}
    plain = {v: p for v, p in products.items() if v not in inner}
    found = {v: _normed(p) for v, p in {**plain, **gated}.items()}
    added = {n.outputs[0]: p for n in result.graph for p in _added(n, found)}
    inner = {p.covered[0].outputs[0] for p in added.values()}
    chosen = {v: p for v, p in {**found, **added}.items() if p.fused and v not in inner}
    if not chosen:
        return None
    for node in reversed(list(result.graph)):  # readers first: what they read is then put in place in them too
        if node.outputs[0] in chosen:
            _write(result.graph, node, chosen[node.outputs[0]], fresh)
    remove_unused(result.graph)
    return result


def _products(node: ir.Node) -> Iterator[_Product]:
    """A product by itself: in few bits, or of one row with a constant matrix."""
    x = node.inputs[0] if node.inputs else None
    if x is None or x.dtype not in KERNEL_DTYPES:
        return
    if node.domain == MICROSOFT and node.op_type == "MatMulNBits":
        operands = [*node.inputs[1:], *[None] * 5]
        if is_packed_product(node) and operands[4] is None:  # a bias is added by the product itself
            kept = tuple(a for name, a in node.attributes.items() if name != "accuracy_level")
            yield _Product(x, True, (tuple(operands[:3]),), kept, (node,))
    elif node.op_type == "MatMul" and not node.domain and _is_one_row(x):
        w = node.inputs[1]
        tensor = None if w is None else constant_tensor(w)
        if tensor is not None and len(tensor.shape) == 2:
            yield _Product(x, False, ((w,),), (), (node,))
    elif node.op_type == "Gemm" and not node.domain and _is_one_row(x):
        yield from _gemm(node, x)


def _gemm(node: ir.Node, x: ir.Value) -> Iterator[_Product]:
    """α·x·w + β·b of a constant matrix, where nothing is scaled and x is not turned."""
    given, w = attribute_values(node), node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    plain = given.get("alpha", 1.0) == 1 and given.get("beta", 1.0) == 1 and not given.get("transA")
    if not plain or w is None or constant_tensor(w) is None or (bias is not None and not _fits(bias, node.outputs[0])):
        return
    yield _Product(x, False, ((w,),), (), (node,), residual=bias, transposed=bool(given.get("transB")))


def _is_one_row(x: ir.Value) -> bool:
    shape = dims(x)
    return shape is not None and len(shape) > 0 and prod(d if isinstance(d, int) else 2 for d in shape[:-1]) == 1


def _gated(node: ir.Node, products: dict[ir.Value, _Product]) -> Iterator[_Product]:
    """Mul(Mul(a, σ(a)), b) of two products of the same rows, read by nothing else."""
    for swish, up in _factors(node):
        b, multiply = products.get(up), swish.producer()
        if b is None or multiply is None or len(swish.uses()) != 1 or len(up.uses()) != 1:
            continue
        for gate, weighed in _factors(multiply):
            a, sigmoid = products.get(gate), weighed.producer()
            if a is None or sigmoid is None or sigmoid.op_type != "Sigmoid" or sigmoid.inputs[0] is not gate:
                continue
            if len(gate.uses()) == 2 and len(weighed.uses()) == 1 and _match(a, b):
                covered = (node, multiply, sigmoid, *a.covered, *b.covered)
                yield replace(a, weights=(*a.weights, *b.weights), covered=covered)
                return


def _factors(node: ir.Node) -> Iterator[tuple[ir.Value, ir.Value]]:
    """The factors of a Mul, either one first."""
    if node.op_type == "Mul" and not node.domain and node.inputs[0] is not None and node.inputs[1] is not None:
        yield node.inputs[0], node.inputs[1]
        yield node.inputs[1], node.inputs[0]


def _match(a: _Product, b: _Product) -> bool:
    """Whether two products are of the same rows, with weights of one shape and form."""
    shapes = [[None if v is None else (v.dtype, dims(v)) for v in p.weights[0]] for p in (a, b)]
    forms = [{(i.name, str(i.value)) for i in p.attributes} for p in (a, b)]
    alike = a.x is b.x and a.packed is b.packed and a.transposed is b.transposed
    return alike and a.residual is None and b.residual is None and shapes[0] == shapes[1] and forms[0] == forms[1]


def _normed(product: _Product) -> _Product:
    """With the norm that makes its rows."""
    norm = product.x.producer()
    if norm is None or norm.op_type != "RMSNormalization" or norm.domain or product.residual is not None:
        return product
    x, scale, shape = norm.inputs[0], norm.inputs[1], dims(product.x)
    attributes = norm.attributes
    axis = attributes["axis"].as_int() if "axis" in attributes else -1
    if x is None or scale is None or shape is None or axis not in (-1, len(shape) - 1):
        return product
    if dims(scale) != shape[-1:] or ("stash_type" in attributes and attributes["stash_type"].as_int() != 1):
        return product
    epsilon = attributes["epsilon"].as_float() if "epsilon" in attributes else EPSILON
    return replace(product, x=x, norm=(scale, epsilon))


def _added(node: ir.Node, products: dict[ir.Value, _Product]) -> Iterator[_Product]:
    """A plain product and what is added to it, which makes it no larger."""
    if node.op_type != "Add" or node.domain:
        return
    for value, other in (tuple(node.inputs), tuple(node.inputs)[::-1]):
        product = None if value is None else products.get(value)
        if product is None or value is None or other is None or product.norm is not None or len(product.weights) == 2:
            continue
        if product.residual is not None:  # a bias, which is added already
            continue
        if len(value.uses()) == 1 and not value.is_graph_output() and _fits(other, value):
            yield replace(product, covered=(*product.covered, node), residual=other)
            return


def _fits(residual: ir.Value, y: ir.Value) -> bool:
    """Whether adding it changes neither shape nor type."""
    small, shape = dims(residual), dims(y)
    if small is None or shape is None or len(small) > len(shape) or residual.dtype != y.dtype:
        return False
    return all(d == 1 or d == e for d, e in zip(small, shape[len(shape) - len(small) :], strict=True))


def _write(graph: ir.Graph, node: ir.Node, product: _Product, fresh: Names) -> None:
    old = node.outputs[0]
    operands: list[ir.Value | None] = [product.x]
    attributes = list(product.attributes)
    if product.norm is not None:
        operands.append(product.norm[0])
        attributes.append(ir.AttrFloat32("epsilon", product.norm[1]))
    for weight in product.weights:
        rows = product.packed or product.transposed
        operands += weight if rows else [_rows(graph, weight[0], fresh)]
    if product.residual is not None:
        operands.append(product.residual)
    new = ir.Value(name=fresh("tamago/value"), type=old.type, shape=old.shape)
    sources = [n.name or n.op_type for n in product.covered]
    written = ir.Node(
        DOMAIN,
        product.operator,
        operands,
        attributes,
        outputs=[new],
        name=fresh("tamago/fused_products"),
        metadata_props=dict(metadata("fused_products", sources)),
    )
    graph.insert_before(node, written)
    put_in_place(old, new, fresh)


def _rows(graph: ir.Graph, w: ir.Value | None, fresh: Names) -> ir.Value:
    """A constant matrix, row by row of the result."""
    tensor = None if w is None else constant_tensor(w)
    assert tensor is not None
    rows = new_constant(fresh("tamago/rows"), np.ascontiguousarray(tensor.numpy().T))
    graph.register_initializer(rows)
    return rows
